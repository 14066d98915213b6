"""What an extractor says of a set of images: the only thing that metrics look at."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images, row by row.

    Attributes:
        features: float32 (N, D), what the extractor's last linear layer sees.
        logits: float32 (N, L), what the extractor's classifier says, over its own L classes.
        labels: int64 (N,), the class 0..K-1 of the data set that an image is of (real) or was asked for (generated); None
            where nothing was asked for.
        recognized: int64 (N,), the class 0..K-1 of the data set that the extractor sees, -1 for a class that the data do not
            have; None where the extractor's classes are not those of the data.
        requested: float32 (N, A), values of attributes that an image has (real) or was asked for (generated); None where there
            are none.
        read: float32 (N, A), the values that the extractor sees; None where it reads none.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor | None = None
    recognized: Tensor | None = None
    requested: Tensor | None = None
    read: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor) -> "Features":
        """Return some rows, given by index or mask (N,)."""
        columns = (self.features, self.logits, self.labels, self.recognized, self.requested, self.read)
        return Features(*(None if column is None else column[rows] for column in columns))  # type: ignore[arg-type]
