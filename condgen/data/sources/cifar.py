"""CIFAR-10 and CIFAR-100, 50,000 + 10,000 images (3, 32, 32) (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path
from typing import Any

import torch

from condgen.data import cache
from condgen.data.about import About
from condgen.data.sources.archive import ImageArchive
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError

FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest
fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit
raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
worm
"""
TERMS = "By Alex Krizhevsky, Vinod Nair and Geoffrey Hinton, who state no licence and ask to be cited (Krizhevsky 2009)."


class CIFAR10:
    """CIFAR-10 from a zip, or from torchvision's download.

    Args:
        archive: ``train.zip`` in the layout of EDM's dataset tool; ``test.zip`` is taken from beside it, if it is there.
        root: without an archive, the folder that holds torchvision's download, or into which it goes; None: the cache folder.
    """

    title = "CIFAR-10"
    about = About("CIFAR-10", "https://www.cs.toronto.edu/~kriz/cifar.html", "unknown", TERMS, "uoft-cs/cifar10")
    classes: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, archive: str | Path | None = None, root: str | Path | None = None):
        self.archive = Path(archive) if archive else None
        self.root = Path(root) if root else None

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load both parts; raises CondgenError when the set is neither there nor to be had."""
        if self.archive:
            test = self.archive.with_name("test.zip")
            own = test.is_file() and self.archive.name != test.name  # who trains on test.zip has no test part
            return ImageArchive(self.archive, test if own else None, self.classes).load(decoding)
        root = self.root or cache.folder()
        try:
            with cache.locked(cache.folder() / self.title):
                train, test_set = (self._published(root, train=part) for part in (True, False))
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise CondgenError(
                f"{self.title} is not in {root} and its download failed ({reason}): get it as a zip in the layout of EDM's "
                "dataset tool and name it with data.source.archive=FOLDER/train.zip, or name the folder of torchvision's "
                "download with data.source.root=FOLDER."
            ) from None
        return Tables(_table(train), _table(test_set), list(self.classes))

    def _published(self, root: Path, train: bool) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10(root, train=train, download=True)


class CIFAR100(CIFAR10):
    """CIFAR-100 with its 100 fine classes; arguments as in `CIFAR10`."""

    title = "CIFAR-100"
    about = About("CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar.html", "unknown", TERMS, "uoft-cs/cifar100")
    classes = tuple(FINE.split())

    def _published(self, root: Path, train: bool) -> Any:
        from torchvision import datasets

        return datasets.CIFAR100(root, train=train, download=True)


def _table(published: Any) -> Table:
    """Take torchvision's whole array (N, H, W, C) instead of asking for one sample at a time."""
    return Table(torch.from_numpy(published.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(published.targets))
