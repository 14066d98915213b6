"""Callbacks: what happens around the training steps. They know the sampling contract and no family."""
