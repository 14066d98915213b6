"""Vocoders: waveforms of log-mel images, learned by what an ear would compare, spectra (Yamamoto et al. 2020; Siuzdak 2023).

    min_f  E_{x ~ data}  spectra(f(mel(x)), x)

with the distance of `condgen.losses.spectra`. The papers add discriminators, which a CPU has no minutes for.
"""

from collections.abc import Callable

from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.vocoder import VocoderGenerator
from condgen.losses.spectra import Spectra
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import SingleNetwork
from condgen.training.tally import Tally
from condgen.waveforms import Waveforms


class Vocoder(SingleNetwork):
    """The training of a network that makes waveforms of log-mel images.

    Args:
        space: what a waveform is.
        condition: its log-mel image.
        loss: how far a waveform is from another.
        generator: makes the network from (space, condition), see `VocoderGenerator`.
        optimizer: makes the optimizer from the parameters.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    generator: VocoderGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Spectra,
        generator: Callable[..., VocoderGenerator],
        optimizer: MakeOptimizer,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        if not isinstance(loss, Spectra):
            raise CondgenError(f"A vocoder learns from spectra and {type(loss).__name__} compares none: choose loss=spectra.")
        self.generator = generator(space=space, condition=condition)
        assert isinstance(space, Waveforms)
        self.mel = space.view
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.loss = loss
        self._tally = Tally()
        self.keep_average()
        self.options.compiled(self.generator.network)

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `SingleNetwork.objective_of`."""
        x, condition = given
        terms = self.loss(self.generator.network(condition), x, self.mel)
        means = {name: term.mean() for name, term in terms.items()}
        return means["loss"], means

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the terms over the validation part."""
        x, condition = batch
        vocoder = self.eval_generator
        assert isinstance(vocoder, VocoderGenerator)
        self._tally.add(**self.loss(vocoder.network(condition), x, self.mel))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective and its terms."""
        means = self._tally.means(self.sum)
        self.publish_validation({f"val/{name}": mean.item() for name, mean in means.items()})
