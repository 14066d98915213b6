"""Extractors: frozen classifiers whose features and logits stand for images when sets of images are compared.

The features of an image are what the classifier's last linear layer sees. The classifiers that ship with condgen lie in
``weights/`` with a card each, written by ``scripts/train_extractor.py``.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from condgen.conditions import Attributes
from condgen.config.build import build, sentence
from condgen.errors import CondgenError
from condgen.images import recolour
from condgen.metrics.attributes import class_columns
from condgen.metrics.spatial import has_spatial, spatial_features
from condgen.spaces import to_float, to_uint8

SHIPPED = Path(__file__).parent / "weights"
BLOCK = 100
"""Images that go through the network at a time; with more, activations no longer stay in a CPU's cache."""
Mode = Literal["bilinear", "bicubic"]


class Extractor(nn.Module):
    """A frozen classifier that turns images into features and logits. Its subclasses say where the classifier comes from.

    Args:
        name: the short name that metric names carry.
        network: takes float images (B, C, H, W) in [-1, 1] and returns logits (B, L), or features and logits.
        sha256: of its weights, in hexadecimal.
        shape: (C, H, W) of the images it takes; (C,) for any size.
        classes: names of its classes, in the order of its logits; None: those of the data, in their order; empty: its classes
            mean nothing to the data.
        resize: "bilinear" or "bicubic" to take images of other sizes; None refuses them.
        antialias: resize with antialiasing.
        fields: attributes that it reads (see `condgen.conditions.fields.fields_from`). Its logits are then laid out as
            `condgen.conditions.Attributes` lays out vectors: scores of a category's values, a number mapped from its range
            to [-1, 1]; and ``classes`` are the values of one of the categories. None: it tells classes apart.
    """

    own_resize = "none"
    """What a network that takes any size does to its images."""
    learned: Mapping[str, Any] | None = None
    """The data that it learned from, ``source``, ``split`` and ``split_seed``, whose validation part it has not seen."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        sha256: str,
        shape: Sequence[int],
        classes: Sequence[str] | None,
        resize: Mode | None = None,
        antialias: bool = True,
        fields: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.name, self.sha256, self.shape = name, sha256, tuple(shape)
        self.attributes = Attributes(fields) if fields else None
        self.classes = None if classes is None and not fields else [str(c) for c in classes or ()]
        self.resize, self.antialias = resize, antialias
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._seen: Tensor | None = None
        heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not heads:
            raise CondgenError(
                f"The extractor {type(network).__name__} has no torch.nn.Linear, before which features could be taken."
            )
        heads[-1].register_forward_pre_hook(self._see)

    def _see(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0].flatten(1)

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in eval mode, whatever the training asks for."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and logits (N, L), float32 on the CPU, of uint8 images (N, C, H, W)."""
        device = next(self.network.parameters()).device
        blocks = [self.block(some.to(device)) for some in torch.split(images, BLOCK)]
        features, logits = (torch.cat(column).cpu() for column in zip(*blocks, strict=True))
        return features, logits

    def block(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits of a few images, on their device."""
        x = self.fitting(images)
        with torch.autocast(x.device.type, enabled=False):  # features in bfloat16 are off by 1.5 %
            said = self.network(x)
        features, logits = said if isinstance(said, tuple) else (self._seen, said)
        if not (isinstance(logits, Tensor) and logits.dim() == 2 and isinstance(features, Tensor) and len(features) == len(x)):
            raise CondgenError(
                f"The network of the extractor {self.name} must return logits (B, classes), or features and logits."
            )
        return features.float(), logits.float()

    def fitting(self, images: Tensor) -> Tensor:
        """Return uint8 ``images`` (B, C, H, W) as the network takes them: its colours and its size, in [-1, 1]."""
        x = to_float(recolour(images, self.shape[0]))
        if len(self.shape) == 3 and tuple(x.shape[1:]) != self.shape:
            x = F.interpolate(x, self.shape[1:], mode=self.resize or "bilinear", antialias=self.antialias)
        return x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def spatial(self, images: Tensor) -> Tensor | None:
        """Return spatial features (N, S), float32 on the CPU, of uint8 images (N, C, H, W); None where it has no such layer."""
        if not has_spatial(self.network):
            return None
        device = next(self.network.parameters()).device
        blocks = [spatial_features(self.network, self.fitting(some.to(device))) for some in torch.split(images, BLOCK)]
        return torch.cat(blocks).cpu()

    def class_logits(self, outputs: Tensor) -> Tensor:
        """Return of ``outputs`` (N, L) those that tell classes apart: of attributes, the columns of one category."""
        columns = class_columns(self.attributes.fields, self.classes or ()) if self.attributes else None
        return outputs if columns is None else outputs[:, columns]

    def spares_validation(self, data: Mapping[str, Any]) -> bool:
        """Whether it is known not to have seen the validation part of ``data``, described as `learned` is."""
        return self.learned is not None and self.learned == data

    def resizing(self, shape: Sequence[int], what: str) -> str:
        """Return what is done to images of ``shape`` (C, H, W), in words for the protocol.

        Raises:
            CondgenError: they do not fit and ``resize`` does not allow to make them fit; ``what`` names them.
        """
        given, wanted = "x".join(map(str, shape)), "x".join(map(str, self.shape))
        if shape[0] > self.shape[0]:
            raise CondgenError(
                f"{self.name} takes grey images of {wanted} and {what} are colour, {given}: choose another extractor=."
            )
        if len(self.shape) == 1:
            return self.own_resize
        if tuple(shape[1:]) == self.shape[1:]:
            return "none"
        if self.resize is None:
            raise CondgenError(
                f"{self.name} takes images of {wanted} and {what} are {given}: extractor.resize=bilinear would resize them, "
                "and their figures would say so."
            )
        return f"{given} to {wanted}, {self.resize}, {'antialiased' if self.antialias else 'not antialiased'}"

    def recognizes(self, classes: Sequence[str], logits: int) -> Tensor | None:
        """Return for each of its ``logits`` the index among the data's ``classes``, -1 for a class that they do not have.

        None where either has no classes.

        Raises:
            CondgenError: the data have classes that the extractor does not know.
        """
        if not classes or self.classes == []:
            return None
        names = list(classes) if self.classes is None else self.classes
        if len(names) != logits or not set(classes) <= set(names):
            own = f" ({', '.join(self.classes[:3])}, ...)" if self.classes else ""
            raise CondgenError(
                f"The extractor {self.name} tells {logits} classes apart{own} and the data have {len(classes)} "
                f"({', '.join(classes[:3])}, ...): choose another extractor=, or your own classifier with extractor=custom."
            )
        return torch.tensor([classes.index(name) if name in classes else -1 for name in names])


class Shipped(Extractor):
    """A classifier that condgen trained itself and ships, with a card, in ``condgen/metrics/weights``.

    Args:
        name: of the card.
        resize: see `Extractor`.
        antialias: see `Extractor`.
    """

    def __init__(self, name: str, resize: Mode | None = None, antialias: bool = True):
        card = json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
        network: nn.Module = build("extractor.network", card["network"])
        sha256 = load_weights(network, SHIPPED / f"{name}.safetensors")
        if sha256 != card["sha256"]:
            raise CondgenError(f"The weights of {name} are not those that their card describes: install condgen anew.")
        super().__init__(name, network, sha256, card["shape"], card["classes"], resize, antialias, card.get("fields"))
        self.learned = card.get("learned")


class Custom(Extractor):
    """A user's own classifier.

    Args:
        name: a short name of your choice.
        network: see `Extractor`.
        weights: its state dict, a .safetensors file or one of ``torch.save``; None: as ``network`` comes.
        shape: see `Extractor`.
        classes: see `Extractor`.
        resize: see `Extractor`.
        antialias: see `Extractor`.
        fields: see `Extractor`.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        shape: Sequence[int],
        weights: str | None = None,
        classes: Sequence[str] | None = None,
        resize: Mode | None = None,
        antialias: bool = True,
        fields: Mapping[str, Any] | None = None,
    ):
        sha256 = load_weights(network, Path(weights)) if weights else digest(safetensors.torch.save(contiguous(network)))
        super().__init__(name, network, sha256, shape, classes, resize, antialias, fields)


