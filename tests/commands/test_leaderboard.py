"""``condgen leaderboard``: exact tables from invented figures, and what is never put together."""

import csv
import json
import math
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from condgen.config.build import plain
from condgen.config.folder import conf_dir
from condgen.errors import CondgenError
from condgen.metrics.protocol import SAMPLING, Protocol
from condgen.metrics.record import Record, write_record
from condgen.metrics.standings import Entry, Row
from condgen.run.stored import read_run

PROTOCOL = Protocol("mnist-cnn", "1a2b3c4d" * 8, "test", "0f1e2d3c" * 3, 10000, 10000, "none", 0, "ema")
HEADING = "mnist-cnn (sha256 1a2b3c4d) | 10,000 generated against 10,000 images of test (data 0f1e2d3c) | resize none | seed 0"
FLOORS = {"fid": 0.41, "label_accuracy": 0.9958}
LEGEND = "Mean ± sample standard deviation over seeds; floor: real images in the place of generated ones; "


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which everything fits."""
    monkeypatch.setenv("COLUMNS", "300")


def settings(seed: int, directory: Path, **changes: object) -> dict:
    """Return a small configuration with everything that follows from a run's seed and folder."""
    model = {"_target_": "condgen.training.gan.GAN", "latent": 64, "generator": {"width": 32}}
    config = {
        "seed": seed,
        "run": {"name": "digits", "threads": None},
        "paths": {"output_dir": str(directory)},
        "data": {"batch_size": 64, "split_seed": 0, "seed": seed},
        "model": model,
        "callbacks": {"samples": {"seed": 0}, "report": {"folder": f"{directory}/report"}},
        "logger": {"csv": {"directory": str(directory)}},
    }
    for key, value in changes.items():
        *above, last = key.split("__")
        node = config
        for part in above:
            node = node[part]
        node[last] = value
    return config


def put(folder: Path, figures: dict, protocol: Protocol = PROTOCOL, age: int = 0, **about: object) -> Path:
    """Write one record that is ``age`` seconds old."""
    path = folder / "metrics.json"
    write_record(path, Record(protocol, figures, **({"floors": FLOORS, "source": "best", "step": 100} | about)))
    os.utime(path, (1_700_000_000 - age,) * 2)
    return path


def put_run(root: Path, seed: int, figures: dict, protocol: Protocol = PROTOCOL, folder: str = "", **changes: object) -> Path:
    """Write a run directory as training leaves it, and one measurement of it."""
    run = root / "outputs" / (folder or f"digits/{seed}")
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(settings(seed, run, **changes), sort_keys=False))
    (run / "metrics.json").write_text(json.dumps({"last": {"step": 100}, "best": {"step": 100}}))
    return put(run / "evaluation" / f"test-{protocol.weights}", figures, protocol)


