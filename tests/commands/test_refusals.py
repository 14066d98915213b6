"""What cannot work is refused before training starts: one sentence, status 1, nothing written, no stack trace."""

import pytest
import torch
from data.pictures import noise, png

GAN, VAE = "model=cgan_mlp", "model=cvae_mlp"
SHORT = (
    "experiment=none",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.max_epochs=1",
    "callbacks.evaluation=null",
)
"""What is not refused although it should be is over soon."""


@pytest.mark.parametrize(
    "arguments, words",
    [
        # choices that do not fit together
        ([GAN, "loss=bernoulli"], ["A GAN needs an adversarial loss", "Bernoulli", "loss=bce", "minimax", "lsgan"]),
        (
            [VAE, "loss=bce"],
            ["A VAE needs a reconstruction loss", "BCE", "loss=bernoulli", "gaussian", "squared_error"],
        ),
        ([GAN, "data.image_size=32"], ["1x28x28", "1x32x32", "data.image_size=28", "model.options.expects=null"]),
        (["model=cgan_embedding"], ["1x32x32", "1x28x28", "data.image_size=32"]),
        (["model=cgan_conv", "model.generator.network.depth=3"], ["depth 3", "28x28", "data.image_size", "multiple of 8"]),
        ([GAN, "callbacks=early_stopping"], ["val/", "not measured during training"]),
        ([GAN, "trainer.precision=16-mixed"], ["16-mixed", "trainer.precision=bf16-mixed"]),
        (
            ["model=cvae_conv", "model.generator.decode_condition=true"],
            ["cannot decode the label", "model.generator.decode_condition=false"],
        ),
        # keys and choices that do not exist
        (["trainr.max_epochs=3"], ["Unknown key 'trainr.max_epochs'", "did you mean trainer.max_epochs?"]),
        (["trainer.max_epoch=3"], ["Unknown key 'trainer.max_epoch'", "did you mean trainer.max_epochs?"]),
        (["modle=cgan_mlp"], ["Unknown key 'modle'", "did you mean model?"]),
        (["model=cgan_mpl"], ["model=cgan_mpl does not exist", "cvae_mlp", "did you mean cgan_mlp?"]),
        (["experiment=mnist_quik"], ["experiment=mnist_quik does not exist", "did you mean mnist_quick?"]),
        (["+model.foo=1"], ["model", "foo"]),
        (["+trainer.foo=1"], ["trainer", "foo"]),
        (["callbacks.evaluation.final_samples=9"], ["callbacks.evaluation.final_samples belongs to what is left out"]),
        (["+trainer.max_epochs=2"], ["trainer.max_epochs is there already: write it without the +"]),
        (["data=[null]"], ["data=[null] chooses nothing", "choose one of archive, "]),
        (["model=null"], ["model=null chooses nothing", "choose one of acgan_conv, "]),
        (["--0-9", "data=mnist"], ["The options were not understood (unrecognized arguments: --0-9", "condgen train --help"]),
        (["--cfg", "job", "data=mnist", "-m"], ["Give only one of --run, --multirun, --cfg"]),
        (["extractor=1.5"], ["extractor=1.5 chooses nothing", "choose one of cifar10-resnet, "]),
        (["loss={a:b,c:d}"], ["chooses nothing"]),
        (["--multirun", "loss=bce,3"], ["loss=bce,3 chooses nothing"]),
        (["model.options.gradient_clip=a,b"], ["names several values", "write model.options.gradient_clip=[a,b] for a list"]),
        (["trainer.max_steps=$(x)"], ["'trainer.max_steps=$(x)' was not understood"]),
        (["seed"], ["seed"]),
        (["paths.output_dir=elsewhere"], ["paths.output_dir=elsewhere", "set hydra.run.dir=elsewhere"]),
        # values that cannot be
        ([GAN, "model.generator_optimizer.lr=-1"], ["model.generator_optimizer", "-1"]),
        ([GAN, "model.discriminator_optimizer.lr=-0.1"], ["model.discriminator_optimizer", "-0.1"]),
        ([VAE, "model.optimizer.lr=-1"], ["model.optimizer", "-1"]),
        (["model.discriminator.dropout=-0.5"], ["dropout", "-0.5"]),
        ([GAN, "model.generator.latent=0"], ["model.generator.latent", "at least 1"]),
        ([GAN, "model.alternation.discriminator_steps=0"], ["model.alternation.discriminator_steps", "at least 1"]),
        ([GAN, "model.options.ema=1"], ["model.options.ema", "at least 0 and below 1"]),
        ([GAN, "model.alternation.order=both"], ["model.alternation.order", "both", "generator_first"]),
        ([VAE, "model.beta=-1"], ["model.beta", "at least 0"]),
        ([VAE, "loss=gaussian", "loss.sigma=-1"], ["loss", "sigma"]),
        (["data.batch_size=0"], ["data.batch_size must", "at least 1", "not 0"]),
        (["data.batch_size=-4"], ["data.batch_size must", "at least 1", "not -4"]),
        (["data.classes=[3,cat]"], ["data.classes", "cat"]),
        (["extractor.resize=nearest"], ["extractor.resize must be bilinear, bicubic or null", "nearest"]),
        ([GAN, "condition=inpaint", "condition.hole=1.0"], ["condition.hole must be", "not 1.0"]),
        (["trainer.max_epochs=abc"], ["max_epochs", "abc"]),
        (["trainer.max_steps=0"], ["trainer.max_steps must be a whole number of at least 1, -1 for no limit, not 0"]),
        ([GAN, "run.objective=foo"], ["run.objective=foo is not measured", "callbacks.evaluation"]),
        ([VAE, "run.objective=foo"], ["run.objective=foo is not measured", "take one of val/loss"]),
        ([GAN, "callbacks.checkpoint.monitor=foo"], ["watches foo, which is not measured"]),
        ([GAN, "callbacks.evaluation=nan"], ["callbacks.evaluation=nan is no callback", "null to leave it out"]),
        ([GAN, "data.augment=/"], ["data.augment: '/' is no augmentation", "augment=NAME"]),
        ([GAN, "trainer.accelerator=tpu"], ["trainer: ", "torch_xla"]),
        (["trainer.precision=7"], ["precision"]),
        (["callbacks.checkpoint.mode=least"], ["callbacks.checkpoint.mode", "min or max", "least"]),
        (["seed=abc"], ["seed", "abc"]),
        # data that are not there
        (["data=folder"], ["data.source.path has no value", "data.source.path=VALUE"]),
        (["data=folder", "data.source.path=nowhere"], ["nowhere", "not a folder"]),
        (["data=archive", "data.source.path=nowhere.zip"], ["nowhere.zip", "does not exist"]),
        (["data=cifar10", "data.source.archive=nowhere.zip"], ["nowhere.zip", "does not exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) and "=" in value[0] else "",
)
def test_one_sentence_and_nothing_left_behind(arguments, words, run_condgen, tmp_path):
    sentence = run_condgen("train", *SHORT, *arguments).sentence()
    for word in words:
        assert word in sentence, sentence
    assert not list(tmp_path.iterdir())


def test_cifar10_without_data_says_how_to_get_it(run_condgen, tmp_path, monkeypatch):
    import torchvision

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    sentence = run_condgen("train", *SHORT, "data=cifar10", "model=cgan_conv").sentence()
    assert "CIFAR-10" in sentence and "data.source.archive=" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run_condgen, tmp_path):
    sentence = run_condgen("train", *SHORT, "trainer=gpu").sentence()
    assert "trainer" in sentence and ("gpu" in sentence.lower() or "cuda" in sentence.lower())
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_is_named(run_condgen, tmp_path):
    for name in ("frog", "ship"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(png(noise(i, 28, 28)))
    whole = (tmp_path / "pets/ship/3.png").read_bytes()
    (tmp_path / "pets/ship/3.png").write_bytes(whole[: len(whole) // 2])
    assert "ship/3.png" in run_condgen("train", *SHORT, "data=folder", "data.source.path=pets", "model=cgan_mlp").sentence()
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


def test_a_refused_job_does_not_hide_in_a_sweep(run_condgen):
    """The other jobs run, the command fails."""
    result = run_condgen("train", "--multirun", "debug=default", "data.batch_size=4", "model=cgan_mlp", "loss=bernoulli,bce")
    assert result.code == 1 and "Traceback" not in result.err, result
    assert "A GAN needs an adversarial loss" in result.err and "Trained 2 updates" in result.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["resume", "nowhere"], ["nowhere", "config.yaml"]),
        (["sample", "nowhere.ckpt", "--out", "a.png"], ["nowhere.ckpt", "run directory"]),
    ],
)
def test_the_other_commands(arguments, words, run_condgen, tmp_path):
    sentence = run_condgen(*arguments).sentence()
    assert all(word in sentence for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, word", [("trainer.max_epoch=3", "trainer.max_epoch"), ("max", "key=value"), ("=3", "key=value")]
)
def test_resume_refuses_what_the_run_does_not_have(change, word, run_condgen, vae_run):
    assert word in run_condgen("resume", vae_run, change).sentence()
