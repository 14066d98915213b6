"""Reads the README and the pages of docs/: which blocks of code they have, and which commands stand in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[ \t]*(?:title=\"([^\"]+)\")?[ \t]*$")
ROOTS = ("model", "data", "trainer", "run", "callbacks", "condition", "extractor", "loss", "hydra", "sampling")
"""Where keys begin."""
SHELL_WORDS = ("pip ", "uv ", "condgen ", "python ")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: bash, python, yaml, ...; text is not executed.
        title: name of the file that it is; empty where it is none.
        code: its lines.
        line: where it begins in its page.
    """

    language: str
    title: str
    code: str
    line: int


def name(page: Path) -> str:
    """Return how a test is called that follows ``page``."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order: fenced ones, and indented ones that are shell commands."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    i = 0
    while i < len(lines):
        if match := FENCE.match(lines[i]):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].strip() == "```")
            found.append(Block(match[1], match[2] or "", "\n".join(lines[i + 1 : end]) + "\n", i + 1))
            i = end
        elif lines[i].startswith("    ") and lines[i].strip().startswith(SHELL_WORDS):
            found.append(Block("bash", "", lines[i].strip() + "\n", i + 1))
        i += 1
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block: lines put together, comments and ``uv run`` taken away."""
    text = re.sub(r"\\\n\s*", " ", block.code)
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
    parts = [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]
    return [re.sub(r"^uv run (--(extra|group) \w+ )*", "", part) for part in parts]


def inline(page: Path) -> list[str]:
    """Return what stands within a line as code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def inline_commands(page: Path) -> list[str]:
    """Return what stands within a line as `` `condgen train ...` ``, or as `` `train ...` `` in the table of recipes."""
    return [span.removeprefix("condgen ") for span in inline(page) if re.match(r"(condgen )?train [a-z]", span)]


def inline_keys(page: Path) -> list[str]:
    """Return the keys of the configuration that stand within a line, `` `model.options.ema` `` or `` `run.threads=1` ``."""
    words = [word for span in inline(page) for word in span.split()]
    keys = [re.match(rf"((?:{'|'.join(ROOTS)})(?:\.\w+)+)(?:=|$)", word) for word in words]
    return [match[1] for match in keys if match]