def table(text: str) -> dict[str, list[list[str]]]:
    """Split printed sections into rows of cells by their rules' dashes: {heading: rows, the titles first}."""
    sections: dict[str, list[list[str]]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if set(line) == {"-", " "}:
            edges = [0, *(i for i in range(1, len(line)) if line[i - 1] == " " and line[i] == "-"), None]
            block = [lines[number - 1], *lines[number + 1 : lines.index("", number)]]
            cells = [[row[a:b].strip() for a, b in pairwise(edges)] for row in block]
            heading = next(above for above in reversed(lines[:number]) if "(sha256" in above)
            sections[heading] = cells
    return sections


# --- rows ---


def test_the_exact_table(run_condgen, tmp_path):
    """Everything at once, letter by letter: mean, spread, best, blank, floor, order."""
    for seed, fid, accuracy in ((0, 5.0, 0.97), (1, 6.0, 0.98), (2, 7.0, 0.99)):
        put_run(tmp_path, seed, {"fid": fid, "label_accuracy": accuracy})
    put_run(tmp_path, 0, {"fid": 33.456}, folder="plain/0", run__name="plain")
    put(
        tmp_path / "outputs" / "others",
        {"fid": 12.0, "label_accuracy": 0.5},
        replace(PROTOCOL, weights="given"),
        source="theirs",
    )
    result = run_condgen("leaderboard", "outputs")
    assert result.code == 0 and result.err == "", result
    assert result.out.splitlines() == [
        HEADING,
        "",
        "run                      weights  seeds          FID ↓  label accuracy ↑",
        "-----------------------  -------  -----  -------------  ----------------",
        "digits                   ema          3   6.00 ± 1.00*    0.980 ± 0.010*",
        "theirs                   given           12.00            0.500",
        "plain                    ema          1  33.46",
        "floor (training images)                   0.41            0.996",
        "",
        "",
        LEGEND + "* best of its column.",
    ]


def test_mean_and_sample_deviation(run_condgen, tmp_path):
    values = np.array([4.13, 5.21, 4.87, 4.4])
    for seed, value in enumerate(values):
        put_run(tmp_path, seed, {"fid": float(value)})
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert rows[1][1:] == ["4", f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"]


def test_a_run_of_another_configuration_is_another_row_that_says_what_differs(run_condgen, tmp_path):
    for seed in (0, 1):
        put_run(tmp_path, seed, {"fid": 5.0 + seed}, folder=f"a/{seed}")
        put_run(tmp_path, seed, {"fid": 4.0 + seed}, folder=f"b/{seed}", model__latent=128, data__batch_size=32)
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert [row[:3] for row in rows[1:3]] == [
        ["digits (model.latent=128, data.batch_size=32)", "2", "4.50 ± 0.71*"],
        ["digits (model.latent=64, data.batch_size=64)", "2", "5.50 ± 0.71"],
    ]


RECIPES = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("mnist_quick", "cifar10_inpaint"))) for name in RECIPES],
)
def test_a_recipe_repeated_with_another_seed_is_the_same_run(experiment, tmp_path):
    """Everything in conf/ that follows from the seed or the run directory is known to do so."""
    runs = []
    for seed in (0, 1):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            overrides = [f"experiment={experiment}", f"seed={seed}", "run.name=test", f"paths.output_dir={tmp_path}/{seed}"]
            overrides += ["data.source.path=recordings.zip"] * experiment.startswith("spoken_digits")
            config = plain(compose("train", overrides))
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        runs.append(read_run(tmp_path / "config.yaml"))
    assert runs[0].identity == runs[1].identity and [run.seed for run in runs] == ["0", "1"]


def test_of_many_differences_those_that_tell_runs_apart_are_shown(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 1.0}, folder="a")
    other = {"_target_": "condgen.training.vae.VAE", "latent": 8, "beta": 2.0, "encoder": {"width": 16}}
    put_run(tmp_path, 0, {"fid": 2.0}, folder="b", model=other, data__batch_size=512)
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert [row[0] for row in rows[1:3]] == ["digits (model=GAN, ...)", "digits (model=VAE, ...)"]


def test_seeds_of_callbacks_do_not_count_as_repetitions(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 1.0}, folder="a")
    put_run(tmp_path, 0, {"fid": 2.0}, folder="b", callbacks__samples__seed=5)
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert len(rows) == 3 and rows[1][1] == "1"


def test_the_same_seed_counts_once_the_newest(run_condgen, tmp_path):
    old = put_run(tmp_path, 0, {"fid": 9.0}, folder="first")
    put_run(tmp_path, 0, {"fid": 5.0}, folder="second")
    put_run(tmp_path, 1, {"fid": 7.0}, folder="third")
    os.utime(old, (1_600_000_000,) * 2)
    result = run_condgen("leaderboard", "outputs")
    (rows,) = table(result.out).values()
    assert rows[1] == ["digits", "2", "6.00 ± 1.41"]
    left_out = f"Left out, because the same run and seed was measured again later: {old.relative_to(tmp_path)}."
    assert left_out in result.out.splitlines()


