"""Where data comes from: one small class a kind of file, constructed by Hydra, with ``load() -> Tables``."""

from condgen.data.sources.archive import ImageArchive
from condgen.data.sources.audio import Audio, AudioFolder, AudioTable
from condgen.data.sources.cifar import CIFAR10, CIFAR100
from condgen.data.sources.folder import ImageFolder
from condgen.data.sources.idx import IDX, MNIST, FashionMNIST
from condgen.data.sources.mnist_attributes import MNISTAttributes
from condgen.data.sources.ring import Ring
from condgen.data.sources.shards import Shards
from condgen.data.sources.spoken_digits import SpokenDigits
from condgen.data.sources.table import ImageTable
from condgen.data.sources.tagged import TaggedFeatures
from condgen.data.sources.text import SongCi, TextTable

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "IDX",
    "MNIST",
    "Audio",
    "AudioFolder",
    "AudioTable",
    "FashionMNIST",
    "ImageArchive",
    "ImageFolder",
    "ImageTable",
    "MNISTAttributes",
    "Ring",
    "Shards",
    "SongCi",
    "SpokenDigits",
    "TaggedFeatures",
    "TextTable",
]
