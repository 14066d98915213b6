"""The folder of a sweep: one for all of its runs, whatever they choose."""

import copy

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write


def fix(config: DictConfig) -> None:
    """Resolve ``hydra.sweep.dir`` of a sweep's configuration, also for its runs, whose names would else decide it anew."""
    HydraConfig.instance().set_config(copy.deepcopy(config))  # of which the names of runs are made
    folder = str(config.hydra.sweep.dir)
    quoted = folder.replace("\\", "\\\\").replace("'", "\\'")
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = folder
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
