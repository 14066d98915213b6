"""The VAE family: the published CVAE, the objective's terms, warm-up, and the deterministic autoencoder."""

import math

import pytest
import torch
from recipes import batches, fit, make_model
from torch.distributions import Bernoulli, Normal, kl_divergence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONDITION = torch.arange(4)


def noise(seed=0, latent=64):
    return torch.randn(4, latent, generator=torch.Generator().manual_seed(seed))


def shapes(network):
    return [tuple(layer.weight.shape[::-1]) for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


def test_c_cvae_mlp():
    model = make_model("model=cvae_mlp")
    assert shapes(model.encoder) == [(784 + 10, 512), (512, 2 * 64)]  # mean and log-variance
    assert shapes(model.decoder) == [(64 + 10, 512), (512, 794)]  # asked for a class, which is decoded with the image
    assert shapes(make_model("model=cvae_mlp", "model.decoder.embedding=null").decoder) == [(64, 512), (512, 794)]
    optimizer = fit(model, batches(1)).optimizers[0]
    assert type(optimizer) is torch.optim.Adam and optimizer.param_groups[0]["lr"] == 1e-3
    assert type(model.loss).__name__ == "SquaredError" and model.beta == 1 and model.decode_condition


def test_image_and_label_are_both_decoded():
    model = make_model("model=cvae_mlp")
    ((x, condition),) = batches(1)
    reconstruction, _ = model.terms(x, condition, noise())
    mean, log_variance = model.encoder(x, condition)
    outputs = model.decoder(mean + (log_variance / 2).exp() * noise(), condition).sigmoid()
    target = torch.cat([(x.flatten(1) + 1) / 2, torch.eye(10)[condition]], dim=1)
    torch.testing.assert_close(reconstruction, ((outputs - target) ** 2).sum(1))


def test_the_terms_are_those_of_the_lower_bound():
    model = make_model("model=cvae_conv")
    x = torch.randint(0, 2, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    model.eval()
    reconstruction, kl = model.terms(x, CONDITION, noise(latent=32))
    mean, log_variance = model.encoder(x, CONDITION)
    q = Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1), rtol=1e-4, atol=1e-4)
    outputs = model.decoder(mean + q.stddev * noise(latent=32), CONDITION)
    expected = -Bernoulli(logits=outputs).log_prob((x.flatten(1) + 1) / 2).sum(1)
    torch.testing.assert_close(reconstruction, expected)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_reported_objective_is_reconstruction_plus_beta_kl(beta):
    model = make_model("model=cvae_mlp", f"model.beta={beta}")
    val = batches(2)
    trainer = fit(model, batches(3), val)
    metrics = trainer.callback_metrics
    expected = metrics["val/reconstruction"] + beta * metrics["val/kl"]
    assert metrics["val/loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert model.latest["loss"] == pytest.approx(model.latest["reconstruction"] + beta * model.latest["kl"], rel=1e-5)


def test_training_and_validation_report_the_same_objective():
    """One batch, weights that do not move, and the noise of both steps made equal."""
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0", "model.warmup=100")
    terms = model.terms
    model.terms = lambda x, condition, _: terms(x, condition, noise())
    data = batches(1)
    trainer = fit(model, data, data)
    for name in ("loss", "reconstruction", "kl"):  # the full beta, although it is still warming up
        assert model.latest[name] == pytest.approx(trainer.callback_metrics[f"val/{name}"].item(), rel=1e-5)


def test_validation_is_a_mean_over_samples_not_over_batches():
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0", "model.beta=0")
    (x, condition), *_ = batches(1, size=5)
    parts = [(x[:4], condition[:4]), (x[4:], condition[4:])]
    split = fit(model, parts, parts).callback_metrics["val/loss"].item()
    whole = fit(model, parts, [(x, condition)]).callback_metrics["val/loss"].item()
    assert split == pytest.approx(whole, rel=1e-5)


def test_validation_noise_is_the_same_in_every_epoch():
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0")
    val = batches(2)
    first, second = (fit(model, batches(1), val).callback_metrics["val/loss"].item() for _ in range(2))
    assert first == second


def test_beta_warms_up_linearly():
    model = make_model("model=cvae_mlp", "model.beta=2", "model.warmup=4", "model.optimizer.lr=0")
    seen = []
    step, terms = model.training_step, model.terms

    def watched(batch, batch_idx):
        loss = step(batch, batch_idx)
        reconstruction, kl = (term.mean() for term in model.last)
        seen.append(((loss - reconstruction) / kl).item())
        return loss

    def remembered(*arguments):
        model.last = terms(*arguments)
        return model.last

    model.training_step, model.terms = watched, remembered
    fit(model, batches(6))
    assert seen == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-3)


def test_beta_zero_is_a_deterministic_autoencoder():
    model = make_model("model=cvae_mlp", "model.beta=0").eval()
    ((x, condition),) = batches(1)
    first, second = (model.terms(x, condition, noise(seed))[0] for seed in (0, 1))
    assert torch.equal(first, second)
    variational = make_model("model=cvae_mlp").eval()
    assert not torch.equal(*(variational.terms(x, condition, noise(seed))[0] for seed in (0, 1)))


@pytest.mark.parametrize(
    "overrides, reported",
    [
        (["loss=gaussian", "loss.discretized=true"], True),
        (["loss=gaussian", "loss.discretized=true", "model.beta=2"], False),  # no bound on the likelihood
        (["loss=gaussian"], False),
        (["loss=bernoulli"], False),
    ],
)
def test_bits_per_dimension_only_where_they_mean_something(overrides, reported):
    metrics = fit(make_model("model=cvae_conv", *overrides), batches(1), batches(1)).callback_metrics
    assert ("val/bits_per_dim" in metrics) == reported
    if reported:
        assert metrics["val/bits_per_dim"].item() == pytest.approx(metrics["val/loss"].item() / (784 * math.log(2)), rel=1e-5)


def test_the_learned_scale_is_trained():
    model = make_model("model=cvae_mlp", "model.decode_condition=false", "loss=gaussian")
    before = model.loss.log_sigma.item()
    fit(model, batches(2))
    assert model.loss.log_sigma.item() != before
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.configure_optimizers().param_groups[0]["params"]}


def test_samples_are_the_decoded_means_of_the_prior():
    model = make_model("model=cvae_mlp").eval()
    z = torch.randn(3, 64, generator=torch.Generator().manual_seed(7))
    expected = model.decoder(z, torch.tensor([2, 2, 2]))[:, :784].sigmoid().view(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(model.sample(2, 3, generator=torch.Generator().manual_seed(7)), expected)
