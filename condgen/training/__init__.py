"""The training of each family around its generator: LightningModules with what only learning needs."""
