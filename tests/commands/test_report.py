"""``condgen report``: one page that needs nothing else."""

import base64
import io
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from condgen.files import save_png
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record, write_record
from condgen.report import write_report
from condgen.reporting.charts import confusion_chart

PROTOCOL = Protocol("mnist-cnn", "5ha" * 8, "val", "da7a" * 6, 5000, 2500, "none", 7, "ema", truncation=0.7)
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Reads a page: its text, its tags, its pictures and the cells of its tables."""

    def __init__(self, path: Path):
        super().__init__()
        self.open, self.tags, self.attributes, self.pictures = [], [], [], []
        self.text, self.rows = "", []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, "tags that were never closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            kind, data = dict(attrs)["src"].split(",")
            assert kind == "data:image/png;base64"
            image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"])
            image.load()
            self.pictures.append((dict(attrs)["alt"], image))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def run(gan_run, tmp_path, real_curves):
    """A copy of a trained run with one evaluation beside it."""
    run = tmp_path / "outputs" / "digits" / "2026-01-01"
    shutil.copytree(gan_run, run)
    folder = run / "evaluation" / "best-val"
    figures = {"fid": 3.14159, "label_accuracy": 0.98765, "kid": math.inf, "novel<i>": 12.5}
    per_class = {"label_accuracy": [0.75, 1.0], "intra_fid": [20.0, math.nan]}
    counts = [[3, 1, 0], [0, 4, 0]]
    floors = {"fid": 0.4321, "label_accuracy": 0.9912}
    write_record(
        folder / "metrics.json", Record(PROTOCOL, figures, floors, per_class, ["<b>", "ship & co"], counts, "best", 1234)
    )
    save_png(folder / "confusion.png", confusion_chart(counts, ["<b>", "ship & co"]))
    save_png(folder / "neighbours.png", torch.zeros(3, 8, 40, dtype=torch.uint8))
    save_png(folder / "own <idea>.png", torch.zeros(1, 8, 8, dtype=torch.uint8))
    return run


def test_a_report_holds_all_of_a_run(run, run_condgen):
    result = run_condgen("report", run)
    assert result.code == 0 and result.out.strip() == str(run / "report.html"), result
    page = Page(run / "report.html")
    assert ["Metric", "Generated", "Floor", "Better"] in page.rows
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["FID"] == ["3.14", "0.43", "lower"] and rows["label accuracy"] == ["0.988", "0.991", "higher"]
    assert rows["KID"][0] == "not a number" and rows["novel<i>"] == ["12.5", "", ""]
    assert rows["<b>"] == ["0.750", "20.00"] and rows["ship & co"] == ["1.000", "not a number"]
    for said in ("mnist-cnn", "5ha" * 8, "val", "da7a" * 6, "5,000", "2,500", "none", "7", "ema", "truncation", "0.7", "1,234"):
        assert re.search(rf"\b{said}\b", page.text), said
    assert "guidance" not in page.text  # there was none
    assert "GAN · MLPGenerator · MNIST" in page.text and "2 updates" in page.text
    assert "_target_: condgen.training.gan.GAN" in page.text  # the configuration
    captions = [caption for caption, _ in page.pictures]
    assert [caption.split()[0] for caption in captions] == ["Class", "Generated", "own", "step-00000002:", "All"]
    assert captions[2] == "own <idea>"
    with Image.open(run / "curves.png") as chart:
        assert page.pictures[-1][1].tobytes() == chart.tobytes()


def test_a_report_needs_nothing_from_outside(run):
    page = Page(write_report(run))
    assert not {"script", "link", "iframe", "object", "base", "b", "i"} & set(page.tags)
    assert not [(name, value) for name, value in page.attributes if "//" in (value or "") and name != "src"]
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "href"]
    written = re.sub(r"base64,[\w+/=]+", "", (run / "report.html").read_text())
    assert not re.search(r"https?://|url\(|@import", written)


def test_a_report_is_the_same_each_time_and_leaves_no_traces(run):
    written = {run / "report.html", run / "curves.png"}
    for path in written:  # by the training
        path.unlink(missing_ok=True)
    before = set(run.rglob("*"))
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert set(run.rglob("*")) - before == written


def test_what_a_run_lacks_is_left_out(vae_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    page = Page(write_report(run))
    assert "Evaluation" not in page.text and "val/loss" in page.text and "Last and best" in page.text
    for name, gone in (("metrics.csv", "Curves"), ("samples", "Samples"), ("metrics.json", "Last and best")):
        assert gone in page.text
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        page = Page(write_report(run))
        assert gone not in page.text
    assert "VAE" in page.text and not page.pictures


def test_figures_alone_are_enough(run, tmp_path):
    shutil.copytree(run / "evaluation", tmp_path / "alone" / "evaluation")
    page = Page(write_report(tmp_path / "alone"))
    assert "3.14" in page.text and "configuration is not there" in page.text


def test_what_is_damaged_is_told_or_left_out(run):
    (run / "config.yaml").write_text("model: [<script>alert(1)</script>")
    (run / "metrics.csv").write_bytes(b"\xff\xfe,\x00\n1,2")
    (run / "metrics.json").write_text('{"last": {"step": ')
    (run / "evaluation" / "other").mkdir()
    (run / "evaluation" / "other" / "metrics.json").write_text("{")
    whole = (run / "evaluation" / "best-val" / "confusion.png").read_bytes()
    (run / "evaluation" / "best-val" / "confusion.png").write_bytes(whole[: len(whole) // 2])
    (run / "samples" / "step-99999999.png").write_text("no picture")
    page = Page(write_report(run))
    assert "script" not in page.tags and "<script>alert(1)" in page.text
    assert "3.14" in page.text and "damaged" in page.text
    assert [caption.split()[0] for caption, _ in page.pictures] == ["Generated", "own", "step-00000002:"]


@pytest.mark.parametrize("name", ["empty", "nowhere", "file"])
def test_a_place_without_a_run(name, run_condgen, tmp_path):
    (tmp_path / "empty" / "evaluation").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    before = set(tmp_path.rglob("*"))
    assert "no run directory" in run_condgen("report", name).sentence()
    assert set(tmp_path.rglob("*")) == before
