"""``condgen study``: balanced and seeded trials, a page that knows no answer, figures that are right, and refusals."""

import json
import random
import re
import shutil
import socket
from collections import Counter
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from pages import CLASSES, begin, client_of, put_study, respond, stored_answers
from PIL import Image
from recipes import make_model
from scipy.stats import binomtest

from condgen import study as verb
from condgen.conditions import NoCondition
from condgen.data.sources import MNIST
from condgen.errors import CondgenError
from condgen.listening import listen
from condgen.metrics.intervals import wilson
from condgen.metrics.record import read_records
from condgen.studies.results import write_results
from condgen.studies.server import HEADERS, PAGE, application
from condgen.studies.trials import BLOCK, arranged, paired, read_study

# --- statistics ---


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_intervals_are_those_of_scipy(confidence: float) -> None:
    for n in (1, 2, 7, 60, 500):
        for k in {0, 1, n // 3, n - 1, n}:
            expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
            assert wilson((k, n), confidence) == pytest.approx((expected.low, expected.high), abs=1e-12), (k, n)
    assert wilson((0, 0)) == (0.0, 1.0)


# --- what is shown ---


def test_half_is_real_in_each_class_and_in_each_block() -> None:
    labels = torch.cat([torch.arange(200) % 3, torch.tensor([2] * 500)])  # the third class is common
    rows, classes, keys = arranged(labels, 62, seed=5)
    assert len(rows) == 62 and labels[rows].tolist() == classes
    counts = Counter(zip(keys, classes, strict=True))
    for label in range(3):
        assert counts["real", label] == counts["generated", label] in (10, 11)
    for end in range(BLOCK, 62, BLOCK):
        assert Counter(keys[:end])["real"] == end // 2
    real = {row for row, key in zip(rows, keys, strict=True) if key == "real"}
    assert len(real) == 31 and real.isdisjoint(row for row, key in zip(rows, keys, strict=True) if key == "generated")
    assert arranged(labels, 62, seed=5) == (rows, classes, keys) != arranged(labels, 62, seed=6)


def test_pairs_are_balanced_over_classes_and_sides() -> None:
    rows, classes, keys = paired(torch.arange(90) % 3, 60, seed=1)
    assert Counter(classes) == {0: 20, 1: 20, 2: 20} and Counter(keys) == {"left": 30, "right": 30}
    assert len(set(rows)) == 60 and keys != sorted(keys)


def test_too_few_images_and_odd_numbers_are_refused() -> None:
    with pytest.raises(CondgenError, match="even"):
        arranged(torch.zeros(100, dtype=torch.int64), 61, 0)
    with pytest.raises(CondgenError, match="5 real images of class 1 and 11 are needed: set trials lower"):
        arranged(torch.tensor([0] * 50 + [1] * 5), 40, 0)


# --- a run, from command to report ---


def test_a_run_is_studied_and_its_report_and_the_leaderboard_show_it(gan_run, run_condgen, tmp_path) -> None:
    run = tmp_path / "outputs" / "digits" / "a"
    shutil.copytree(gan_run, run)
    command = ("study", run, "--against", "data", "question=both", "trials=40", "seed=3")
    assert run_condgen(*command, "--out", "one", "--no-serve").out == "one is ready: condgen study one serves its page.\n"
    verb.study(run, ["question=both", "trials=40", "seed=3"], out=tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    study = read_study(tmp_path / "one")
    assert [str(file) for file in files] == [*(f"pictures/{i + 1:04d}.png" for i in range(40)), "study.json"]
    require_alike(tmp_path / "one", study)

    client = client_of(tmp_path / "one", study)
    wrong = set(range(0, 80, 8))  # a quarter of the questions whether it is real, nothing of the others
    respond(client, study, wrong, "Ada")
    respond(client, study, set(), "bob", stop=20)
    result = run_condgen("study", "one", "--results")
    low, high = binomtest(10, 50).proportion_ci(method="wilson")
    assert f"0.200 [{low:.3f}, {high:.3f}]" in result.out and "100 answers of 2 people" in result.out
    stored = json.loads((tmp_path / "one" / "results.json").read_text())
    assert stored["shares"]["hype"] == {
        "share": 0.2, "low": pytest.approx(low), "high": pytest.approx(high), "count": 10, "of": 50, "chance": 0.5
    }  # fmt: skip
    (record,) = read_records(tmp_path / "one" / "results.json")
    assert record.protocol.name == "hype+class/test-n40" and record.people == 2 and record.counts["hype"] == (10, 50)
    assert record.figures["human_accuracy"] == 1 and record.baselines["chance"]["human_accuracy"] == 0.1
    generated = sum(trial.key == "generated" for trial in [*study.trials, *study.trials[:10]])
    assert sum(map(sum, record.confusion)) == record.counts["human_accuracy"][1] == generated

    assert run_condgen("report", run).code == 0
    page = (run / "report.html").read_text()
    assert f"0.200 [{low:.3f}, {high:.3f}] n=50" in page and "chance" in page and "hype+class" in page
    assert "Class that was asked for against class that people saw" in page
    board = run_condgen("leaderboard", ".").out
    (row,) = [line for line in board.splitlines() if f"0.200 [{low:.3f}, {high:.3f}] n=50" in line]  # and not twice
    shutil.rmtree(run / "evaluation")  # and a study that the run does not know writes nothing there
    assert run_condgen("study", "one", "--results").code == 0 and not (run / "evaluation").exists()
    assert board.startswith("hype+class, 40 trials | 20 generated against 20 images of test")
    assert row.startswith("mnist-cgan_mlp")
    assert re.search(r"^chance .* 0\.500 .* 0\.100", board, re.MULTILINE)


def require_alike(folder: Path, study) -> None:
    """Real and generated files differ in nothing but pixels, and the real ones are images of the test part."""
    test = MNIST().load().test.images.flatten(1)
    known = {bytes(image) for image in test.numpy()}
    heads = set()
    for trial in study.trials:
        path = folder / "pictures" / trial.pictures[0]
        data = path.read_bytes()
        heads.add((data[:33], re.findall(rb"IHDR|IDAT|IEND|tEXt|zTXt|iTXt|tIME|pHYs|gAMA|eXIf", data)[-1]))
        assert not re.search(rb"tEXt|zTXt|iTXt|tIME|pHYs|eXIf", data)
        with Image.open(path) as image:
            assert (image.mode, image.size, image.info) == ("L", (28, 28), {})
            assert (image.tobytes() in known) is (trial.key == "real")
    assert len(heads) == 1


def test_two_models_are_compared(gan_run, vae_run, run_condgen, tmp_path) -> None:
    command = ("study", gan_run, "--against", vae_run, "question=both", "trials=20", "--out", "pairs", "--no-serve")
    assert run_condgen(*command).code == 0
    study = read_study(tmp_path / "pairs")
    assert [len(trial.pictures) for trial in study.trials] == [2] * 20 and study.models[1].source == "best"
    gan = {name: (tmp_path / "pairs" / "pictures" / name).read_bytes() for t in study.trials for name in t.pictures}
    assert len(set(gan.values())) == 40
    client = client_of(tmp_path / "pairs", study)
    assert begin(client)["task"]["condition"] is None
    respond(client, study, set(range(0, 40, 4)), "ada")  # half of the pairs for the other's look, all for its condition
    result = run_condgen("study", "pairs", "--results")
    assert result.code == 0 and re.search(r"looks more real +0\.500 \[.*\] +20 +0\.500", result.out), result
    assert re.search(r"shows it better +1\.000 \[0\.839, 1\.000\]", result.out)
    (record,) = read_records(tmp_path / "pairs" / "results.json")
    name = f"{vae_run.parent.name}/{vae_run.name}"
    assert record.protocol.name == f"2afc+condition/{name}-n20" and record.protocol.data == study.models[1].weights


def test_samples_that_start_from_images_are_counted_by_the_classes_of_these(run_condgen, tmp_path) -> None:
    command = ("study", "zoo:mnist-inpaint", "trials=40", "--out", "s", "--no-serve")
    assert run_condgen(*command).code == 0
    study = read_study(tmp_path / "s")
    assert study.classes == list("0123456789") and sorted(trial.label for trial in study.trials) == sorted([*range(10)] * 4)
    respond(client_of(tmp_path / "s", study), study, {i for i, trial in enumerate(study.trials) if trial.label == 3}, "ada")
    write_results(tmp_path / "s", study)
    found = json.loads((tmp_path / "s" / "results.json").read_text())
    assert [row["shares"]["hype"]["share"] for row in found["classes"]] == [float(digit == 3) for digit in range(10)]
    sentence = run_condgen("study", "zoo:mnist-inpaint", "question=condition", "--out", "t", "--no-serve").sentence()
    assert "set question=real" in sentence


def test_a_study_without_classes_says_why_it_has_no_rows_for_them(tmp_path) -> None:
    study = put_study(tmp_path / "s", classes=[])
    respond(client_of(tmp_path / "s", study), study, {0}, "ada")
    assert "No rows for classes" in write_results(tmp_path / "s", study)
    assert json.loads((tmp_path / "s" / "results.json").read_text())["note"].startswith("No rows for classes")


# --- the page and what it asks ---


def test_the_page_is_told_nothing_of_what_is_right(tmp_path) -> None:
    study = put_study(tmp_path / "s", question="both")
    client = client_of(tmp_path / "s", study)
    said = [client.get("/api/study").text]
    state = begin(client, "ada")
    for place in range(10):
        task = state["task"]
        assert task.keys() == {"trial", "question", "choices", "pictures", "condition"} and task["condition"] is None
        assert task["choices"] == (["real", "generated"] if place % 2 == 0 else CLASSES)
        assert task["pictures"] == [f"pictures/{task['trial']:04d}.png"]
        state = respond(client, study, set(), "ada", stop=place + 1)
        said.append(json.dumps(state))
    assert not any(word in text for text in said for word in ("key", "label", "weights", "digits", "result", "wrong"))
    for path in ("study.json", "pictures/study.json", "pictures/..%2fstudy.json", "answers-ada.jsonl", "../study.json", "docs"):
        assert client.get(f"/{path}").status_code == 404, path


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/icon.svg", "/api/study", "/pictures/0001.png", "/nowhere"])
def test_every_answer_has_a_strict_policy(path, tmp_path) -> None:
    response = client_of(tmp_path / "s", put_study(tmp_path / "s")).get(path)
    assert HEADERS.items() <= {name.title(): value for name, value in response.headers.items()}.items() or all(
        response.headers[name] == value for name, value in HEADERS.items()
    )
    assert "last-modified" not in response.headers and "default-src 'none'" in response.headers["content-security-policy"]


def test_the_page_needs_nothing_from_outside() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.|innerHTML|eval\(|style=|<script>|\bon\w+=\"", text), path


@pytest.mark.parametrize("errors", [0, 7, 30])
def test_a_person_of_known_errors_is_counted_right(errors, tmp_path) -> None:
    study = put_study(tmp_path / "s", trials=60)
    wrong = set(random.Random(errors).sample(range(60), errors))
    state = respond(client_of(tmp_path / "s", study), study, wrong, "Ada Lovelace")
    lines = stored_answers(tmp_path / "s", "ada-lovelace")
    assert [line["trial"] for line in lines] == list(range(1, 61)) and lines[0].keys() == {"trial", "question", "answer"}
    assert {i for i, line in enumerate(lines) if line["answer"] != study.trials[i].key} == wrong
    write_results(tmp_path / "s", study)
    (record,) = read_records(tmp_path / "s" / "results.json")
    fakes = [i for i, trial in enumerate(study.trials) if trial.key == "generated"]
    assert record.counts["hype"] == (errors, 60) and record.counts["hype_fake"] == (len(wrong & set(fakes)), 30)
    for label, name in enumerate(CLASSES):
        own = {i for i, trial in enumerate(study.trials) if trial.label == label}
        assert record.class_counts["hype"][label] == (len(own & wrong), len(own)), name
    told = state["result"][0]
    expected = binomtest(errors, 60).proportion_ci(method="wilson")
    assert (told["count"], told["of"], told["chance"]) == (errors, 60, 0.5)
    assert (told["low"], told["high"]) == pytest.approx((expected.low, expected.high))


def test_a_person_goes_on_where_they_stopped_and_nothing_is_answered_twice(tmp_path) -> None:
    study = put_study(tmp_path / "s", feedback=False)
    assert respond(client_of(tmp_path / "s", study), study, set(), "ada", stop=7)["answered"] == 7
    client = client_of(tmp_path / "s", study)  # the server was started anew
    state = begin(client, " ADA ")
    assert (state["person"], state["answered"], state["task"]["trial"]) == ("ada", 7, 8)
    body = {"person": "ada", "trial": 7, "question": "real", "answer": "real"}
    assert client.post("/api/answers", json=body).status_code == 409
    assert len(stored_answers(tmp_path / "s", "ada")) == 7
    assert begin(client)["person"] != begin(client)["person"]  # two who leave their name out
    done = respond(client, study, set(), "ada")
    assert done["task"] is None and done["result"] is None and len(stored_answers(tmp_path / "s", "ada")) == 30
    assert client.post("/api/answers", json=body | {"trial": 31}).status_code == 409


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/api/people", {"person": "../evil"}, 422, "letters, digits"),
        ("/api/people", {"person": "a" * 40}, 422, "1 to 32"),
        ("/api/people", {"person": "a" * 400}, 422, "not understood"),
        ("/api/people", {"name": "ada"}, 422, "not understood"),
        ("/api/answers", {"person": "ada", "trial": 1, "question": "real", "answer": "both"}, 422, "no answer"),
        ("/api/answers", {"person": "ada", "trial": "x", "question": "real", "answer": "real"}, 422, "not understood"),
        ("/api/answers", {"person": "ada", "trial": 3, "question": "real", "answer": "real"}, 409, "answered already"),
        ("/api/answers", {"person": "ada" * 3000}, 413, "at most 4096"),
        ("/api/study", {}, 405, "Not Allowed"),
    ],
)
def test_requests_that_cannot_be_are_answered_in_a_sentence(path, body, status, word, tmp_path) -> None:
    client = client_of(tmp_path / "s", put_study(tmp_path / "s"))
    response = client.post(path, json=body)
    message = response.json()["error"]["message"]
    assert response.status_code == status and word in message and message.endswith("."), response.text
    assert not list((tmp_path / "s").glob("answers-*"))


