"""Model families, one a file: the formula, the training step, the sampler."""
