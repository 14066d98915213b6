"""What all families with one optimizer share: average, clipping, rates, compilation, resuming, validation."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from recipes import DIGITS, Data, batches, cut_and_whole, fit, make_model, same, weights
from torch import nn
from torch.utils.data import DataLoader

from condgen.conditions import Condition, Photo, Styles, Together
from condgen.errors import CondgenError
from condgen.spaces import Space
from condgen.tokens import Tokens

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Family(NamedTuple):
    """A small model of a family, and what it sees."""

    overrides: tuple[str, ...]
    networks: tuple[str, ...]
    shape: tuple[int, ...] = (1, 8, 8)
    condition: Condition = DIGITS
    space: Space | None = None

    def make(self, *options: str) -> Any:
        """Build the training, with the options of a user."""
        return make_model(*self.overrides, *PLAIN, *options, shape=self.shape, condition=self.condition, space=self.space)

    def data(self, count: int, size: int = 4) -> Data:
        """Draw batches."""
        drawn = batches(count, size, self.shape)
        if self.space:  # letters instead of greys
            drawn = [((x * 4).long().abs(), c) for x, c in drawn]
        return [(x, self.condition.complete(self.condition.from_data(c), x, torch.empty(size, 0))) for x, c in drawn]


PLAIN = ("model.options.ema=0", "model.options.warmup=0", "model.options.decay=null", "model.options.gradient_clip=null")
NARROW = ("model.generator.encoder.width=4", "model.generator.decoder.width=4", "model.generator.latent=3")
FAMILIES = {
    "vae": Family(("model=cvae_conv", "prior=gaussian", *NARROW), ("encoder", "decoder")),
    "flow": Family(("model=flow_points", "model.generator.network.hidden=[16]"), ("network",)),
    "glow": Family(
        ("model=glow", "model.generator.network.steps=[1,1]", "model.generator.network.coarse.width=8"), ("network",)
    ),
    "language": Family(
        ("model=language", "model.optimizer.lr=0.05", *(f"model.generator.network.{key}" for key in ("width=8", "layers=1"))),
        ("network",),
        (8,),
        space=Tokens("abc", 8),
    ),
    "style": Family(
        ("model=stylization", *(f"model.generator.network.{key}" for key in ("width=4", "blocks=1", "kernel=3"))),
        ("network",),
        (3, 16, 16),
        Together(Styles(["stripes", "checks", "dots", "waves", "mosaic"]), Photo((3, 16, 16))),
    ),
}
each = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@each
def test_the_average_follows_each_update_and_is_what_samples_come_from(family: Family) -> None:
    model = family.make("model.options.ema=0.5")
    expected: list[torch.Tensor] = []
    update = model.optimizer_step

    def watched(*arguments: Any, **options: Any) -> None:
        expected.extend(weights(model.generator) if not expected else [])  # it starts as the generator
        update(*arguments, **options)
        past = min(0.5, (1 + model.counts.updates) / (10 + model.counts.updates))
        for mine, newest in zip(expected, weights(model.generator), strict=True):
            mine.lerp_(newest, 1 - past)

    model.optimizer_step = watched
    data = family.data(4)
    fit(model, data)
    for mine, kept in zip(expected, weights(model.ema.average), strict=True):
        torch.testing.assert_close(kept, mine)
    assert model.counts.updates == 4 and model.weights == "ema" and model.eval_generator is model.ema.average
    drawn, raw = (generator.sample(data[0][1], 20) for generator in (model.eval_generator, model.generator))
    assert not torch.equal(drawn, raw)


@each
def test_without_an_average_the_newest_weights_are_sampled_from(family: Family) -> None:
    model = family.make()
    assert model.ema is None and model.weights == "raw" and model.eval_generator is model.generator


@each
def test_the_rate_grows_then_falls_until_the_end(family: Family) -> None:
    """Two epochs of four batches; the end is the sixth update, the first of the two that are asked for."""
    decay = "model.options.decay={_target_: condgen.training.schedules.Cosine}"
    model, seen = family.make("model.options.warmup=4", decay, "model.optimizer.lr=1e-3"), []
    step = model.training_step

    def watched(*arguments: Any) -> Any:
        loss = step(*arguments)
        seen.append(model.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    model.training_step = watched
    fit(model, family.data(4), max_epochs=2, max_steps=6)
    growth = [0.25, 0.5, 0.75, 1, 1, 1]
    assert seen == pytest.approx([1e-3 * g * (1 + math.cos(math.pi * i / 6)) / 2 for i, g in enumerate(growth)])


@each
def test_clipping_bounds_the_gradient_of_all_that_is_trained(family: Family) -> None:
    model, norms = family.make("model.options.gradient_clip=1e-3"), []
    clip = model.on_before_optimizer_step

    def norm() -> float:
        return nn.utils.get_total_norm([p.grad for p in model.generator.parameters() if p.grad is not None]).item()

    def watched(optimizer: torch.optim.Optimizer) -> None:
        before = norm()
        clip(optimizer)
        norms.append((before, norm()))

    model.on_before_optimizer_step = watched
    fit(model, family.data(2))
    assert len(norms) == 2 and all(free > 1e-2 and clipped == pytest.approx(1e-3, rel=1e-2) for free, clipped in norms)


@each
def test_all_parameters_of_the_generator_are_trained(family: Family) -> None:
    model = family.make("model.options.ema=0.9")
    (group,) = model.configure_optimizers().param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.generator.parameters()}
    with pytest.raises(CondgenError, match=r"model\.optimizer\.lr must be"):
        family.make("model.optimizer.lr=-1")


@each
def test_networks_are_compiled_in_place(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode: compiled.append(self))
    model = family.make("model.options.compile=true")
    assert compiled == [getattr(model.generator, name) for name in family.networks]
    assert model.state_dict().keys() == family.make().state_dict().keys() and len(compiled) == len(family.networks)


@each
def test_a_resumed_run_equals_one_never_stopped(family: Family, tmp_path: Path) -> None:
    """Cut in the second epoch, in the middle of warm-up and decay."""
    options = ("ema=0.9", "gradient_clip=1", "warmup=7", "decay={_target_: condgen.training.schedules.Linear}")

    def make() -> Any:
        return family.make(*(f"model.options.{option}" for option in options), *kl_warmup)

    kl_warmup = ("model.kl_warmup=8",) if "encoder" in family.networks else ()
    cut, whole = cut_and_whole(make, family.data(4), tmp_path / "cut.ckpt", 6, max_epochs=3, val=family.data(2, size=3))
    for (name, one), other in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert cut.counts == whole.counts and cut.counts.updates == 12 and cut.latest == whole.latest
    found, expected = (model.trainer.callback_metrics for model in (cut, whole))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def validated(model: Any, data: Data) -> float:
    """Return the validation loss of a model as it is."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet)
    trainer.validate(model, DataLoader(data, batch_size=None), verbose=False)
    return trainer.callback_metrics["val/loss"].item()