def test_checkpoints_are_not_averaged_with_each_other(run_condgen, tmp_path):
    path = put_run(tmp_path, 0, {"fid": 5.0})
    put(path.parents[1] / "last", {"fid": 6.0}, source="last")
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert [row[:4] for row in rows] == [
        ["run", "checkpoint", "seeds", "FID ↓"],
        ["digits", "best", "1", "5.00*"],
        ["digits", "last", "1", "6.00"],
        ["floor (training images)", "", "", "0.41"],
    ]


def test_a_metric_of_some_seeds_says_how_many_and_a_failed_seed_is_not_hidden(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 5.0, "cas": 0.9, "is": 8.0})
    put_run(tmp_path, 1, {"fid": 6.0, "cas": 0.8, "is": math.nan})
    put_run(tmp_path, 2, {"fid": 7.0, "is": 9.0})
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert rows[0][3:] == ["IS ↑", "CAS ↑"]
    assert rows[1][2:] == ["6.00 ± 1.00", "nan ± nan", "0.850 ± 0.071 (n=2)"]


def test_images_of_others_are_a_row_each(run_condgen, tmp_path):
    given = replace(PROTOCOL, weights="given")
    put(tmp_path / "a", {"fid": 3.0}, given, source="stylegan")
    put(tmp_path / "b", {"fid": 2.0}, given, source="samples")
    put(tmp_path / "c", {"fid": 1.0}, given, source="samples")
    (tmp_path / "config.yaml").write_text("of: something else")
    result = run_condgen("leaderboard", ".")
    (rows,) = table(result.out).values()
    assert rows[:4] == [["run", "FID ↓"], ["samples (c)", "1.00*"], ["samples (b)", "2.00"], ["stylegan", "3.00"]]
    assert result.out.splitlines()[0] == HEADING + " | weights given"


def test_a_run_may_be_moved_and_a_folder_inside_it_be_asked_for(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 5.0})
    put_run(tmp_path, 1, {"fid": 7.0})
    shutil.move(tmp_path / "outputs" / "digits" / "0", tmp_path / "outputs" / "elsewhere")
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert rows[1] == ["digits", "2", "6.00 ± 1.41"]
    (rows,) = table(run_condgen("leaderboard", "outputs/elsewhere/evaluation").out).values()
    assert rows[1] == ["digits", "1", "5.00"]


# --- protocols ---


def test_another_measurement_is_another_section(run_condgen, tmp_path):
    changes = [
        {"sha256": "ff" * 32},
        {"extractor": "inception"},
        {"data": "ee" * 12},
        {"reference": "val", "real": 5000},
        {"generated": 2000},
        {"resize": "32x32 to 28x28, bilinear, antialiased"},
        {"seed": 1},
    ]
    for number, change in enumerate([{}, *changes]):
        put(put_run(tmp_path, 0, {"fid": 5.0}).parents[1] / str(number), {"fid": 6.0}, replace(PROTOCOL, **change))
    found = table(run_condgen("leaderboard", "outputs").out)
    assert len(found) == 1 + len(changes) and HEADING + " | weights ema" in found
    assert ["images of test" in heading for heading in found] == [True] * 7 + [False]
    words = ["sha256 ffffffff", "inception (", "data eeeeeeee", "5,000 images of val", "2,000 generated"]
    for word in [*words, "resize 32x32 to 28x28, bilinear, antialiased |", "seed 1 "]:
        assert sum(word in heading for heading in found) == 1, word
    assert all(len(rows) == 3 for rows in found.values())


def test_how_a_model_was_sampled_is_a_column_where_it_differs_and_never_averaged(run_condgen, tmp_path):
    for seed in (0, 1):
        put_run(tmp_path, seed, {"fid": 5.0 + seed})
        put_run(tmp_path, seed, {"fid": 8.0 + seed}, replace(PROTOCOL, weights="raw", truncation=0.7))
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert rows == [
        ["run", "weights", "truncation", "seeds", "FID ↓"],
        ["digits", "ema", "-", "2", "5.50 ± 0.71*"],
        ["digits", "raw", "0.7", "2", "8.50 ± 0.71"],
        ["floor (training images)", "", "", "", "0.41"],
    ]
    shutil.rmtree(tmp_path / "outputs" / "digits" / "0" / "evaluation" / "test-ema")
    shutil.rmtree(tmp_path / "outputs" / "digits" / "1" / "evaluation" / "test-ema")
    assert run_condgen("leaderboard", "outputs").out.startswith(HEADING + " | weights raw | truncation 0.7\n")


