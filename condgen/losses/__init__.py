"""Losses: plain callables that know nothing of networks or data."""
