"""Agreement and error of attributes, of values that are known; unseen combinations; a recognizer within the evaluator."""

import json

import pytest
import torch

from condgen.conditions import Attributes, Category, ClassLabel, Number
from condgen.data import DataModule
from condgen.data.sources import MNISTAttributes
from condgen.data.tables import Table, Tables
from condgen.errors import CondgenError
from condgen.metrics.agreement import agreement
from condgen.metrics.attributes import AttributeReader, listed, with_real
from condgen.metrics.catalogue import METRICS
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.extractors import SHIPPED, Custom, Shipped
from condgen.metrics.features import Features
from condgen.metrics.record import read_records, write_record
from condgen.metrics.results import table

FIELDS = [Category("digit", ("0", "1", "2")), Number("rotation", -45, 45), Category("colour", ("red", "blue"))]
CONDITION = Attributes(FIELDS, classes=("0", "1", "2"))
ATTRIBUTES = [name for name in METRICS if name.startswith("attribute_")]
TRAIN = torch.tensor([[0.0, 0, 0], [0, 9, 1], [1, 3, 0], [2, -3, 1]])  # 1 in blue and 2 in red are not there


def features(wanted, read):
    wanted, read = torch.tensor(wanted), torch.tensor(read)
    return Features(torch.zeros(len(read), 2), torch.zeros(len(read), 3), requested=wanted, read=read)


def judge(condition=CONDITION, recognizer=CONDITION):
    return AttributeReader(recognizer, condition, TRAIN)


def test_agreement_and_error_are_those_of_hand():
    wanted = [[0.0, 10, 0], [0, 20, 1], [1, 0, 0], [1, 0, 0], [1, 5, 1], [2, -5, 0]]
    read = [[0.0, 13, 0], [0, 20, 0], [2, 0, 0], [1, -9, 0], [1, 5, 0], [0, -14, 0]]
    found = agreement(judge(), features(wanted, read))
    assert found == {
        "digit": {"agreement": 3 / 4, "agreement_unseen": 1 / 2},
        "rotation": {"error": 3.0, "error_unseen": 4.5},
        "colour": {"agreement": 3 / 4, "agreement_unseen": 1 / 2},
    }
    assert judge().figures(found) == pytest.approx(
        {
            "attribute_accuracy": 3 / 4,
            "attribute_accuracy_unseen": 1 / 2,
            "attribute_error": 3 / 90,
            "attribute_error_unseen": 4.5 / 90,
        }
    )
    assert set(judge().figures(found)) <= set(METRICS)


def test_without_unseen_combinations_there_are_no_figures_of_them():
    found = agreement(judge(), features([[0.0, 10, 0]], [[0.0, 10, 0]]))
    assert found["colour"] == {"agreement": 1} and set(judge().figures(found)) == {"attribute_accuracy", "attribute_error"}
    assert listed(found)[0] == ["attribute", "samples", "real"]


def test_what_is_not_asked_for_is_not_judged():
    values = torch.tensor([[1.0, 10, 1], [2, 20, 0]])
    some = judge().requested(values, Attributes(FIELDS, ["rotation", "digit"]))
    assert some[:, :2].tolist() == values[:, :2].tolist() and some[:, 2].isnan().all()
    found = agreement(judge(), features(some.tolist(), values.tolist()))
    assert found == {"digit": {"agreement": 1}, "rotation": {"error": 0}}  # without the colours no combination is new
    assert judge().requested(values, ClassLabel(["0", "1", "2"])) is None
    assert judge(condition=ClassLabel(["0", "1", "2"])).fields == [] and judge(recognizer=None).read(values) is None


def test_a_recognizer_reads_what_it_knows_alone():
    other = Attributes([FIELDS[2], Category("digit", ("a", "b")), FIELDS[1]])  # another digit, another order
    known = judge(recognizer=other)
    assert known.fields == [FIELDS[1], FIELDS[2]]
    outputs = torch.tensor([[0.1, 0.7, 5, 2, 0.5], [3, 1, 0, 1, -1]])
    assert known.read(outputs).tolist() == [[22.5, 1], [-45, 0]]


def test_real_images_stand_beside_generated_ones():
    found = with_real({"digit": {"agreement": 0.5}}, {"digit": {"agreement": 1.0, "agreement_unseen": 0.9}, "rotation": {}})
    assert found == {"digit": {"agreement": 0.5, "real_agreement": 1.0}}
    lines = listed({"digit": {"agreement": 0.5, "agreement_unseen": 0.25, "real_agreement": 1.0}, "age": {"error": 3.14159}})
    assert lines == [
        ["attribute", "samples", "real", "unseen", "real"],
        ["digit, agreement", "0.500", "1.000", "0.250", ""],
        ["age, error", "3.14", "", "", ""],
    ]
    assert listed({}) == []