def test_a_row_of_unlike_protocols_is_refused():
    entries = [Entry(Record(replace(PROTOCOL, weights=weights), {"fid": 1.0}), Path("x"), None) for weights in ("ema", "raw")]
    with pytest.raises(CondgenError, match="cannot be averaged: weights is ema in one and raw in another"):
        Row("both", entries, []).figure("fid")


def test_floors_that_differ_are_shown_as_a_range(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 5.0})
    path = put_run(tmp_path, 1, {"fid": 7.0})
    put(path.parent, {"fid": 7.0}, floors={"fid": 0.52})
    result = run_condgen("leaderboard", "outputs")
    assert "floor (training images)         0.41 to 0.52" in result.out
    assert "The records name different floors for fid: their range is shown." in result.out.splitlines()
    put(path.parent, {"fid": 7.0}, floors={"fid": 0.41000001})  # another machine
    assert "floors in" not in run_condgen("leaderboard", "outputs").out
    for seed in (0, 1):
        put(path.parents[3] / str(seed) / "evaluation" / "test-ema", {"fid": 7.0}, floors={})
    assert "floor (" not in run_condgen("leaderboard", "outputs").out


def test_samples_that_start_from_images_have_a_section_of_their_own_with_baselines_below(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 5.0}, folder="digits")
    start = replace(PROTOCOL, start="inpaint, hole 0.5, centred False")
    path = put_run(tmp_path, 0, {"fid": 1.0}, start, folder="inpaint")
    put(path.parent, {"fid": 1.0, "l1": 0.02}, start, baselines={"mean fill": {"fid": 30.0, "l1": 0.06, "is": 2.0}})
    sections = table(run_condgen("leaderboard", "outputs").out)
    assert len(sections) == 2
    (rows,) = [rows for heading, rows in sections.items() if "start inpaint, hole 0.5, centred False" in heading]
    assert rows[0][2:] == ["FID ↓", "L1 ↓"] and [row[2:] for row in rows[1:]] == [
        ["1.00", "0.0200"],
        ["0.41", ""],
        ["30.00", "0.0600"],
    ]
    assert [row[0] for row in rows[2:]] == ["floor (training images)", "baseline (mean fill)"]


# --- columns, order and marks ---


def test_columns_come_in_a_fixed_order_and_only_those_present(run_condgen, tmp_path):
    names = ["cas", "nearest", "kid", "is", "coverage", "recall", "precision", "intra_fid", "fid", "own_metric"]
    put_run(tmp_path, 0, dict.fromkeys(names, 0.5))
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    titles = ["FID ↓", "intra-class FID ↓", "precision ↑", "recall ↑", "coverage ↑", "IS ↑", "KID ↓", "nearest → 1", "CAS ↑"]
    assert rows[0][2:] == [*titles, "own_metric"]


def test_the_best_is_the_lowest_the_highest_or_the_nearest_to_one(run_condgen, tmp_path):
    for seed, figures in enumerate(
        ({"fid": 5.0, "recall": 0.7, "diversity": 0.8}, {"fid": 6.0, "recall": 0.9, "diversity": 1.3}, {"fid": 5.001})
    ):
        put_run(tmp_path, 0, figures, folder=str(seed), run__name="abc"[seed])
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert rows[1:4] == [
        ["a", "1", "5.00*", "0.700", "0.800*"],
        ["c", "1", "5.00*", "", ""],  # no better as printed
        ["b", "1", "6.00", "0.900*", "1.300"],
    ]