class Inception(Extractor):
    """The Inception network of 2015 in the port of torch-fidelity, by which published FID and IS are measured.

    It resizes to 299x299 as TensorFlow 1 did, without antialiasing; its logits lack the bias, as those of published IS do.

    Args:
        weights: ``weights-inception-2015-12-05-6726825d.pth``; None downloads it.
    """

    own_resize = "to 299x299, bilinear of TensorFlow 1, not antialiased"

    def __init__(self, weights: str | None = None):
        network = InceptionNetwork(weights)
        super().__init__("inception", network, network.sha256, (3,), ())

    def spares_validation(self, data: Mapping[str, Any]) -> bool:
        """Learned from ImageNet, it has seen no image of other data."""
        return True


class InceptionNetwork(nn.Module):
    """torch-fidelity's network under the contract of `Extractor`."""

    def __init__(self, weights: str | None):
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
        except ImportError as error:
            raise CondgenError("extractor=inception needs torch-fidelity: pip install 'condgen[inception]'.") from error
        file = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
        try:
            if not weights and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), progress=False)
        except OSError as error:
            raise CondgenError(
                f"The weights of Inception could not be downloaded from {URL_INCEPTION_V3} ({sentence(error)[:-1]}): go online "
                f"once, or fetch {file.name} elsewhere and pass extractor.weights=PATH."
            ) from error
        read_weights(file)  # torch-fidelity would run code from the file: refuse all but tensors first
        self.sha256 = digest(file.read_bytes())
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(file))
        except RuntimeError as error:
            raise CondgenError(f"{file} does not hold the weights of the Inception network of 2015.") from error

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 2048) and logits (B, 1008) of images (B, 3, H, W) in [-1, 1]."""
        features, logits = self.network(to_uint8(x))
        return features, logits


def load_weights(network: nn.Module, path: Path) -> str:
    """Load ``network``'s state dict from ``path`` and return the file's sha256; raises CondgenError if it does not fit."""
    state = read_weights(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CondgenError(f"The weights in {path} do not fit {type(network).__name__}.") from error
    return digest(path.read_bytes())


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or one of ``torch.save``, without running any code from it."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CondgenError(
            f"The weights {path} could not be read: give a .safetensors file or a state dict of torch.save."
        ) from error
    if not isinstance(state, dict):
        raise CondgenError(f"The weights {path} are no state dict.")
    return state


def contiguous(network: nn.Module) -> dict[str, Tensor]:
    """Return a state dict that can be written."""
    return {name: value.contiguous() for name, value in network.state_dict().items()}


def digest(content: bytes) -> str:
    """Return the sha256 of ``content`` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
