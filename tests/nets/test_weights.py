"""How weights start, and spectral norm: in the network, its average, a checkpoint, a resumed run."""

import pytest
import torch
from recipes import batches, cut_and_whole, make_model
from same_run import assert_same
from torch import nn
from torch.nn.utils import parametrize

from condgen import load
from condgen.conditions import ClassLabel, LearnedEmbedding
from condgen.generators.base import evaluating
from condgen.nets.norms import ConditionalBatchNorm
from condgen.nets.weights import LAYERS, initialize, normalize_spectra
from condgen.training.average import EMA

SMALL = ("model.generator.network.width=16", "model.discriminator.width=16", "model.alternation.discriminator_steps=1")
PETS = ClassLabel(["frog", "ship", "toad"])


def layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, LAYERS)]


def matrix(layer: nn.Module) -> torch.Tensor:
    """Return a layer's weight as (outputs, everything else)."""
    weight = layer.weight.detach()
    return (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)


# --- how weights start ---


def network() -> nn.Module:
    """Wide and high matrices, kernels, a table, and maps that begin at zero."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 40, 3), nn.Conv2d(40, 6, 3), nn.ConvTranspose2d(8, 12, 4), nn.Linear(50, 20), nn.Linear(20, 50)]
    return nn.ModuleList([*layers, LearnedEmbedding(PETS, 70), ConditionalBatchNorm(8, 3), nn.BatchNorm2d(4)])


def test_orthogonal_weights_are_orthogonal():
    net = network()
    initialize(net, "orthogonal")
    weights = [layer.weight.detach().flatten(1) for layer in list(net)[:5]] + [net[5].table.detach()]
    for weight in weights:
        small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "init, deviation", [("normal", lambda fans: 0.02), ("xavier", lambda fans: (2 / fans) ** 0.5)], ids=["normal", "xavier"]
)
def test_random_weights_have_their_deviation(init, deviation):
    net = network()
    initialize(net, init)
    for weight, fans in ((net[1].weight, 9 * (40 + 6)), (net[3].weight, 50 + 20)):
        assert weight.std().item() == pytest.approx(deviation(fans), rel=0.1)
    assert net[5].table.std().item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("init", ["normal", "xavier", "orthogonal"])
def test_biases_begin_at_zero_and_what_is_zero_stays(init):
    net = network()
    initialize(net, init)
    assert not any(layer.bias.any() for layer in list(net)[:5])
    assert not net[6].gain.weight.any() and not net[6].bias.weight.any()
    assert torch.equal(net[7].weight, torch.ones(4))


def test_without_init_nothing_changes():
    net, same = network(), network()
    initialize(net, None)
    assert_same(net.state_dict(), same.state_dict())


def test_the_xavier_of_residual_branches_has_twice_the_variance():
    """GlorotUniform(sqrt(2)) for c1 and c2, GlorotUniform() elsewhere (gen_models/resblocks.py of the authors)."""
    block = make_model("model=sngan", "model.generator.network.width=64", shape=(3, 32, 32)).generator.network.blocks[0]
    for layer, variance in ((block.first, 2 * 2 / (9 * 128)), (block.second, 2 * 2 / (9 * 128)), (block.shortcut, 2 / 128)):
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)


# --- spectral norm ---


def spectra(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest singular value of each layer's weight, as it is used and as it is learned."""
    with evaluating(network):
        used = [torch.linalg.matrix_norm(matrix(layer), 2) for layer in layers(network)]
    learned = [torch.linalg.matrix_norm(layer.parametrizations.weight.original.flatten(1), 2) for layer in layers(network)]
    return torch.stack(used), torch.stack(learned)


@torch.no_grad()
def test_the_largest_singular_value_is_one():
    """After weights have moved, the power method finds it again, a step each time that they are used."""
    model = make_model("model=biggan", *SMALL, shape=(3, 32, 32))
    for network in (model.generator.network, model.discriminator):
        assert len(layers(network)) > 10 and all(parametrize.is_parametrized(layer, "weight") for layer in layers(network))
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        used, learned = spectra(network)
        assert (used - 1).abs().max() > 0.3 and learned.min() > 1.1
        for layer in layers(network) * 100:
            assert layer.weight.isfinite().all()
        used, _ = spectra(network)
        torch.testing.assert_close(used, torch.ones_like(used), atol=0.01, rtol=0)


@torch.no_grad()
def test_a_transposed_kernel_is_normalized_by_its_outputs():
    generator = make_model(
        "model=dcgan", *SMALL, "model.generator.network.spectral_norm=true", shape=(1, 28, 28)
    ).generator.network
    for _ in range(100):
        generator(torch.randn(4, 100), torch.arange(4))
    used, learned = spectra(generator)
    torch.testing.assert_close(used, torch.ones_like(used), atol=0.01, rtol=0)
    assert (learned - 1).abs().max() > 0.2


def test_maps_at_zero_begin_orthogonal():
    """Zero divided by its norm would be NaN."""
    norm = ConditionalBatchNorm(8, 3)
    normalize_spectra(norm)
    weight = norm.gain.weight.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(3), atol=1e-3, rtol=0)


def test_u_and_v_follow_in_training_and_stand_still_otherwise():
    model = make_model("model=biggan", *SMALL, shape=(3, 32, 32))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    g = model.eval_generator
    first = g.sample("0-9", seed=1)
    assert torch.equal(first, g.sample("0-9", seed=1)) and first.isfinite().all()
    assert_same(before, dict(model.state_dict()))
    with torch.no_grad():
        model.generator(torch.randn(4, 80), torch.arange(4))
    moved = [key for key, value in model.state_dict().items() if key.endswith(("._u", "._v")) and not value.equal(before[key])]
    assert len(moved) > 20 and all(key.startswith("generator.") for key in moved)


def test_the_average_has_weights_and_vectors_of_its_own():
    """With decay 0 it is the network itself, now and after the network went on."""
    net = make_model("model=biggan", *SMALL, shape=(3, 32, 32)).generator
    ema, z, labels = EMA(net, 0.0), torch.randn(4, 80), torch.arange(4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        net(z, labels)
        ema.update(1)
        with evaluating(net):
            expected = net(z, labels)
        assert torch.equal(ema.average(z, labels), expected)
        net(z, labels)  # moves u, v and the running statistics
        assert torch.equal(ema.average(z, labels), expected)


def test_a_resumed_run_has_the_same_bits_and_loads(tmp_path):
    """Also the vectors of the power method, the average's own among them."""
    path, data = tmp_path / "cut.ckpt", batches(3, shape=(1, 28, 28))
    cut, whole = cut_and_whole(lambda: make_model("model=biggan", *SMALL), data, path, 4, max_epochs=2)
    assert any(key.startswith("ema.") and key.endswith("parametrizations.weight.0._u") for key in whole.state_dict())
    assert_same(dict(whole.state_dict()), dict(cut.state_dict()))
    whole.trainer.save_checkpoint(path)
    assert torch.equal(load(path).sample("0-9", 2), whole.eval_generator.sample("0-9", 2))
