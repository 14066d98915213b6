"""What a sample is conditioned on: how it is drawn, said on a command line, checked and embedded for a network."""

from condgen.conditions.attributes import Attributes, Codes, Styles
from condgen.conditions.base import Condition, Embedding, LearnedEmbedding, NoCondition, OneHot, Unconditioned
from condgen.conditions.captions import Captions
from condgen.conditions.fields import Category, Field, Number
from condgen.conditions.images import Colorize, Edges, ImageCondition, Inpaint, Photo
from condgen.conditions.keywords import Keywords
from condgen.conditions.labels import ClassLabel
from condgen.conditions.sounds import MelImage
from condgen.conditions.tags import Tags
from condgen.conditions.tasks import Tasks
from condgen.conditions.together import Together
from condgen.conditions.vectors import Vectors

__all__ = [
    "Attributes",
    "Captions",
    "Category",
    "ClassLabel",
    "Codes",
    "Colorize",
    "Condition",
    "Edges",
    "Embedding",
    "Field",
    "ImageCondition",
    "Inpaint",
    "Keywords",
    "LearnedEmbedding",
    "MelImage",
    "NoCondition",
    "Number",
    "OneHot",
    "Photo",
    "Styles",
    "Tags",
    "Tasks",
    "Together",
    "Unconditioned",
    "Vectors",
]
