"""`condgen.conditions.Vectors`: names that stand for vectors, among them names that the data do not have."""

from pathlib import Path

import pytest
import torch
from command import TINY, condgen

import condgen as package
from condgen.conditions import Vectors
from condgen.errors import CondgenError

WORDS = {"cat": [1.0, 0.0], "dog": [0.0, 1.0], "wolf": [0.2, 1.4]}


def test_a_name_stands_for_its_vector_centred_and_scaled() -> None:
    condition = Vectors(WORDS, ["dog", "cat"])
    rows = torch.tensor([WORDS[name] for name in ("dog", "cat", "wolf")])
    rows = rows - rows.mean(0)
    expected = rows / rows.square().mean().sqrt()
    torch.testing.assert_close(condition.from_data(torch.tensor([0, 1])), expected[:2])
    torch.testing.assert_close(condition.parse("wolf"), expected[2:])
    torch.testing.assert_close(condition.parse("class=cat,0-2"), expected[[1, 0, 1, 2]])
    torch.testing.assert_close(condition.every(), expected)
    assert condition.describe(expected[[2, 0]] + 0.1) == ["wolf", "dog"]
    assert condition.classes == ["dog", "cat"] and condition.schema()["properties"]["class"]["enum"] == ["dog", "cat", "wolf"]
    drawn = condition.draw(50, torch.Generator().manual_seed(0))
    assert set(condition.describe(drawn)) == {"dog", "cat"}  # what training knows


@pytest.mark.parametrize("ending, text", [(".csv", 'cat,1,0\n"a, b",0,1\n'), (".txt", "2 2\ncat 1 0\ndog 0 1 \n")])
def test_files_are_read_and_not_needed_again(ending: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / f"words{ending}"
    file.write_text(text)
    condition = Vectors(str(file), ["cat"])
    stored = condition.config()
    file.unlink()
    again = Vectors(**{key: value for key, value in stored.items() if key != "_target_"})
    assert again.names == condition.names and torch.equal(again.every(), condition.every())


@pytest.mark.parametrize(
    "vectors, classes, also, words",
    [
        (WORDS, ["horse"], None, "condition.vectors has no vector for 'horse', it has those of cat, dog, wolf."),
        (WORDS, ["cat"], ["bear"], "no vector for 'bear'"),
        (WORDS, [], None, "condition=none"),
        (WORDS | {"dog": [1.0]}, ["cat"], None, "the vector of 'dog' has 1 numbers, that of 'cat' 2"),
        (WORDS | {"dog": [1.0, float("nan")]}, ["cat"], None, "'dog' has a number that is not finite"),
        ({"cat": [1.0, 2.0], "dog": [1.0, 2.0]}, ["cat"], None, "all vectors are the same"),
        ({str(i): [i] for i in range(2000)}, ["7"], None, "has 2,000 names: choose at most 1,000 with condition.also"),
        ("nowhere.csv", ["cat"], None, "condition.vectors=nowhere.csv cannot be read: No such file"),
        ("cat,1,x\n", ["cat"], None, "line 1: behind a name there must be numbers"),
        ("cat,1\ncat,2\n", ["cat"], None, "line 2: 'cat' has a vector already"),
        ("", ["cat"], None, "has no vectors"),
    ],
)
def test_refused(vectors: object, classes: list[str], also: list[str] | None, words: str, tmp_path: Path) -> None:
    if isinstance(vectors, str) and vectors != "nowhere.csv":
        file = tmp_path / "words.csv"
        file.write_text(vectors)
        vectors = str(file)
    with pytest.raises(CondgenError, match=words.replace("(", r"\(")):
        Vectors(vectors, classes, also)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), torch.zeros(2, 2, dtype=torch.int64), torch.full((1, 2), torch.nan)])
def test_encoded_vectors_are_checked(wrong: torch.Tensor) -> None:
    with pytest.raises(CondgenError, match=r"Encoded vectors are finite floats \(N, 2\)"):
        Vectors(WORDS, ["cat"]).encode(wrong)


@pytest.mark.parametrize("model", ["cgan_conv", "flow_matching"])
def test_a_model_is_asked_for_a_class_that_it_never_saw(model: str, tmp_path: Path) -> None:
    vectors = ",".join(f"{digit}: [{digit % 2}, {digit // 2 % 2}, {digit // 4 % 2}, {digit // 8}]" for digit in range(10))
    choices = ["experiment=none", f"model={model}", "condition=vector", f"condition.vectors={{{vectors}}}"]
    result = condgen("train", *choices, "data.classes=[0,1,2,3,5]", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert result.code == 0, result
    loaded = package.load(tmp_path / "run")
    assert loaded.sample("7", count=3).shape == (3, 1, 28, 28)
    refused = condgen("sample", "run", "--condition", "eleven", "--out", "x.png", cwd=tmp_path).sentence()
    assert "'eleven' has no vector: this model knows 0-9 and the names 0, 1, 2, 3, 5" in refused