def test_only_names_of_this_machine_are_answered(tmp_path) -> None:
    study = put_study(tmp_path / "s")
    client = client_of(tmp_path / "s", study)
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8000"}).status_code == 200
    open_to_all = TestClient(application(tmp_path / "s", study, local=False), base_url="http://192.168.0.7:8000")
    assert open_to_all.get("/").status_code == 200


# --- refusals ---


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda lines: [*lines[:1], lines[1].replace("real", "unreal", 1), *lines[2:]], "line 2"),
        (lambda lines: [*lines[:2], "{", *lines[3:]], "line 3 is no answer"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 answers 'real' of trial 3 and 'real' of trial 2 was asked"),
        (lambda lines: [*lines[:3], lines[3].replace('"answer": "', '"answer": "maybe '), *lines[4:]], "line 4 answers 'maybe"),
        (lambda lines: [*lines, lines[-1]], "line 31 is one answer too many"),
        (lambda lines: [*lines[:-1], lines[-1] + lines[-1]], "line 30 is no answer"),
    ],
)
def test_answers_that_were_changed_are_refused_and_the_line_is_named(damage, word, run_condgen, tmp_path) -> None:
    study = put_study(tmp_path / "s")
    respond(client_of(tmp_path / "s", study), study, set(), "ada")
    path = tmp_path / "s" / "answers-ada.jsonl"
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    sentence = run_condgen("study", "s", "--results").sentence()
    assert "answers-ada.jsonl" in sentence and word in sentence
    assert not (tmp_path / "s" / "results.json").exists()