@each
def test_validation_is_of_the_average_with_the_same_noise_each_time(family: Family) -> None:
    model, data = family.make("model.options.ema=0.9"), [*family.data(1), *family.data(1, size=1)]
    fit(model, family.data(1))
    assert math.isfinite(first := validated(model, data)) and validated(model, data) == first
    assert validated(model, data[:1]) != first
    shaken = [p for p in model.generator.parameters() if p.dim() > 1]
    for parameter in shaken:
        parameter.data.add_(0.1)
    assert validated(model, data) == first
    model.ema.average.load_state_dict(model.generator.state_dict())
    assert validated(model, data) != first


@each
def test_one_seed_is_one_run(family: Family) -> None:
    first, second, other = (family.make() for _ in range(3))
    other.seed = 1
    for model in (first, second, other):
        torch.manual_seed(id(model) % 1000)  # the global state must not matter
        fit(model, family.data(3))
    assert same(weights(first), weights(second)) and not same(weights(first), weights(other))


def test_the_planned_length_counts_the_batches_of_accumulated_updates():
    model = make_model("model=cvae_mlp")
    trainer = fit(model, batches(6), max_steps=2, accumulate_grad_batches=2)
    assert trainer.global_step == model.counts.updates == 2 and model.planned_batches == model.counts.batches == 4
