"""Distillation: the mean velocity is that of the formula, and a student goes in two steps where its teacher goes in forty."""

from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from recipes import fit

from condgen.conditions import ClassLabel, Condition, LearnedEmbedding, NoCondition
from condgen.config.build import check_stored
from condgen.config.folder import conf_dir
from condgen.errors import CondgenError
from condgen.generators.flow_matching import FlowMatchingGenerator
from condgen.losses.velocity import VelocityLoss
from condgen.nets.velocity import MLPVelocity
from condgen.randomness import generator
from condgen.spaces import Points
from condgen.training.distillation import Distillation
from condgen.training.flow_matching import FlowMatching

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TWO = ClassLabel(["a", "b"])
CENTRES = torch.tensor([[-0.6, 0.5], [0.6, 0.0]])


class Growth(torch.nn.Module):
    """v = (1 + c) x, so that x grows by exp(1 + c) in the time 1."""

    def __init__(self, condition: Condition, space: Any):
        super().__init__()

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        """Ignores times, and what is dropped."""
        return (1 + condition[:, None]) * x


def points(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points (count, 2) around the centre of their class, and their classes."""
    stream = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=stream)
    return CENTRES[label] + 0.15 * torch.randn(count, 2, generator=stream), label


def student(
    teacher: FlowMatchingGenerator, network: Any, space: Any = None, condition: Condition = TWO, **field: Any
) -> Distillation:
    """A student of two steps."""
    made = partial(FlowMatchingGenerator, network=network, **{"condition_dropout": 0.0, "solver": "euler", "steps": 2} | field)
    adam = partial(torch.optim.Adam, lr=2e-3)
    return Distillation(
        space or Points(), condition, VelocityLoss(), made, adam, SimpleNamespace(generator=teacher), substeps=8
    )


def test_the_mean_velocity_is_that_of_the_teachers_solution():
    teacher = FlowMatchingGenerator(Points(), TWO, Growth, condition_dropout=0.0)
    x, label = torch.tensor([[0.1, -0.2], [0.3, 0.4]]), torch.tensor([0, 1])
    seen: list[float] = []
    teacher.network.register_forward_pre_hook(lambda module, arguments: seen.extend(arguments[1].tolist()))
    found = student(teacher, Growth).mean_velocity(x, torch.tensor([0.0, 0.5]), label, 2)
    exact = 2 * (torch.exp((1.0 + label) / 2) - 1)[:, None] * x
    assert torch.allclose(found[0], exact[0], rtol=5e-3)  # from 0 to a half
    growth = 2 / 16  # in each of the eight steps from a half to 1, of which the last is Euler's
    assert torch.allclose(found[1], 2 * ((1 + growth + growth**2 / 2) ** 7 * (1 + growth) - 1) * x[1]) and max(seen) < 1
    guided = FlowMatchingGenerator(Points(), TWO, Growth, condition_dropout=0.1, guidance=3.0)  # the null is the same here
    assert torch.allclose(student(guided, Growth).mean_velocity(x, torch.tensor([0.0, 0.5]), label, 2), found)


def test_a_student_makes_two_steps_where_its_teacher_makes_forty():
    """Both are seen from the same noise, under guidance."""
    network = partial(
        MLPVelocity, hidden=[64, 64], signal=32, embedding=partial(LearnedEmbedding, width=8), activation=torch.nn.SiLU
    )
    torch.manual_seed(0)
    field = partial(FlowMatchingGenerator, network=network, condition_dropout=0.2, steps=40, guidance=1.5)
    trained = FlowMatching(Points(), TWO, VelocityLoss(), field, partial(torch.optim.Adam, lr=5e-3))
    fit(trained, [points(256, seed) for seed in range(150)])
    teacher = trained.generator.eval()
    learner = student(deepcopy(teacher), network)
    fit(learner, [points(256, seed) for seed in range(150)])
    z, label = teacher.latents(500, generator(0, "z")), torch.arange(500) % 2
    with torch.inference_mode():
        far, learned = teacher.decode(z, label), learner.generator.eval().decode(z, label)
        teacher.set_sampling(guidance=1.5, steps=2, solver="euler")
        near = teacher.decode(z, label)
    assert (learned - far).square().mean() < 0.3 * (near - far).square().mean()


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"guidance": 2.0, "condition_dropout": 0.1}, "model.generator.guidance=1"),
        ({"solver": "heun"}, "model.generator.solver=euler"),
        ({"condition": NoCondition()}, "take the data and the condition"),
        ({"network": lambda condition, space: torch.nn.Linear(2, 2)}, "model.generator.network"),
    ],
)
def test_what_cannot_be_distilled_is_refused(changed, said):
    teacher = FlowMatchingGenerator(Points(), TWO, Growth, condition_dropout=0.0)
    with pytest.raises(CondgenError, match=said):
        student(teacher, changed.pop("network", Growth), **changed)


def test_a_stored_run_may_name_its_teacher(tmp_path):
    """So it can be resumed and measured without trust in its file."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        check_stored(OmegaConf.to_container(compose("train", ["experiment=mnist_distilled"]).model), tmp_path)
