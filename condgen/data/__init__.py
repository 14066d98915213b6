"""Data: sources of uint8 tensors, one LightningDataModule over them, batches gathered whole."""

from condgen.data.loader import BatchLoader
from condgen.data.module import DataModule

__all__ = ["BatchLoader", "DataModule"]
