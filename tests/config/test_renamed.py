"""Names of condgen 0.1, on the command line and behind ``condgen resume``, are answered with those of today."""

import pytest
from command import condgen

from condgen.config.compose import composed
from condgen.config.renamed import KEYS, has, new_name


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        (["metrics=mnist-cnn"], "metrics", "extractor"),
        (["trainer=debug"], "trainer=debug", "debug=default"),
        (["model.latent=3"], "model.latent", "model.generator.latent"),
        (["model=dcgan", "model.generator.width=8"], "model.generator.width", "model.generator.network.width"),
        (["model.accumulate=2"], "model.accumulate", "model.alternation.micro_batches"),
        (["+model.terms.l1._target_=condgen.losses.paired.L1"], "model.terms", "model.regularizers"),
        (["model=flow_matching", "model.sampler=euler"], "model.sampler", "model.generator.solver"),
        (["model=cvae_conv", "model.warmup=100"], "model.warmup", "model.kl_warmup"),
    ],
)
def test_an_old_name_on_the_command_line_is_answered_with_the_new_one(arguments, old, new, run_condgen, tmp_path):
    sentence = run_condgen("train", *arguments, "callbacks=none", "hydra.run.dir=run").sentence()
    assert old in sentence and f"called {new} today." in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choice", "renamed"),
    [
        ("model=cgan_mlp", {"run.dir": "paths.output_dir", "model.ema": "model.options.ema"}),
        ("model=cgan_conv", {"model.discriminator_steps": "model.alternation.discriminator_steps"}),
        ("model=cvae_mlp", {"model.decoder.embedding": "model.generator.decoder.embedding"}),
        ("model=flow_matching", {"model.drop": "model.generator.condition_dropout"}),
        ("model=glow", {"model.network.steps": "model.generator.network.steps", "model.warmup": "model.options.warmup"}),
    ],
)
def test_what_a_key_is_called_depends_on_the_family(choice, renamed):
    config = composed([choice], "train")
    assert {old: new_name(old, config) for old in renamed} == renamed


def test_what_was_never_a_key_is_not_answered_with_a_new_name(run_condgen):
    sentence = run_condgen("train", "model=dcgan", "model.generator.widht=8").sentence()
    assert "Unknown key 'model.generator.widht'" in sentence
    assert "did you mean model.generator.network.width?" in sentence


def test_new_names_exist_for_some_family():
    trees = [composed([f"model={model}"], "train") for model in ("dcgan", "cvae_mlp", "flow_matching", "glow", "stylization")]
    trees += [composed([f"data={data}"], "train") for data in ("cifar10", "folder", "table")] + [composed([], "evaluate")]
    assert all(trees)
    assert [new for _, new in KEYS if not any(has(tree, new) for tree in trees)] == []
    assert new_name("model.generator.latent", trees[0]) is None  # a name of today


def test_behind_resume(gan_run, vae_run, tmp_path):
    for run, old, new in (
        (gan_run, "model.ema", "model.options.ema"),
        (vae_run, "model.warmup", "model.kl_warmup"),
        (gan_run, "model.generator.hidden", "model.generator.network.hidden"),
    ):
        sentence = condgen("resume", run, f"{old}=0", "trainer.max_epochs=9", cwd=tmp_path).sentence()
        assert sentence == f"{old} is called {new} today."


def test_behind_evaluate(gan_run, tmp_path):
    assert condgen("evaluate", gan_run, "metrics=mnist-cnn", cwd=tmp_path).sentence() == "metrics is called extractor today."
