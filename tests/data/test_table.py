"""A folder of images with a table: which columns become what, and the sentence for each way in which the table can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import noise, png

from condgen.conditions import Category, Number, Tags
from condgen.data.sources import ImageTable
from condgen.errors import CondgenError
from condgen.pack import pack

CSV = "file,smile,age,level,class\na.png,yes,30.5,2,cat\nb.png,no,18,10,dog\nc.png,yes,44.25,2,cat\n"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder of three images without a table."""
    for i, name in enumerate("abc"):
        (tmp_path / f"{name}.png").write_bytes(png(noise(i, 8, 8)))
    return tmp_path


def test_columns_become_categories_and_numbers_by_their_cells(faces):
    (faces / "labels.csv").write_text(CSV)
    tables = ImageTable(faces).load()
    smile, age, level, kind = tables.fields
    assert smile == Category("smile", ("no", "yes")) and kind == Category("class", ("cat", "dog"))
    assert age == Number("age", 18.0, 44.25) and level == Category("level", ("2", "10"))  # 2 before 10
    assert tables.train.values.tolist() == [[1, 30.5, 0, 0], [0, 18, 1, 1], [1, 44.25, 0, 0]]
    assert tables.train.values.dtype == torch.float32
    assert tables.classes == ["cat", "dog"] and tables.train.labels.tolist() == [0, 1, 0] and tables.test is None
    assert np.array_equal(tables.train.images[1, 0].numpy(), noise(1, 8, 8))


def test_a_user_says_which_columns_and_what_they_are(faces):
    (faces / "labels.csv").write_text(CSV)
    named = ImageTable(faces, columns=["age", "smile"]).load()
    assert [field.name for field in named.fields] == ["age", "smile"] and named.classes == ["cat", "dog"]
    typed = ImageTable(faces, columns={"level": "number", "age": None}, label="smile").load()
    assert typed.fields == [Number("level", 2, 10), Number("age", 18, 44.25)] and typed.classes == ["no", "yes"]


def test_many_whole_numbers_are_a_number(tmp_path):
    for i in range(21):
        (tmp_path / f"{i}.png").write_bytes(png(noise(i, 4, 4)))
    (tmp_path / "labels.csv").write_text("file,year\n" + "".join(f"{i}.png,{1990 + i}\n" for i in range(21)))
    tables = ImageTable(tmp_path).load()
    assert tables.fields == [Number("year", 1990, 2010)] and tables.classes == []


def test_tags_are_words_of_which_a_row_may_have_none(faces):
    (faces / "labels.csv").write_text(
        "file,age,tags,text\na.png,3.5,dog beach,A dog.\nb.png,4,,Nothing.\nc.png,7,beach,Sand.\n"
    )
    tables = ImageTable(faces, tags="tags", caption="text").load()
    assert [field.name for field in tables.fields] == ["age"] and tables.words == ["beach", "dog"]
    assert tables.train.values[:, :4].tolist() == [[3.5, 1, 0, -1], [4, -1, -1, -1], [7, 0, -1, -1]]
    tags = Tags(tables.fields, tables.words)
    assert tags.describe(tags.from_data(tables.train.labels, tables.train.values)) == ["tags=dog beach", "any", "tags=beach"]
    with pytest.raises(CondgenError, match="has tags, which shards do not keep"):
        pack(str(faces), ["data.source.tags=tags", "data.source.caption=text"], faces / "out")


@pytest.mark.parametrize("name", ["labels.json", "labels.jsonl"])
def test_json_is_read_too(faces, name):
    rows = [{"file": f"{n}.png", "smile": n == "a", "age": 20 + i / 2} for i, n in enumerate("abc")]
    (faces / name).write_text(json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows)) + "\n")
    tables = ImageTable(faces, file=name).load()
    assert tables.fields == [Category("smile", ("false", "true")), Number("age", 20, 21)]
    assert tables.train.values.tolist() == [[1, 20], [0, 20.5], [0, 21]]


