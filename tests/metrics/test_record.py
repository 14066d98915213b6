"""Records: what is written reads back, what is damaged is named."""

import json
import math
from dataclasses import replace

import pytest

from condgen.errors import CondgenError
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record, read_records, write_record

PROTOCOL = Protocol("mnist-cnn", "1a2b3c4d" * 8, "val", "0f1e2d3c" * 3, 5000, 2000, "none", 0, "ema")
RECORD = Record(
    PROTOCOL,
    figures={"fid": 5.25, "label_accuracy": 1.0},
    floors={"fid": 0.5},
    per_class={"label_accuracy": [0.5, 1.0]},
    classes=["cat", "dog"],
    confusion=[[1, 1, 0], [0, 2, 0]],
    source="best",
    step=7,
    baselines={"mean fill": {"fid": 40.5, "l1": 0.25}},
)


def test_a_record_reads_back(tmp_path):
    write_record(tmp_path / "deep" / "metrics.json", RECORD)
    assert read_records(tmp_path / "deep" / "metrics.json") == [RECORD]
    least = Record(PROTOCOL, {"fid": 5.25})
    write_record(tmp_path / "metrics.json", least)
    assert read_records(tmp_path / "metrics.json") == [least]


def test_names_carry_the_protocol():
    assert RECORD.named() == {"quality/fid/mnist-cnn/val-2k": 5.25, "quality/label_accuracy/mnist-cnn/val-2k": 1.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_null_in_the_file_and_nan_again_when_read(value, tmp_path):
    path = tmp_path / "metrics.json"
    write_record(path, replace(RECORD, figures={"fid": value}, per_class={"intra_fid": [1.0, value]}))
    json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    (read,) = read_records(path)
    assert math.isnan(read.figures["fid"]) and math.isnan(read.per_class["intra_fid"][1])


@pytest.mark.parametrize("stored", [{}, {"quality": []}, {"last": {"step": 2}, "best": {"step": 2}}])
def test_a_run_without_figures_has_no_records(stored, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(stored))
    assert read_records(tmp_path / "metrics.json") == []


GOOD = {"protocol": PROTOCOL.stamp(), "figures": {"fid": 1.0}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"quality": [',
        "[]",
        '{"quality": 3}',
        '{"quality": [3]}',
        json.dumps({"quality": [{"protocol": PROTOCOL.stamp()}]}),
        json.dumps({"quality": [GOOD | {"figures": [1.0]}]}),
        json.dumps({"quality": [GOOD | {"figures": {"fid": "good"}}]}),
        json.dumps({"quality": [GOOD | {"floors": None}]}),
        json.dumps({"quality": [GOOD | {"baselines": {"mean fill": 3}}]}),
        json.dumps({"quality": [GOOD | {"mood": "good"}]}),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_named(text, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(CondgenError, match=f"^{path} could not be read .* damaged"):
        read_records(path)


def test_bytes_that_are_no_text_and_a_missing_file_are_named(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CondgenError, match=f"^{path} could not be read"):
        read_records(path)
    with pytest.raises(CondgenError, match=r"nowhere\.json could not be read"):
        read_records(tmp_path / "nowhere.json")


@pytest.mark.parametrize("change", [{"protocol": None}, {"protocol": {"extractor": "mnist-cnn"}}])
def test_figures_without_their_protocol_are_refused(change, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"quality": [GOOD | change]}))
    with pytest.raises(CondgenError, match=f"^{path} holds figures without a complete protocol"):
        read_records(path)


def test_a_protocol_is_not_optional(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"quality": [{"figures": {"fid": 1.0}}]}))
    with pytest.raises(CondgenError, match="without a complete protocol"):
        read_records(path)
