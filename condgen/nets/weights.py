"""How the weights of a network start, and how spectral norm holds them."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from condgen.conditions import LearnedEmbedding

Init = Literal["normal", "xavier", "orthogonal"] | None
"""How a network's weights start; None: as torch's own."""
STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": partial(nn.init.normal_, std=0.02),  # Radford et al. 2016, section 4
    "xavier": nn.init.xavier_uniform_,  # Miyato et al. 2018, their code
    "orthogonal": nn.init.orthogonal_,  # Brock et al. 2019, section 3
}
ITERATIONS = 1
"""Steps of the power method that a weight makes each time it is used in training (Miyato et al. 2018, algorithm 1)."""
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def initialize(network: nn.Module, init: Init) -> None:
    """Start the weights of all convolutions and linear layers by ``init``, and their biases at zero.

    Embeddings stay N(0, 1), at the scale of the noise, but for ``orthogonal``: BigGAN's are orthogonal too.

    Args:
        network: what is initialized; what it holds at zero (the maps of a conditional norm) stays there.
        init: a key of `STARTS`; None keeps torch's own.
    """
    if init is None:
        return
    for module in network.modules():
        if isinstance(module, LAYERS) and module.weight.any():
            STARTS[init](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, LearnedEmbedding) and module.width and init == "orthogonal":
            STARTS[init](module.table)


def normalize_spectra(network: nn.Module) -> None:
    """Divide the weight of each convolution and linear layer by its largest singular value (Miyato et al. 2018, section 2.1).

    W / sigma(W), where W is the kernel as a matrix (outputs, inputs * height * width) and sigma(W) = u^T W v, with vectors u, v
    that follow the power method. They are buffers: a checkpoint holds them, and in eval mode they stand still.
    A weight at zero has no direction to keep; it starts orthogonal, as BigGAN's conditional norms do.
    """
    for module in list(network.modules()):
        if isinstance(module, LAYERS):
            if not module.weight.any():
                nn.init.orthogonal_(module.weight)
            parametrizations.spectral_norm(module, n_power_iterations=ITERATIONS)
