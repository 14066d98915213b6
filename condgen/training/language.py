"""A language model (Bengio et al. 2003; Radford et al. 2019): the likelihood of each character after those before it.

    L = -E_{(x, c) ~ data} sum_t log p(x_t | x_<t, c) / (T log 2),    in bits per character, the stop counted as one

A part of c is left out at times (`Condition.partly`, by the loader), and all of it too, so that a user need not say everything
and samples can be guided.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.language import LanguageGenerator, counts
from condgen.losses.next_token import BIT, NextToken
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import Rows, SingleNetwork, uniform
from condgen.training.tally import Tally
from condgen.types import PositiveInt


class Language(SingleNetwork):
    """The training of a (conditional) language model.

    Args:
        space: the characters.
        condition: what can be asked for.
        loss: of a predicted character.
        generator: makes the generator from (space, condition), see `LanguageGenerator`.
        optimizer: makes the optimizer from the parameters.
        pieces: in which a batch goes through the network, texts of like length together, so that few places are empty.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    generator: LanguageGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: NextToken,
        generator: Callable[..., LanguageGenerator],
        optimizer: MakeOptimizer,
        pieces: PositiveInt = 4,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        if not isinstance(loss, NextToken):
            raise CondgenError(
                f"A language model is trained by its next tokens and {type(loss).__name__} knows none: choose loss=next_token."
            )
        self.generator = generator(space=space, condition=condition)
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.loss = loss
        self.pieces = pieces
        self._tally = Tally()
        self.keep_average()
        self.options.compiled(self.generator.network)

    # --- a training step ---

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """See `SingleNetwork.given`: uniform numbers that decide on whose conditions are left out."""
        return *batch, draw(uniform, "left out")

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `SingleNetwork.objective_of`: bits per character."""
        x, condition, chance = given
        dropped = chance < self.generator.condition_dropout
        order = counts(x).argsort(stable=True)
        nats = [
            self.generator.nats(x[rows], condition[rows], self.loss, dropped[rows]).sum()
            for rows in order.tensor_split(min(self.pieces, len(x)))
        ]
        loss = torch.stack(nats).sum() / counts(x).sum() / BIT
        return loss, {"loss": loss}

    # --- validation ---

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum over the validation part what the averaged model pays for texts: told what no text gives away, and nothing."""
        model = self.eval_generator
        assert isinstance(model, LanguageGenerator)
        x, condition = batch
        told, untold = model.told_and_untold(x, condition, self.loss)
        self._tally.add(count=counts(x), told=told.sum(1) / BIT, untold=untold.sum(1) / BIT)

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective, bits per character; ``untold`` is that without the condition."""
        means = self._tally.means(self.sum)
        told, untold = ((means[name] / means["count"]).item() for name in ("told", "untold"))
        self.publish_validation({"val/loss": told, "val/untold": untold})