class Marks(torch.nn.Module):
    """Reads the attributes from the pixels in which `marked` writes them."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, x):
        level = (x[:, 0, 0, :3] + 1) * 127.5  # digit, rotation, colour
        vectors = CONDITION.encode_values(torch.stack([level[:, 0], level[:, 1] - 45, level[:, 2]], dim=1).round())
        return x.flatten(1)[:, :16], vectors


def marked(digit, rotation, colour):
    """Images (N, 1, 8, 8) that say their attributes, among noise."""
    images = torch.randint(256, (len(digit), 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, :3] = torch.stack([digit, rotation + 45, colour], dim=1).to(torch.uint8)
    return images


class Source:
    """600 images; 1 in blue is in the test part alone."""

    def load(self, decoding=None):
        stream = torch.Generator().manual_seed(1)
        tables = []
        for part in range(2):
            values = torch.stack([torch.randint(n, (600,), generator=stream) for n in (3, 90, 2)], dim=1)
            values[:, 1] -= 45
            if part == 0:
                values[values[:, 0] == 1, 2] = 0
            tables.append(Table(marked(*values.unbind(1)), values[:, 0], values.float()))
        return Tables(*tables, ["0", "1", "2"], FIELDS)


@pytest.fixture
def data():
    return DataModule(Source(), Attributes, split=100)


@pytest.fixture
def recognizer():
    return Custom("marks", Marks(), (1, 8, 8), classes=["0", "1", "2"], fields=CONDITION.config()["fields"])


def test_the_evaluator_judges_seen_and_unseen_combinations(data, recognizer, tmp_path):
    evaluator = Evaluator(recognizer, data, "test")
    rows = evaluator.matching_rows(300)
    values = evaluator.part.values[rows]
    shown = values.clone()
    shown[values[:, 0] == 1, 2] = 0  # what it has not seen it does not make
    shown[:, 1] = (shown[:, 1] + 9).clamp(max=45)
    images = marked(*shown.unbind(1))
    wanted = evaluator.reader.requested(values, data.condition)
    labels = evaluator.part.labels[rows]
    assert evaluator.extract(images, labels, wanted).logits.shape == (300, 3)  # the digit's alone
    generated = evaluator.given(images, labels, wanted, metrics=["fid", "label_accuracy", *ATTRIBUTES])
    record = evaluator.record(generated, with_floors=True, weights="given", source="x", step=None)
    unseen = (values[:, 0] == 1) & (values[:, 2] == 1)
    assert 20 < unseen.sum() < 100
    assert record.figures["label_accuracy"] == 1 and record.figures["attribute_accuracy"] == 1
    assert record.attributes["colour"] == {
        "agreement": 1,
        "agreement_unseen": 0,
        "real_agreement": 1,
        "real_agreement_unseen": 1,
    }
    assert record.figures["attribute_accuracy_unseen"] == 0.5 and record.floors["attribute_accuracy_unseen"] == 1
    off = (shown[:, 1] - values[:, 1])[~unseen].mean().item()
    assert record.attributes["rotation"]["error"] == pytest.approx(off, abs=1e-4)
    assert record.figures["attribute_error"] == pytest.approx(off / 90, abs=1e-5) and record.floors["attribute_error"] < 1e-5
    write_record(tmp_path / "metrics.json", record)
    assert read_records(tmp_path / "metrics.json") == [record]
    assert "colour, agreement" in table(record) and "unseen" in table(record)


def test_validation_has_no_unseen_combinations_and_other_conditions_no_attributes(data, recognizer):
    evaluator = Evaluator(recognizer, data, "val")
    assert set(evaluator.reader.figures(agreement(evaluator.reader, evaluator.reference))) == {
        "attribute_accuracy",
        "attribute_error",
    }
    labelled = DataModule(Source(), ClassLabel, split=100)
    found = Evaluator(recognizer, labelled, "test")
    assert found.reference.requested is None and found.recognizes.tolist() == [0, 1, 2]
    assert agreement(found.reader, found.reference) == {}
    assert found.fingerprint == Evaluator(recognizer, data, "test").fingerprint


def test_a_recognizer_without_the_classes_recognizes_none(data):
    recognizer = Custom("marks", Marks(), (1, 8, 8), fields=CONDITION.config()["fields"])
    evaluator = Evaluator(recognizer, data, "test")
    assert evaluator.recognizes is None and evaluator.reference.read is not None
    with pytest.raises(CondgenError, match="tells 3 classes apart"):
        Custom("marks", Marks(), (1, 8, 8), classes=["0", "1", "2"], fields=CONDITION.config()["fields"]).recognizes(["a"], 3)


def test_the_shipped_recognizer_is_as_good_as_its_card_says():
    extractor = Shipped("mnist-attributes")
    tables = MNISTAttributes(samples=1000).load()
    card = json.loads((SHIPPED / "mnist-attributes.json").read_text())
    assert extractor.attributes.config()["fields"] == Attributes(tables.fields).config()["fields"]
    _, outputs = extractor(tables.test.images)
    off = (extractor.attributes.values(outputs) - tables.test.values).abs()
    for i, (name, error) in enumerate(card["errors"]["test"].items()):
        found = off[:, i].mean() if name == "rotation" else (off[:, i] > 0).float().mean()
        assert found.item() == pytest.approx(error, abs=0.3 if name == "rotation" else 0.006), name
