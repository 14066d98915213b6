"""What TensorBoard's own reader finds in a run: stable names, one step axis for all families, checkpoints without slashes."""

from pathlib import Path

import pytest
from command import TINY, condgen
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCHEME = ("train/", "val/", "quality/", "diagnosis/", "speed/")


def events(run: Path) -> EventAccumulator:
    """Read the curves and pictures of a run, all points."""
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    return reader


@pytest.mark.parametrize(
    ("run", "curves", "steps"),
    [
        ("gan_run", {"train/loss_d", "train/loss_g", "speed/images_per_second"}, [2]),
        ("vae_run", {"train/loss", "train/reconstruction", "train/kl", "val/loss", "speed/images_per_second"}, [2, 4]),
    ],
)
def test_a_run_has_its_curves_under_stable_names(
    run: str, curves: set[str], steps: list[int], request: pytest.FixtureRequest
) -> None:
    directory: Path = request.getfixturevalue(run)
    reader = events(directory)
    tags = reader.Tags()
    assert curves <= set(tags["scalars"])
    assert all(tag.startswith(SCHEME) for tag in tags["scalars"]), tags
    assert tags["images"] == ["samples"]
    assert [event.step for event in reader.Images("samples")] == steps
    for tag in curves:
        assert [event.step for event in reader.Scalars(tag)] == steps, tag
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("model", ["cgan_mlp", "cvae_mlp"])
def test_the_first_update_is_step_one_in_every_family(model: str, tmp_path: Path) -> None:
    arguments = ("experiment=none", f"model={model}", *TINY, "trainer.max_epochs=1", "trainer.log_every_n_steps=1")
    result = condgen("train", *arguments, "callbacks.samples=null", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)
    assert result.code == 0, result
    reader = events(tmp_path / "run")
    losses = [tag for tag in reader.Tags()["scalars"] if tag.startswith("train/loss")]
    assert losses
    for tag in losses:
        assert [event.step for event in reader.Scalars(tag)] == [1, 2], tag
