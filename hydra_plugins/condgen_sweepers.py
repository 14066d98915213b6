"""Hydra takes sweepers from packages called ``hydra_plugins`` only: these are condgen's, by the names that conf/ uses."""

from condgen.sweeps import grid, search


class GridSweeper(grid.GridSweeper):
    """See `condgen.sweeps.grid.GridSweeper`."""


class OptunaSweeper(search.OptunaSweeper):
    """See `condgen.sweeps.search.OptunaSweeper`."""
