"""Hydra takes launchers from packages called ``hydra_plugins`` only: this is condgen's, by the name that conf/ uses."""

from condgen.sweeps import slurm_launcher


class SlurmLauncher(slurm_launcher.SlurmLauncher):
    """See `condgen.sweeps.slurm_launcher.SlurmLauncher`."""
