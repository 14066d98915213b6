"""One run's life: directory, status, checkpoints, loggers, processes, plan. Knows the contracts of generators and training."""
