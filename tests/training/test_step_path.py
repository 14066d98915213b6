"""Where a training step stands: few files lie on its way, those that the documentation names."""

import pytest
from step_path import by_file, by_kind, profiled_step

TRAINING = {"generators/gan.py", "randomness.py", "training/average.py", "training/base.py", "training/gan.py"}
"""What one step of the default recipe runs through, see docs/extending/index.md, beside what the recipe chose."""


@pytest.mark.parametrize(
    "recipe, own, chosen",
    [
        ("mnist_quick", TRAINING, 7),
        (
            "mnist_cvae",
            {f"training/{name}.py" for name in ("base", "single", "vae")}
            | {"generators/priors.py", "generators/vae.py", "randomness.py"},
            4,
        ),
    ],
)
def test_a_step_runs_through_few_files(recipe, own, chosen):
    kinds = by_kind(by_file(profiled_step(recipe, [])))
    assert set(kinds["the step"]) == own and len(kinds["chosen"]) == chosen
    assert any(name.endswith("training_step") for functions in kinds["the step"].values() for name in functions)
