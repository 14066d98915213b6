"""condgen: a PyTorch Lightning + Hydra laboratory for conditional generation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condgen.run.checkpoint import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: ``condgen --help`` need not wait for torch."""
    if name == "load":
        from condgen.run.checkpoint import load

        return load
    raise AttributeError(f"module 'condgen' has no attribute {name!r}")
