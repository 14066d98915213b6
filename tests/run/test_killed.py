"""A run that is killed goes on to the same bits, for each family and each way of limiting a run; see scripts/kill_runs.py."""

import os
import random
from collections.abc import Iterator

import pytest
import torch
from kill_runs import BOUNDARIES, CHANGE, CUT, FAMILIES, LIMITS, MOMENT, Killer
from same_run import differences


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """Kills runs of this module, each of which is trained once without being killed."""
    yield Killer(tmp_path_factory.mktemp("killed"))


QUICK = [("gan", "steps at an epoch's end", "right after a checkpoint")]


@pytest.mark.parametrize(("family", "limit", "place"), QUICK)
def test_a_run_killed_at_a_boundary_ends_as_one_that_was_not(killer: Killer, family: str, limit: str, place: str) -> None:
    assert killer.kill(f"{family} {limit} {place}", family, limit, [place], random.Random(0)).verdict == "equal"


def absent(family: str, limit: str, place: str) -> bool:
    """Whether a run has no such place: GANs do not validate, only a budget is planned, some runs end within their epoch."""
    return (
        (family, place) == ("gan", "in validation")
        or (place == "right after the plan" and limit != "budget")
        or (place == CUT and limit != "steps")
        or (place == "after the last batch of an epoch" and (limit == "epochs" or (limit == "steps" and family != "gan")))
        or (place == "within an epoch" and limit == "epochs" and family != "gan")
    )


CROSS = [
    (family, limit, place)
    for i, family in enumerate(FAMILIES)
    for j, place in enumerate([*BOUNDARIES, MOMENT, CHANGE])
    for limit in [list(LIMITS)[(i + j // len(FAMILIES)) % len(LIMITS)]]
    if (os.environ.get("CONDGEN_ALL_KILLS") or i == j % len(FAMILIES)) and not absent(family, limit, place)
] + [("gan", "budget", "right after the plan"), ("vae", "budget", "in the last evaluation"), ("vae", "steps", CUT)]
"""Each place once, families and limits in turn; all families at all places with CONDGEN_ALL_KILLS=1."""


@pytest.mark.slow
@pytest.mark.parametrize(("family", "limit", "place"), CROSS)
def test_families_in_turn_at_every_boundary(killer: Killer, family: str, limit: str, place: str) -> None:
    assert killer.kill(f"{family} {limit} {place}", family, limit, [place], random.Random(0)).verdict == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before the first step", "right after a checkpoint"])
def test_a_budget_that_has_no_plan_yet_is_planned_anew_and_kept(killer: Killer, place: str) -> None:
    assert killer.kill(f"planless {place}", "gan", "budget", [place], random.Random(0)).verdict == "equal"


def test_another_weight_another_row_or_another_plan_is_seen() -> None:
    one = {"weights": {"a": torch.zeros(2)}, "metrics.csv": [{"step": "1"}], "plan": {"steps": 3}}
    assert differences(one, one | {"weights": {"a": torch.zeros(2)}}) == []
    for name, value in (("weights", {"a": torch.ones(2)}), ("metrics.csv", []), ("plan", None)):
        assert differences(one, one | {name: value}) == [name]
