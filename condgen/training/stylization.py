"""Style transfer by one network for many styles (Johnson et al. 2016; conditional instance norm: Dumoulin et al. 2017).

    min_f  E_{x ~ data, s}  content(f(x, s), x) + w * style(f(x, s), s)

with both terms measured in the layers of a frozen classifier, see `condgen.losses.perceptual`.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

import torch
from torch import Tensor, nn

from condgen.conditions import Condition, Styles, Together
from condgen.data.patterns import style_image
from condgen.errors import CondgenError
from condgen.generators.stylization import StylizationGenerator
from condgen.losses.perceptual import Perceptual
from condgen.spaces import Images, Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import Rows, SingleNetwork
from condgen.training.tally import Tally


class Stylization(SingleNetwork):
    """The training of a network that draws an image in a style.

    Args:
        space: what a sample is.
        condition: a style, and the image to draw in it.
        loss: how far a drawn image is from the image's content and the style.
        generator: makes the network from (space, condition), see `StylizationGenerator`.
        optimizer: makes the optimizer from the parameters.
        styles: names of patterns or image files, in the order of the condition's.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    generator: StylizationGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Perceptual,
        generator: Callable[..., StylizationGenerator],
        optimizer: MakeOptimizer,
        styles: Sequence[str],
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        if not isinstance(loss, Perceptual):
            raise CondgenError(
                f"Style transfer needs a perceptual loss and {type(loss).__name__} is none: choose loss=perceptual."
            )
        self.generator = generator(space=space, condition=condition)
        assert isinstance(condition, Together) and isinstance(condition.said, Styles) and isinstance(space, Images)
        names = list(condition.said.fields[0].config())
        if [PurePath(style).stem for style in styles] != names:
            raise CondgenError(f"model.styles={list(styles)} must be those of condition.said.styles: {', '.join(names)}.")
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.images, self.draw_styles = space, condition.said.draw
        self.loss = loss
        self.frozen_networks = [loss.network]
        self.styles = list(styles)
        self.targets: list[Tensor] = []
        """Gram matrices of the styles, (S, C, C) for each layer."""
        self._tally = Tally()
        self.keep_average()
        self.options.compiled(self.generator.network)

    def setup(self, stage: str | None = None) -> None:
        """Look at the styles; raises CondgenError if a file is missing."""
        channels, side = self.images.shape[0], min(self.images.shape[1:])
        shown = torch.stack([style_image(style, channels, side) for style in self.styles]).to(self.device)
        with torch.no_grad():
            self.targets = self.loss.grams(self.loss.layers(shown))

    def terms(self, network: nn.Module, condition: Tensor) -> dict[str, Tensor]:
        """Return loss, content and style of each of the encoded conditions (B, ...), each (B,)."""
        which = self.condition.vector(condition).argmax(1)
        photo = self.condition.map(condition)
        self.targets = [target.to(photo.device) for target in self.targets]
        return self.loss(network(condition), photo, [target[which] for target in self.targets])

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """See `SingleNetwork.given`: conditions, each of its image in a style drawn anew."""
        _, condition = batch
        return (torch.cat([draw(self.draw_styles, "styles"), condition[:, self.condition.width :]], dim=1),)

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `SingleNetwork.objective_of`."""
        means = {name: term.mean() for name, term in self.terms(self.generator.network, *given).items()}
        return means["loss"], means

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the terms over the validation part, each image in its own style."""
        drawn = self.eval_generator
        assert isinstance(drawn, StylizationGenerator)
        self._tally.add(**self.terms(drawn.network, batch[1]))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective and its two parts."""
        means = self._tally.means(self.sum)
        self.publish_validation({f"val/{name}": mean.item() for name, mean in means.items()})
