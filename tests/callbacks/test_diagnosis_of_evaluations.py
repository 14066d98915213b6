"""Diagnosis of measurements: collapsed classes and ignored conditions, told by hand, and what must not be taken for them."""

import logging
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from recipes import make_model

from condgen.callbacks.diagnosis import Diagnosis
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record

PROTOCOL = Protocol("mnist-cnn", "0" * 64, "val", "0" * 64, 5000, 2000, "none", 0, "ema")
HEALTHY = [(80.0, 0.11), (40.0, 0.18), (20.0, 0.5), (10.0, 0.9), (9.0, 0.97)]
"""FID and label accuracy of a run that takes its time."""


class Watch:
    """A Diagnosis, told of measurements by hand; ``texts`` is what it said."""

    def __init__(self, caplog: pytest.LogCaptureFixture, **options: Any):
        self.diagnosis, self.caplog, self.step, self.curves = Diagnosis(**options), caplog, 0, []
        self.model = make_model("model=cgan_mlp")
        self.model.publish = self.curves.append

    def tell(
        self, fid: float, accuracy: float, diversity: list[float] | None = None, classes: int = 10, step: int = 100
    ) -> None:
        figures = {"fid": fid, "label_accuracy": accuracy}
        names = [f"c{i}" for i in range(classes)]
        self.step += step
        trainer: Any = SimpleNamespace(global_step=self.step, is_global_zero=True)
        record = Record(PROTOCOL, figures, per_class={"diversity": diversity or [1.0] * classes}, classes=names, step=self.step)
        self.diagnosis.on_evaluation(trainer, self.model, record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.caplog.records if record.name == "condgen"]


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Return a Diagnosis with its defaults; condgen's log, which a command may have cut off from pytest, is connected."""
    log = logging.getLogger("condgen")
    before, log.propagate = log.propagate, True
    yield Watch(caplog)
    log.propagate = before


def test_a_condition_that_is_ignored(watch):
    for fid in (80.0, 60.0, 55.0, 20.0, 10.0):
        watch.tell(fid, 0.12)
    (text,) = watch.texts
    assert (
        text.startswith("At update 300: the condition") and "FID 80 to 55" in text and "12% of them" in text and "10%" in text
    )


@pytest.mark.parametrize(
    "told",
    [
        HEALTHY,
        [(80.0, 0.1)] * 9,  # it learns nothing at all: that is not the condition's fault
        [(80.0 + i, 0.1) for i in range(9)],
        [(80.0, 0.1), (40.0, 0.3), (20.0, 0.1), (10.0, 0.3), (9.0, 0.1)],  # it forgets and learns
        [(math.nan, 0.1)] * 5,
    ],
)
def test_a_condition_that_is_not_ignored(watch, told):
    for fid, accuracy in told:
        watch.tell(fid, accuracy)
    assert watch.texts == []


def test_where_nothing_can_be_asked_for_nothing_is_ignored(watch):
    for fid in (80.0, 40.0, 20.0, 10.0):
        watch.tell(fid, 1.0, classes=1)
    assert watch.texts == []


def test_chance_depends_on_the_number_of_classes(watch):
    for fid in (80.0, 40.0, 20.0, 10.0):
        watch.tell(fid, 0.2, classes=100)
    assert watch.texts == []
    for fid in (9.0, 6.0, 4.0):
        watch.tell(fid, 0.54, classes=2)
    assert len(watch.texts) == 1


def test_a_class_that_has_collapsed(watch):
    for ratio in (0.5, 0.08, 0.07, 0.06, 0.05):
        watch.tell(10.0, 0.9, [1.0] * 3 + [ratio] + [0.9] * 6)
    (text,) = watch.texts
    assert text.startswith("At update 400: collapse of 1 of 10 classes: in the worst, c3,") and "6%" in text
    assert [curve["diagnosis/least_class_diversity"] for curve in watch.curves] == [0.5, 0.08, 0.07, 0.06, 0.05]


def test_classes_that_have_not_collapsed(watch):
    untrained = [0.01] * 10
    for diversity in (untrained, untrained, [0.3] * 10, [math.nan] + [0.3] * 9, [0.05] + [0.5] * 9, [0.5] * 10):
        watch.tell(10.0, 0.9, diversity)
    assert watch.texts == []
    assert watch.curves[3] == {"diagnosis/least_class_diversity": 0.3}


def test_two_measurements_of_the_same_weights_count_once(watch):
    for step in (100, 100, 0, 0):
        watch.tell(10.0, 0.9, [0.05] + [0.5] * 9, step=step)
    assert watch.texts == []


def test_what_it_knows_survives_a_resume(watch):
    for fid in (80.0, 40.0):
        watch.tell(fid, 0.1, [0.01] * 10)
    resumed = Diagnosis()
    resumed.load_state_dict(watch.diagnosis.state_dict())
    watch.diagnosis = resumed
    watch.tell(20.0, 0.1, [0.01] * 10)
    assert ["collapse of 10 of 10" in text for text in watch.texts] == [True, False]
    watch.diagnosis = Diagnosis()
    watch.diagnosis.load_state_dict(resumed.state_dict())
    watch.tell(10.0, 0.1, [0.01] * 10)
    assert len(watch.texts) == 2
