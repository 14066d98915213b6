"""Second heads of the discriminator, which say what a sample shows, beside the first one, which says whether it is real.

    loss of D + weight * (L(real) + L(fake)),        loss of G + generator_weight * L(fake)

L is the head's own loss, of D's features h of samples and of the conditions that these are of; which of D's two parts a
method has, its class says.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalized

from condgen.conditions import Attributes, ClassLabel, Codes, Condition, OneHot
from condgen.errors import CondgenError
from condgen.losses.attributes import attribute_loss
from condgen.types import NonNegative, Positive, PositiveInt, PositiveShare


class Auxiliary(nn.Module, ABC):
    """A head on D's features h (B, features), trained with D.

    Args:
        weight: factor of its loss in D's.
        generator_weight: factor of its loss in G's; None: ``weight``.
    """

    of_real = True
    """Whether D learns from what real samples show,"""
    of_fake = False
    """and from what generated ones were asked for."""

    def __init__(self, weight: NonNegative, generator_weight: NonNegative | None):
        super().__init__()
        self.weight = weight
        self.generator_weight = weight if generator_weight is None else generator_weight

    @abstractmethod
    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return the loss, a scalar, of samples with features h (B, F) and the conditions (B, ...) that they are of."""

    def discriminator_losses(
        self, real_features: Tensor, condition: Tensor, fake_features: Tensor, fake_condition: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return D's losses by name, and their weighted sum.

        Args:
            real_features: D's features of real samples, (B, F).
            condition: their encoded conditions, (B, ...).
            fake_features: D's features of generated samples, (B, F).
            fake_condition: the encoded conditions that these were asked for, (B, ...).
        """
        losses = {"auxiliary_real": self(real_features, condition)} if self.of_real else {}
        if self.of_fake:
            losses["auxiliary_fake"] = self(fake_features, fake_condition)
        return losses, self.weight * torch.stack(list(losses.values())).sum()


class ACGAN(Auxiliary):
    """A classifier: L = E -log P(class | h) (Odena et al. 2017, equation 3).

    Of attributes L is the sum over them: that of each category, and of each number Huber's loss of what is read, times
    ``numbers``, see `attribute_loss`.

    Args:
        features: length of h.
        condition: a class label, or attributes.
        numbers: factor of the errors of numbers.
        weight, generator_weight: see `Auxiliary`.
        of_fake: D also learns from generated samples, as published; later work leaves that out, since it teaches D what
            bad samples of a class look like.
        spectral_norm: hold the spectral norm of the classifier at 1.
    """

    def __init__(
        self,
        features: int,
        condition: Condition,
        weight: NonNegative = 1.0,
        generator_weight: NonNegative | None = None,
        of_fake: bool = True,
        spectral_norm: bool = False,
        numbers: NonNegative = 2.0,
    ):
        super().__init__(weight, generator_weight)
        self.of_fake = of_fake
        self.numbers = numbers
        self.attributes = condition if isinstance(condition, Attributes) and not isinstance(condition, Codes) else None
        width = condition.width if self.attributes else classes_of(condition, "acgan")
        self.classify = linear(features, width, spectral_norm)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        if self.attributes:
            return attribute_loss(self.attributes, self.classify(h).float(), condition, self.numbers)
        return F.cross_entropy(self.classify(h), condition)


class D2DCE(Auxiliary):
    """Data-to-data cross-entropy (ReACGAN, Kang et al. 2021, equation 7).

        L = E -log  exp([f.v_y - m_p]- / t) / (exp([f.v_y - m_p]- / t) + sum over j of exp([f.f_j - m_n]+ / t))

    f: the sample's embedding, of length 1; v_y: the proxy of its class, of length 1; j: the batch's samples of other
    classes. [.]- and [.]+ cut at 0 from above and below: easy positives and easy negatives give no gradient. The authors'
    code has m_n = 1 - m_p; it also shifts the sum's exponents alone for numerical safety, here it is as in the paper.

    Args:
        features: length of h.
        condition: a class label.
        width: length of f.
        temperature: t.
        margin: m_p, in (0, 1].
        weight, generator_weight: see `Auxiliary`.
        spectral_norm: hold the spectral norms of embedding and proxies at 1.
    """

    def __init__(
        self,
        features: int,
        condition: Condition,
        width: PositiveInt = 512,
        temperature: Positive = 0.5,
        margin: PositiveShare = 0.98,
        weight: NonNegative = 0.5,
        generator_weight: NonNegative | None = None,
        spectral_norm: bool = False,
    ):
        super().__init__(weight, generator_weight)
        self.temperature, self.margin = temperature, margin
        self.embed = linear(features, width, spectral_norm)
        self.proxies = linear(width, classes_of(condition, "d2dce"), spectral_norm, bias=False)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        f = F.normalize(self.embed(h).float(), dim=1)
        proxies = F.normalize(self.proxies.weight.float(), dim=1)[condition]
        positive = ((f * proxies).sum(1) - self.margin).clamp(max=0) / self.temperature  # (B,)
        negative = (f @ f.T - (1 - self.margin)).clamp(min=0) / self.temperature  # (B, B)
        negative = negative.masked_fill(condition[:, None] == condition, -torch.inf)  # itself among them
        return (torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive).mean()


class Matching(Auxiliary):
    """Which sample of a batch belongs to which condition, for any condition that networks read, such as a caption.

        L = -E [log exp(s_ii / t) / sum_j exp(s_ij / t) + log exp(s_ii / t) / sum_j exp(s_ji / t)] / 2

    s_ij: the cosine between sample i's embedding and condition j's (InfoNCE, as XMC-GAN has it of captions: Zhang et al. 2021,
    equations 4 and 5). Of conditions that are equal only the sample's own counts.

    Args:
        features: length of h.
        condition: any but none.
        width: length of the embeddings.
        temperature: t.
        weight, generator_weight: see `Auxiliary`.
        spectral_norm: hold the spectral norm of the samples' embedding at 1.
    """

    def __init__(
        self,
        features: int,
        condition: Condition,
        width: PositiveInt = 128,
        temperature: Positive = 0.1,
        weight: NonNegative = 1.0,
        generator_weight: NonNegative | None = None,
        spectral_norm: bool = False,
    ):
        super().__init__(weight, generator_weight)
        if not condition.width:
            raise CondgenError("auxiliary=matching compares samples with what they were asked for: choose another condition.")
        self.temperature = temperature
        self.see = OneHot(condition)
        self.read = nn.Linear(condition.width, width)
        self.embed = linear(features, width, spectral_norm)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        samples = F.normalize(self.embed(h).float(), dim=1)
        asked = F.normalize(self.read(self.see(condition)).float(), dim=1)
        rows = condition.reshape(condition.shape[0], -1)
        equal = (rows[:, None] == rows).all(2).fill_diagonal_(False)
        scores = (samples @ asked.T / self.temperature).masked_fill(equal, -torch.inf)  # (B, B)
        own = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


class InfoGAN(Auxiliary):
    """Q(c | x), which reads from a generated sample the codes that it was asked for (Chen et al. 2016, equation 5).

    L = -E log Q(c | h): cross-entropy for categories and, for continuous codes, that of a Gaussian of variance 1, of which
    the constant is left out. G and D both lower it, on generated samples only: real ones have no known codes.

    Args:
        features: length of h.
        condition: codes.
        hidden: width of Q's own layer.
        continuous: factor of the continuous codes' part.
        weight, generator_weight: see `Auxiliary`.
    """

    of_real = False
    of_fake = True

    def __init__(
        self,
        features: int,
        condition: Condition,
        hidden: PositiveInt = 128,
        continuous: NonNegative = 1.0,
        weight: NonNegative = 1.0,
        generator_weight: NonNegative | None = None,
    ):
        super().__init__(weight, generator_weight)
        if not isinstance(condition, Codes):
            raise CondgenError("auxiliary=infogan reads codes from samples: choose condition=codes.")
        self.codes = condition
        self.continuous = continuous
        self.read = nn.Sequential(nn.Linear(features, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, condition.width))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        *categories, numbers = self.codes.split(self.read(h))
        *wanted, values = self.codes.split(condition)
        loss = 0.5 * self.continuous * (numbers - values).square().sum(1).mean()
        for logits, one_hot in zip(categories, wanted, strict=True):
            loss = loss + F.cross_entropy(logits, one_hot)
        return loss


def classes_of(condition: Condition, name: str) -> int:
    """Return the number of classes; raises CondgenError if the condition is no class."""
    if not isinstance(condition, ClassLabel):
        raise CondgenError(f"auxiliary={name} tells classes apart: choose condition=class, or auxiliary=matching.")
    return condition.width


def linear(inputs: int, outputs: int, spectral_norm: bool, bias: bool = True) -> nn.Linear:
    """Return a linear layer, its spectral norm held at 1 if asked for."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    if spectral_norm:
        normalized(layer)  # in place
    return layer
