"""Style transfer by one network for many styles (Johnson et al. 2016; conditional instance norm: Dumoulin et al. 2017).

    min_f  E_{x ~ data, s}  content(f(x, s), x) + w * style(f(x, s), s)

with both terms measured in the layers of a frozen classifier, see `condgen.losses.perceptual`. The style s, one of a few
images, enters f as a gain and a bias of each norm. Nothing is random: the same image and style give the same picture.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

import torch
from torch import Tensor, nn

from condgen.conditions import Condition, Styles, Together
from condgen.data.patterns import style_image
from condgen.errors import CondgenError
from condgen.losses.perceptual import Perceptual
from condgen.spaces import Images, Space
from condgen.training.base import Batch, MakeOptimizer
from condgen.training.single import SingleNetwork


class Stylization(SingleNetwork):
    """A network that draws an image in a style.

    Args:
        space: what a sample is.
        condition: a style, and the image to draw in it.
        loss: how far a drawn image is from the image's content and the style.
        network: makes f from (condition, space); f(c) is a batch of images.
        optimizer: makes the optimizer from the parameters.
        styles: names of patterns or image files, in the order of the condition's.
        compile: compile f (torch.compile).
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    KNOBS = ()

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Perceptual,
        network: Callable[..., nn.Module],
        optimizer: MakeOptimizer,
        styles: Sequence[str],
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        if not isinstance(loss, Perceptual):
            raise CondgenError(
                f"Style transfer needs a perceptual loss and {type(loss).__name__} is none: choose loss=perceptual."
            )
        if not isinstance(condition, Together) or not isinstance(condition.said, Styles) or not isinstance(space, Images):
            raise CondgenError("model=stylization draws an image in a style: choose condition=style, and data of images.")
        names = list(condition.said.fields[0].config())
        if [PurePath(style).stem for style in styles] != names:
            raise CondgenError(f"model.styles={list(styles)} must be those of condition.said.styles: {', '.join(names)}.")
        super().__init__(space, condition, network, optimizer, compile=compile, expects=expects, seed=seed)
        self.images, self.said = space, condition.said
        self.loss = loss
        self.styles = list(styles)
        self.targets: list[Tensor] = []  # Gram matrices of the styles, (S, C, C) for each layer
        self._validation: list[Tensor] = []

    def setup(self, stage: str | None = None) -> None:
        """Look at the styles; raises CondgenError if a file is missing."""
        channels, side = self.images.shape[0], min(self.images.shape[1:])
        shown = torch.stack([style_image(style, channels, side) for style in self.styles]).to(self.device)
        with torch.no_grad():
            self.targets = self.loss.grams(self.loss.layers(shown))

    def terms(self, condition: Tensor) -> dict[str, Tensor]:
        """Return loss, content and style of each of the encoded conditions (B, ...), each (B,)."""
        which = self.condition.vector(condition).argmax(1)
        photo = self.condition.map(condition)
        self.targets = [target.to(photo.device) for target in self.targets]
        return self.loss(self.network(condition), photo, [target[which] for target in self.targets])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective of a batch, each of its images in a style drawn anew."""
        condition = batch[1]
        styles = self.rows(self.said.draw, len(condition), "styles", batch_idx)
        terms = self.terms(torch.cat([styles, condition[:, self.condition.width :]], dim=1))
        self.record(**{name: term.mean() for name, term in terms.items()})
        return terms["loss"].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the terms over the validation part, each image in its own style."""
        terms = self.terms(batch[1])
        size = terms["loss"].new_tensor(float(len(batch[0])))
        self._validation.append(torch.stack([*(term.sum() for term in terms.values()), size]).double())

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective and its two parts."""
        sums = self.trainer.strategy.reduce(torch.stack(self._validation).sum(0), reduce_op="sum")
        self._validation = []
        if not self.trainer.sanity_checking:
            loss, content, style = (sums[:3] / sums[3]).tolist()
            metrics = {"val/loss": loss, "val/content": content, "val/style": style}
            self.log_dict(metrics, logger=False)
            self.publish(metrics)

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw nothing, (count, 0): the condition says it all."""
        return torch.empty(count, 0)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the images of encoded conditions in their styles, (B, C, H, W) in (-1, 1)."""
        drawn: Tensor = self.network(condition)
        return drawn
