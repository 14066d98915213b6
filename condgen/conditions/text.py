"""How conditions are written: names that hold a separator stand in double quotes, ``"cat, black"``, a quote in them twice."""

from condgen.errors import CondgenError

SEPARATORS = "=,|"
"""What separates names and values."""


def pieces(text: str, separator: str) -> list[str]:
    """Split ``text`` at each ``separator`` outside quotes, which stay; raises CondgenError where a quote is not closed."""
    found, quoted = [""], False
    for letter in text:
        quoted ^= letter == '"'
        if letter == separator and not quoted:
            found.append("")
        else:
            found[-1] += letter
    if quoted:
        raise CondgenError(f"{text} has a quote that is not closed: write two for one that belongs to a name.")
    return found


def unquoted(text: str) -> str:
    """Return a name without the spaces and the quotes around it."""
    text = text.strip()
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def quoted(name: str, reserved: str) -> str:
    """Write a name so that `unquoted` finds it whole: in quotes where it holds one of the ``reserved`` letters."""
    return '"' + name.replace('"', '""') + '"' if set(name) & {*reserved, '"'} else name


def numbers(text: str) -> list[int]:
    """Read ``"3"`` or ``"0-9"``: the number, or the first and the last; nothing where the text is neither."""
    ends = [end.strip() for end in text.split("-")]
    whole = 1 <= len(ends) <= 2 and all(end.isdecimal() and len(end) < 10 for end in ends)
    return [int(ends[0]), int(ends[-1])] if whole else []
