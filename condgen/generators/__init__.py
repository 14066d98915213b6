"""What a run leaves behind: plain modules that sample. They import neither Lightning nor metrics, data or training."""
