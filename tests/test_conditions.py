"""Conditions: what a user may write, and how networks read it."""

import pytest
import torch

from condgen.conditions import ClassLabel, Codes, LearnedEmbedding, NoCondition, OneHot
from condgen.errors import CondgenError

DIGITS = ClassLabel([str(digit) for digit in range(10)])
PETS = ClassLabel(["frog", "ship", "cat-dog"])
ODD = ClassLabel(["2", "0", "1"])  # names that are digits, in another order


@pytest.mark.parametrize(
    "condition, text, labels",
    [
        (DIGITS, "3", [3]),
        (DIGITS, "0-9", list(range(10))),
        (DIGITS, "3,5", [3, 5]),
        (DIGITS, "7-8, 1,1", [7, 8, 1, 1]),
        (DIGITS, "4-4", [4]),
        (PETS, "frog", [0]),
        (PETS, "ship,0", [1, 0]),
        (PETS, "cat-dog", [2]),  # a name may hold what else means a range
        (PETS, "0-2", [0, 1, 2]),
        (ODD, "2", [0]),  # the name wins over the number
        (ODD, "0", [1]),
    ],
)
def test_what_a_user_writes(condition, text, labels):
    encoded = condition.parse(text)
    assert encoded.tolist() == labels and encoded.dtype == torch.int64
    assert condition.describe(encoded) == [condition.classes[label] for label in labels]


@pytest.mark.parametrize("text", ["10", "-1", "3-1", "0-10", "frog", "", "3,", "1-2-3", "3.0", "²", "a-b"])
def test_what_is_no_class(text):
    with pytest.raises(CondgenError, match="0-9") as caught:
        DIGITS.parse(text)
    assert "\n" not in str(caught.value)


def test_what_python_may_pass():
    assert DIGITS.encode(3).tolist() == [3]
    assert DIGITS.encode([3, "5", "7-8"]).tolist() == [3, 5, 7, 8]
    assert DIGITS.encode(torch.tensor([1, 2])).tolist() == [1, 2]
    assert PETS.encode(("ship", 0)).tolist() == [1, 0]
    for wrong in (11, torch.tensor([11]), torch.tensor([-1]), ["toad"]):
        with pytest.raises(CondgenError):
            DIGITS.encode(wrong)


def test_encoded_labels_are_labels_even_where_names_are_digits():
    """A tensor holds labels, as data sets and `every` give them; it is never read as names."""
    assert ODD.encode(ODD.every()).tolist() == [0, 1, 2]


def test_drawing():
    stream = torch.Generator().manual_seed(0)
    drawn = DIGITS.draw(10_000, stream)
    counts = drawn.bincount(minlength=10)
    assert drawn.dtype == torch.int64 and counts.min() > 880 and counts.max() < 1120  # four deviations
    assert torch.equal(drawn, DIGITS.draw(10_000, torch.Generator().manual_seed(0)))


def test_vectors():
    assert torch.equal(DIGITS.vector(torch.tensor([3, 0])), torch.eye(10)[[3, 0]])
    assert torch.equal(OneHot(DIGITS)(torch.tensor([3, 0])), torch.eye(10)[[3, 0]]) and OneHot(DIGITS).width == 10


def test_learned_embeddings_are_rows_of_a_table():
    embedding = LearnedEmbedding(DIGITS, width=4)
    labels = torch.tensor([7, 7, 0])
    assert torch.equal(embedding(labels), embedding.table[labels]) and embedding.table.shape == (10, 4)
    torch.testing.assert_close(embedding(labels), DIGITS.vector(labels) @ embedding.table)
    embedding(labels).sum().backward()
    assert embedding.table.grad.sum(1).tolist() == [4, 0, 0, 0, 0, 0, 0, 8, 0, 0]


def test_no_condition():
    none = NoCondition()
    assert none.classes == [] and none.width == 0 and none.from_data(torch.arange(5)).shape == (5, 0)
    assert none.every().shape == (1, 0) and none.draw(3, torch.Generator()).shape == (3, 0)
    assert OneHot(none)(torch.empty(3, 0)).shape == LearnedEmbedding(none, width=4)(torch.empty(3, 0)).shape == (3, 0)
    assert OneHot(none).width == LearnedEmbedding(none, width=4).width == 0
    with pytest.raises(CondgenError, match="unconditional"):
        none.encode(3)


def test_classes_are_needed():
    with pytest.raises(CondgenError, match="condition=none"):
        ClassLabel([])


@pytest.mark.parametrize("condition", [PETS, NoCondition()])
def test_config_rebuilds_it(condition):
    from condgen.config import build

    again = build("condition", condition.config())
    assert type(again) is type(condition) and again.classes == condition.classes


# --- codes ---


def test_codes_are_one_hot_and_numbers():
    codes = Codes(categories=[3, 2], continuous=2)
    drawn = codes.draw(400, torch.Generator().manual_seed(0))
    first, second, numbers = codes.split(drawn)
    assert drawn.shape == (400, codes.width) == (400, 7)
    for part, expected in ((first, 1 / 3), (second, 1 / 2)):
        assert torch.equal(part.sum(1), torch.ones(400)) and set(part.unique().tolist()) == {0.0, 1.0}
        assert (part.mean(0) - expected).abs().max() < 0.08
    assert numbers.min() >= -1 and numbers.max() <= 1 and (numbers.mean(0).abs() < 0.1).all()
    assert torch.equal(codes.check(drawn), drawn) and torch.equal(codes.vector(drawn), drawn)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1", [[0, 1, 0, 1, 0, 0]]),
        ("1-2", [[0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0]]),
        ("category=2, number1=-0.5", [[0, 0, 1, 1, 0, -0.5]]),
        ("category2=1", [[1, 0, 0, 0, 1, 0]]),
        ("category=0-1,category2=1,number1=1", [[1, 0, 0, 0, 1, 1], [0, 1, 0, 0, 1, 1]]),
    ],
)
def test_codes_are_written_by_names(text, expected):
    codes = Codes(categories=[3, 2], continuous=1)
    assert codes.encode(text).tolist() == expected
    assert torch.equal(codes.encode(codes.describe(codes.encode(text))[0].replace(" ", ",")), codes.encode(text)[:1])


@pytest.mark.parametrize("text", ["3", "2-1", "shape=1", "number1=2", "number1=x", "number2=0", "category=", "category2=a-b"])
def test_unknown_codes_are_refused_in_one_sentence(text):
    with pytest.raises(CondgenError) as caught:
        Codes(categories=[3, 2], continuous=1).encode(text)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_codes_are_rebuilt_and_asked_for():
    codes = Codes(categories=[3], continuous=1)
    config = codes.config()
    assert config.pop("_target_") == "condgen.conditions.Codes" and Codes(**config).width == 4
    assert codes.every().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert Codes(categories=[], continuous=2).every()[:, 1].tolist() == [0] * 8  # the first number walks
    assert torch.equal(codes.from_data(torch.arange(5)), codes.from_data(torch.zeros(5)))  # labels say nothing
    for options in ({"categories": [1]}, {"categories": [], "continuous": 0}, {"continuous": -1}):
        with pytest.raises(CondgenError):
            Codes(**options)
