"""Hydra takes launchers from packages called ``hydra_plugins`` only: this is condgen's, by the name that conf/ uses."""

from condgen.sweeps import slurm


class SlurmLauncher(slurm.SlurmLauncher):
    """See `condgen.sweeps.slurm_launcher.SlurmLauncher`."""