@pytest.mark.parametrize(
    "name, content, options, words",
    [
        ("labels.csv", CSV.replace("b.png", "z.png"), {}, ["line 3", "z.png", "column file", "is not in"]),
        ("labels.csv", CSV, {"columns": ["agee"]}, ["no column agee", "file, smile, age"]),
        ("labels.csv", CSV, {"image": "name"}, ["no column name", "file, smile"]),
        ("labels.csv", CSV.replace("18", "old"), {"columns": {"age": "number"}}, ["line 3", "age must be a number", "'old'"]),
        ("labels.csv", CSV.replace("18", "inf"), {"columns": {"age": "number"}}, ["line 3", "age must be a number", "'inf'"]),
        ("labels.csv", CSV.replace("18", " "), {}, ["line 3", "age is empty"]),
        ("labels.csv", CSV.replace(",18", ""), {}, ["line 3", "as many cells"]),
        ("labels.csv", CSV.replace("no", "yes"), {}, ["smile is yes in every row"]),
        ("labels.csv", CSV.replace("18", "nan"), {}, ["line 3", "age is 'nan'", "most rows have numbers", "{age: category}"]),
        ("labels.csv", CSV.replace("18", "1e999"), {}, ["line 3", "age is '1e999'", "most rows have numbers"]),
        ("labels.csv", CSV.replace("18", "1e300"), {}, ["line 3", "age is '1e300'", "most rows have numbers"]),
        ("labels.csv", CSV.replace("no", "7"), {}, ["smile is '7'", "most rows have words"]),
        ("labels.csv", CSV.replace("smile", "age", 1), {}, ["line 1", "columns 2 and 3 are both called age"]),
        ("labels.csv", CSV.replace("smile", " ", 1), {}, ["line 1", "column 2 has no name"]),
        ("labels.csv", CSV.replace("b.png", "../b.png"), {}, ["line 3", "../b.png", "lies outside"]),
        ("labels.csv", CSV.replace("b.png", "/b.png"), {}, ["line 3", "/b.png", "lies outside"]),
        ("labels.json", '[{"file": "a.png", "age": 3, "age": 4}]', {}, ["could not be read", "age twice"]),
        ("labels.json", '[{"file": "a.png", "age": NaN}, {"file": "b.png", "age": 3}]', {}, ["entry 1", "age is 'NaN'"]),
        ("labels.json", "[" * 100_000, {}, ["could not be read as a table"]),
        ("labels.csv", CSV.replace("no", "a=b"), {"tags": "smile"}, ["line 3", "smile is 'a=b'", "a tag has none of"]),
        ("labels.csv", CSV.replace("no", "").replace("yes", ""), {"tags": "smile"}, ["smile is empty in every row"]),
        ("labels.csv", CSV, {"tags": "words"}, ["line 2 has no column words"]),
        ("labels.csv", CSV.splitlines()[0], {}, ["no rows"]),
        ("labels.csv", "", {}, ["no rows"]),
        ("labels.txt", CSV, {}, [".csv"]),
        ("labels.json", "[{", {}, ["could not be read as a table"]),
        ("labels.json", '[["a.png"]]', {}, ["entry 1", "must be an object"]),
        ("labels.json", '[{"file": "a.png", "age": null}]', {}, ["entry 1", "age is empty"]),
        ("labels.jsonl", '{"file": "a.png", "age": 3}\n{"file": "b.png"}', {}, ["line 2", "no column age"]),
    ],
)
def test_errors_name_file_row_and_column(faces, name, content, options, words):
    (faces / name).write_text(content)
    with pytest.raises(CondgenError) as caught:
        ImageTable(faces, file=name, **options).load()
    sentence = str(caught.value)
    assert "\n" not in sentence and name in sentence
    for word in words:
        assert word in sentence, sentence


def test_what_is_not_there_is_named(faces):
    for source, word in ((ImageTable(faces / "none"), "not a folder"), (ImageTable(faces), "There is no table labels.csv")):
        with pytest.raises(CondgenError, match=word):
            source.load()