@pytest.mark.parametrize(
    ("metric", "order"),
    [("fid", "abc"), ("recall", "bac"), ("diversity", "acb"), ("cas", "cab"), ("own", "bac"), (None, "abc")],
)
def test_sort(metric, order, run_condgen, tmp_path):
    put_run(tmp_path, 0, {"fid": 1.0, "recall": 0.5, "diversity": 0.9, "own": 2.0}, folder="1", run__name="a")
    put_run(tmp_path, 0, {"fid": 2.0, "recall": 0.6, "diversity": 1.4, "own": 1.0}, folder="2", run__name="b")
    put_run(tmp_path, 0, {"fid": 3.0, "recall": 0.4, "diversity": 1.2, "cas": 0.9}, folder="3", run__name="c")
    result = run_condgen("leaderboard", "outputs", *(("--sort", metric) if metric else ()))
    (rows,) = table(result.out).values()
    assert "".join(row[0] for row in rows[1:4]) == order


def test_without_fid_rows_are_sorted_by_name(run_condgen, tmp_path):
    for name in "ba":
        put_run(tmp_path, 0, {"recall": 0.5}, folder=name, run__name=name)
    (rows,) = table(run_condgen("leaderboard", "outputs").out).values()
    assert [row[0] for row in rows[1:3]] == ["a", "b"]


def test_a_narrow_terminal_gets_the_columns_below_each_other(run_condgen, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "65")
    for seed in (0, 1):
        put_run(tmp_path, seed, {"fid": 5.0, "label_accuracy": 0.98, "recall": 0.5, "coverage": 0.5})
    lines = run_condgen("leaderboard", "outputs").out.splitlines()[2:-1]
    assert max(map(len, lines)) <= 65
    assert [line.split("  ")[0] for line in lines].count("digits") == 2
    assert sum("coverage ↑" in line for line in lines) == 1 and sum("seeds" in line for line in lines) == 1


def test_names_cannot_move_the_cursor(run_condgen, tmp_path):
    put(tmp_path / "a", {"fid": 3.0}, replace(PROTOCOL, weights="given"), source="\x1b[2Jgone\nfishing")
    assert "?[2Jgone?fishing" in run_condgen("leaderboard", ".").out


# --- files ---


def test_csv_is_a_line_a_figure_with_its_whole_protocol(run_condgen, tmp_path):
    values = [5.0, 6.5, 7.0]
    for seed, value in zip((0, 2, 10), values, strict=True):
        put_run(tmp_path, seed, {"fid": value, "recall": 0.5})
    raw = replace(PROTOCOL, weights="raw", truncation=0.7, steps=20, seed=3)
    put(tmp_path / "outputs" / "x", {"fid": 9.0}, replace(raw, weights="given"), source='a "name", with signs', floors={})
    (tmp_path / "table.csv").write_text("old")
    result = run_condgen("leaderboard", "outputs", "--out", "table.csv")
    assert result.code == 0 and result.out.splitlines()[-1] == "written to table.csv"
    first, second, other = csv.DictReader((tmp_path / "table.csv").open(newline=""))
    renamed = {"seed": "evaluation_seed", "steps": "sampling_steps"}  # not those of a run
    stamp = {renamed.get(key, key): str(value) for key, value in PROTOCOL.stamp().items()}
    assert first == {
        "run": "digits",
        "checkpoint": "best",
        "metric": "fid",
        "mean": str(np.mean(values)),
        "std": first["std"],
        "n": "3",
        "floor": "0.41",
        "floor_of": "training images",
        **stamp,
        **{renamed.get(key, key): "" for key in (*SAMPLING[1:], "start", "trials")},
        "seeds": "0 2 10",
        "steps": "100 100 100",
        "sources": "best; best; best",
    }
    assert float(first["std"]) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert (second["metric"], second["mean"], second["std"], second["floor"]) == ("recall", "0.5", "0.0", "")
    assert (other["run"], other["std"], other["n"], other["truncation"]) == ('a "name", with signs', "", "1", "0.7")
    assert (other["weights"], other["evaluation_seed"], other["floor"], other["seeds"]) == ("given", "3", "", "")
    assert other["sampling_steps"] == "20"
    assert not list(tmp_path.glob(".*.tmp"))


