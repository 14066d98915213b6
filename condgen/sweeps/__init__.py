"""Sweeps: many runs of one command. Hydra makes the runs; here is how the next one is chosen and what is made of them."""