def test_an_answer_cut_short_is_refused(tmp_path) -> None:
    study = put_study(tmp_path / "s")
    respond(client_of(tmp_path / "s", study), study, set(), "ada", stop=3)
    path = tmp_path / "s" / "answers-ada.jsonl"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(CondgenError, match="line 3 is cut short"):
        write_results(tmp_path / "s", study)
    response = client_of(tmp_path / "s", study).post("/api/people", json={"person": "ada"})
    assert response.status_code == 500 and "terminal" in response.json()["error"]["message"]


def test_a_folder_that_cannot_be(gan_run, run_condgen, tmp_path, monkeypatch) -> None:
    study = put_study(tmp_path / "s")
    assert "holds a study already" in run_condgen("study", gan_run, "--out", "s", "--no-serve").sentence()
    assert "is a study already" in run_condgen("study", "s", "trials=10", "--no-serve").sentence()
    assert "--out FOLDER is needed" in run_condgen("study", gan_run, "--no-serve").sentence()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "no empty folder" in run_condgen("study", gan_run, "--out", "full", "--no-serve").sentence()
    assert "There is no checkpoint" in run_condgen("study", "nowhere", "--out", "new").sentence()
    assert "holds no study" in run_condgen("study", "full", "--results").sentence()
    assert "0 answers" in run_condgen("study", "s", "--results").out
    text = (tmp_path / "s" / "study.json").read_text()
    (tmp_path / "s" / "study.json").write_text(text.replace('"key": "real"', '"key": "fake"', 1))
    assert "damaged" in run_condgen("study", "s", "--results").sentence()
    (tmp_path / "s" / "study.json").write_text(text)
    (tmp_path / "s" / "pictures" / study.trials[4].pictures[0]).unlink()
    assert "lacks its picture pictures/0005.png" in run_condgen("study", "s").sentence()
    monkeypatch.setattr(verb, "find_spec", lambda name: None)
    assert 'pip install "condgen[serve]"' in run_condgen("study", "s").sentence()


