"""Protocols: what is compared with what, and what is refused."""

from dataclasses import fields, replace

import pytest

from condgen.errors import CondgenError
from condgen.metrics.protocol import SAMPLING, Protocol, read_protocol, require_same, thousands

PROTOCOL = Protocol("mnist-cnn", "1a2b3c4d" * 8, "val", "0f1e2d3c" * 3, 5000, 2000, "none", 0, "ema")
SAMPLED = {"truncation": 0.7, "temperature": 0.8, "guidance": 1.5, "standing": 8, "steps": 20, "solver": "heun"}
SAMPLED |= {"likelihood": "bits-50", "start": "edges", "trials": 60, "top_k": 40, "top_p": 0.9}
OTHER = Protocol("inception", "ff" * 32, "test", "ee" * 12, 10000, 10000, "32x32 to 28x28, bilinear", 1, "raw", **SAMPLED)


def test_the_name_says_extractor_split_and_count():
    assert PROTOCOL.name == "mnist-cnn/val-2k"
    assert replace(PROTOCOL, generated=2500).name == "mnist-cnn/val-2500"
    assert replace(PROTOCOL, extractor="hype", reference="test", generated=30, trials=60).name == "hype/test-n60"
    assert [thousands(count) for count in (0, 999, 1000, 10000)] == ["0", "999", "1k", "10k"]


def test_a_stamp_reads_back():
    for protocol in (PROTOCOL, OTHER):
        assert read_protocol(protocol.stamp(), "here") == protocol


def test_the_measurement_leaves_out_how_the_model_was_sampled_and_nothing_else():
    for field in fields(Protocol):
        changed = replace(PROTOCOL, **{field.name: getattr(OTHER, field.name)})
        assert (changed.measurement == PROTOCOL.measurement) is (field.name in SAMPLING), field.name


def test_unlike_protocols_are_refused_by_the_name_of_what_differs():
    require_same([], "averaged")
    require_same([PROTOCOL], "averaged")
    require_same([PROTOCOL, replace(PROTOCOL), replace(PROTOCOL)], "averaged")
    for field in fields(Protocol):
        changed = replace(PROTOCOL, **{field.name: getattr(OTHER, field.name)})
        with pytest.raises(CondgenError, match=f"cannot be averaged: {field.name} is .+ in one and .+ in another"):
            require_same([PROTOCOL, PROTOCOL, changed], "averaged")


@pytest.mark.parametrize("stamp", [None, 3, [], {}, {"extractor": "mnist-cnn"}, PROTOCOL.stamp() | {"mood": "good"}])
def test_an_incomplete_stamp_is_refused(stamp):
    with pytest.raises(CondgenError, match=r"^here holds figures without a complete protocol"):
        read_protocol(stamp, "here")


@pytest.mark.parametrize(
    "change", [{"generated": "many"}, {"extractor": None}, {"truncation": "0.7"}, {"seed": 0.5}, {"steps": 2.5}, {"solver": 3}]
)
def test_a_stamp_of_wrong_types_is_refused(change):
    with pytest.raises(CondgenError, match=rf"^here .* damaged: {next(iter(change))} cannot be"):
        read_protocol(PROTOCOL.stamp() | change, "here")


def test_a_whole_number_is_a_truncation():
    assert read_protocol(PROTOCOL.stamp() | {"truncation": 1}, "here") == replace(PROTOCOL, truncation=1.0)
