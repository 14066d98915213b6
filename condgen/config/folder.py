"""Where conf/ lies, and what can be chosen in it: with the standard library alone, so that completion answers at once."""

from functools import cache
from pathlib import Path


@cache
def conf_dir() -> Path:
    """Return Hydra's configuration tree: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@cache
def groups() -> tuple[str, ...]:
    """Return the names of the configuration groups."""
    return tuple(sorted(str(path.relative_to(conf_dir())) for path in conf_dir().rglob("*") if path.is_dir()))


def choices(group: str) -> list[str]:
    """Return what can be chosen in a group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.name.startswith("_"))