def test_what_does_not_fit_is_refused_and_nothing_is_written(gan_run, run_condgen, tmp_path) -> None:
    def sentence(*arguments: object) -> str:
        found = run_condgen("study", gan_run, *arguments, "--out", "new", "--no-serve").sentence()
        assert not (tmp_path / "new").exists()
        return found

    assert "must be even" in sentence("trials=61")
    assert "question must be" in sentence("question=beauty")
    assert "real images of class" in sentence("trials=20000")
    assert "does not exist" in sentence("data=nothing")
    assert "choose the data that it was trained on" in sentence("data.classes=[3,4]")
    shutil.copy(gan_run / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    alone = run_condgen("study", "alone.ckpt", "--out", "new", "--no-serve").sentence()
    assert alone == "data= has to be chosen to study alone.ckpt, for example data=mnist."


def test_models_that_cannot_be_compared(gan_run, run_condgen, tmp_path) -> None:
    other = make_model("model=gan_mlp", condition=NoCondition())
    torch.save({"condgen": other.recipe, "state_dict": other.state_dict(), "global_step": 0}, tmp_path / "other.ckpt")
    sentence = run_condgen("study", gan_run, "--against", "other.ckpt", "--out", "new", "--no-serve").sentence()
    assert sentence.endswith("and other.ckpt cannot be asked for the same: only models of one condition can be compared.")


def test_a_port_that_is_taken(run_condgen, tmp_path) -> None:
    put_study(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = run_condgen("study", "s", "--port", port).sentence()
        assert f"Port {port}" in sentence and "choose another --port" in sentence
    with listen("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0