def test_markdown_reads_back_as_the_table_on_the_terminal(run_condgen, tmp_path):
    for seed in (0, 1):
        put_run(tmp_path, seed, {"fid": 5.0 + seed, "label_accuracy": 0.98}, run__name="digits_one|two")
    put_run(tmp_path, 0, {"fid": 7.0}, folder="b", run__name="*plain*")
    result = run_condgen("leaderboard", "outputs", "--out", "README.MD")
    lines = (tmp_path / "README.MD").read_text(encoding="utf-8").splitlines()
    assert lines == [
        HEADING + " | weights ema",
        "",
        "| run                     | seeds |           FID ↓ | label accuracy ↑ |",
        "| ----------------------- | ----: | --------------: | ---------------: |",
        "| digits_one\\|two         |     2 | **5.50 ± 0.71** |    0.980 ± 0.000 |",
        "| \\*plain\\*               |     1 |            7.00 |                  |",
        "| floor (training images) |       |            0.41 |            0.996 |",
        "",
        LEGEND + "bold: best of its column.",
    ]
    (printed,) = table(result.out).values()
    for line, row in zip(lines[4:7], printed[1:], strict=True):
        cells = [cell.strip().replace("**", "").replace("\\", "") for cell in line[1:-1].replace("\\|", "\0").split("|")]
        assert [cell.replace("\0", "|") for cell in cells] == [cell.rstrip("*") if "." in cell else cell for cell in row]


# --- refusals ---


def test_nothing_to_show(run_condgen, tmp_path):
    assert run_condgen("leaderboard", "nowhere").sentence().startswith("There is no folder nowhere")
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    (tmp_path / "outputs" / "run" / "metrics.json").write_text('{"last": {"step": 2}, "best": {"step": 2}}')
    sentence = run_condgen("leaderboard", "outputs").sentence()
    assert sentence == "outputs holds no measurements: make some with condgen evaluate."
    assert run_condgen("leaderboard", "outputs/run/metrics.json").sentence().startswith("There is no folder")


def test_an_unknown_metric_and_another_ending(run_condgen, tmp_path):
    put_run(tmp_path, 0, {"recall": 0.5, "fid": 3.0})
    sentence = run_condgen("leaderboard", "outputs", "--sort", "beauty", "--out", "a.csv").sentence()
    assert sentence == "--sort beauty is a metric of no record: take one of fid, recall."
    assert run_condgen("leaderboard", "outputs", "--out", "a.txt").sentence() == "--out a.txt must end in .csv or .md."
    assert run_condgen("leaderboard", "outputs", "--out", "a").sentence() == "--out a must end in .csv or .md."
    assert not list(tmp_path.glob("a*"))


def test_a_damaged_file_is_named_and_nothing_is_written(run_condgen, tmp_path):
    path = put_run(tmp_path, 0, {"fid": 3.0})
    (tmp_path / "table.md").write_text("old")
    whole = path.read_text()
    for damaged, complaint in (
        (whole[:100], "damaged"),
        (whole.replace('"sha256"', '"sha"'), "without a complete protocol"),
    ):
        path.write_text(damaged)
        sentence = run_condgen("leaderboard", "outputs", "--out", "table.md").sentence()
        assert str(path.relative_to(tmp_path)) in sentence and complaint in sentence
    path.write_text(whole)
    config = path.parents[2] / "config.yaml"
    config.write_text("seed: [")
    sentence = run_condgen("leaderboard", "outputs", "--out", "table.md").sentence()
    assert sentence == f"{config} could not be read as the configuration of a run: it is damaged."
    assert (tmp_path / "table.md").read_text() == "old"


def test_a_checkpoint_without_its_run_is_a_row_of_its_own(run_condgen, tmp_path):
    for name in "ab":
        put(tmp_path / "measured" / name, {"fid": 3.0})
    (rows,) = table(run_condgen("leaderboard", "measured").out).values()
    assert [row[0] for row in rows[1:3]] == ["best (measured/a)", "best (measured/b)"]


def test_help(run_condgen):
    result = run_condgen("leaderboard", "--help")
    assert result.code == 0 and "--sort" in result.out and "--out" in result.out
