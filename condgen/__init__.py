"""condgen: a PyTorch Lightning + Hydra laboratory for conditional generation.

What a script or a notebook needs::

    import condgen

    run = condgen.train("mnist_quick", "trainer.max_epochs=1")  # as condgen train on the command line
    run.model.show("0-9", count=8)
    samples = run.model.sample("3", count=8)  # (8, 1, 28, 28) in [-1, 1]
    record = condgen.evaluate(run, "suite=[fid,label_accuracy]")
    model = condgen.load(run.directory)  # later, without data and training
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condgen.api import Run, evaluate, resume, train
    from condgen.errors import CondgenError
    from condgen.run.checkpoint import load

__all__ = ["CondgenError", "Run", "evaluate", "load", "resume", "train"]

PLACES = {"CondgenError": "condgen.errors", "load": "condgen.run.checkpoint"}
"""Where the names of this package are defined, if not in `condgen.api`."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: ``condgen --help`` need not wait for torch, nor `load` for Lightning."""
    if name in __all__:
        return getattr(import_module(PLACES.get(name, "condgen.api")), name)
    raise AttributeError(f"module 'condgen' has no attribute {name!r}")


class _Package(ModuleType):
    """This package, whose ``train`` is the function also after the module ``condgen.train`` was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, as the import of a submodule does."""
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
