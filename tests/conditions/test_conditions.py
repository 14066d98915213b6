"""Conditions: what a user may write, and how networks read it."""

import pytest
import torch

from condgen.conditions import Attributes, Category, ClassLabel, Codes, LearnedEmbedding, NoCondition, Number, OneHot
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
    from condgen.config.build import build

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
    with pytest.raises(CondgenError):
        Codes(categories=[], continuous=0)


# --- attributes ---

PEN = Attributes([Category("digit", ("0", "1", "2")), Number("rotation", -45, 45), Category("colour", ("red", "sea-green"))])


@pytest.mark.parametrize(
    "text, values",
    [
        ("digit=1,rotation=-30,colour=red", [[1, -30, 0]]),
        (" colour = sea-green , digit = 2, rotation=1e1", [[2, 10, 1]]),  # in any order
        ("digit=0-1,rotation=45,colour=0-1", [[0, 45, 0], [0, 45, 1], [1, 45, 0], [1, 45, 1]]),
        ("digit=2,rotation=-45:45:3,colour=1", [[2, -45, 1], [2, 0, 1], [2, 45, 1]]),
        ("digit=2|0,rotation=-1|1,colour=red", [[2, -1, 0], [2, 1, 0], [0, -1, 0], [0, 1, 0]]),
        ("1", [[1, None, None]]),  # of the first attribute
        ("0,2", [[0, None, None], [2, None, None]]),
        ("rotation=0", [[None, 0, None]]),
        ('{"digit": 1, "rotation": -30, "colour": "red"}', [[1, -30, 0]]),  # JSON
        ('[{"digit": "0-1", "rotation": 45, "colour": 0}, "2"]', [[0, 45, 0], [1, 45, 0], [2, None, None]]),
    ],
)
def test_attributes_are_written_by_names(text, values):
    encoded = PEN.encode(text)
    assert encoded.shape == (len(values), 6) and PEN.check(encoded) is encoded
    for row, part in zip(values, zip(*PEN.parts(encoded), strict=True), strict=True):
        assert [p.isnan().all().item() for p in part] == [value is None for value in row]
    read = PEN.values(encoded.nan_to_num(0.0)).tolist()
    for row, found in zip(values, read, strict=True):
        assert [v for v, wanted in zip(found, row, strict=True) if wanted is not None] == pytest.approx(
            [wanted for wanted in row if wanted is not None], abs=1e-5
        )
    for described, row in zip(PEN.describe(encoded), encoded, strict=True):  # what is described can be asked for again
        torch.testing.assert_close(PEN.encode(described.replace(" ", ","))[0], row, equal_nan=True, atol=1e-5, rtol=0)


def test_what_is_almost_json_is_refused():
    with pytest.raises(CondgenError, match="starts as JSON and is none"):
        PEN.encode('{"digit": 1')
    with pytest.raises(CondgenError, match="unknown"):
        PEN.encode('{"digit": 7}')


def test_attributes_as_a_dict_and_as_a_vector():
    assert torch.equal(PEN.encode({"digit": 1, "rotation": 45, "colour": "red"}), torch.tensor([[0.0, 1, 0, 1, 1, 0]]))
    assert PEN.describe(torch.full((1, 6), torch.nan)) == ["any"]
    assert PEN.vector(PEN.encode("digit=2,rotation=-45,colour=1")).tolist() == [[0, 0, 1, -1, 0, 1]]


@pytest.mark.parametrize(
    "text, word",
    [
        ("size=3", "Unknown attribute 'size=3'"),
        ("digit=3", "digit=3 is unknown"),
        ("digit=2-1", "digit=2-1 is unknown"),
        ("digit=1,colour=pink", "colour=pink is unknown: it can be red, sea-green"),
        ("rotation=46", "rotation=46 must be a number in -45..45"),
        ("rotation=left", "rotation=left must be a number"),
        ("rotation=-45:45:1", "FIRST:LAST:COUNT"),
        ("rotation=nan", "rotation=nan"),
        ("digit=1,digit=2", "names digit twice"),
        ("digit=", "digit= is unknown"),
        ("digit=1,,colour=red", "Unknown attribute ''"),
    ],
)
def test_unknown_attributes_are_refused_in_one_sentence(text, word):
    with pytest.raises(CondgenError) as caught:
        PEN.encode(text)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_left_open_is_drawn_and_the_rest_stays():
    asked = PEN.encode("digit=1").repeat(300, 1)
    filled = PEN.fill(asked, torch.Generator().manual_seed(0))
    values = PEN.values(filled)
    assert (values[:, 0] == 1).all() and not filled.isnan().any()
    assert values[:, 1].min() < -40 and values[:, 1].max() > 40 and 0.4 < values[:, 2].mean() < 0.6
    assert torch.equal(filled, PEN.fill(asked, torch.Generator().manual_seed(0)))


def test_attributes_of_data_are_encoded_and_chosen():
    values = torch.tensor([[1.0, 45.0, 0.0], [0.0, -22.5, 1.0]])
    assert PEN.from_data(torch.zeros(2), values).tolist() == [[0, 1, 0, 1, 1, 0], [1, 0, 0, -0.5, 0, 1]]
    some = Attributes(PEN.fields, ["colour", "rotation"])
    assert some.from_data(torch.zeros(2), values).tolist() == [[1, 0, 1], [0, 1, -0.5]] and some.width == 3
    assert Attributes(PEN.fields, ["rotation"]).from_data(torch.zeros(2), values).tolist() == [[1], [-0.5]]
    with pytest.raises(CondgenError, match="condition=class"):
        PEN.from_data(torch.zeros(2), None)
    for wrong, word in (({"attributes": ["size"]}, "no attribute 'size'"), ({"attributes": []}, "at least one")):
        with pytest.raises(CondgenError, match=word):
            Attributes(PEN.fields, **wrong)
    with pytest.raises(CondgenError, match="choose condition=class"):
        Attributes([])
    with pytest.raises(CondgenError, match=r"float \(N, 6\)"):
        PEN.check(torch.zeros(2, 5))


def test_attributes_are_shown_by_their_first_and_walked_between():
    assert PEN.every()[:, :3].tolist() == torch.eye(3).tolist() and PEN.every()[:, 3:].isnan().all()
    assert Attributes(PEN.fields, ["rotation"]).every()[:, 0].tolist() == pytest.approx([-1 + 2 * i / 7 for i in range(8)])
    first, last = PEN.encode("digit=0,rotation=-45,colour=0"), PEN.encode("digit=2,rotation=45,colour=0")
    assert PEN.between(first, last, 0.25).tolist() == [[0.75, 0, 0.25, -0.5, 1, 0]]


def test_attributes_are_rebuilt_without_the_data_and_know_classes():
    from condgen.config.build import build

    digits = ("0", "1", "2")
    named = Attributes(PEN.fields, ["digit", "rotation"], classes=digits)
    again = build("condition", named.config())
    assert again.fields == named.fields and again.known == named.known and again.classes == list(digits)
    assert Attributes(PEN.fields, ["rotation"], classes=digits).classes == []  # digits cannot be asked for


def test_numbers_are_moved_within_their_vicinity_and_categories_are_not():
    encoded = PEN.encode("digit=1,rotation=-40|0|44,colour=red")
    moved = PEN.near(encoded, torch.full((3, 6), 0.1))
    assert PEN.values(moved)[:, 1].tolist() == pytest.approx([-35.5, 4.5, 45.0])  # 0.1 of 45 degrees, within the range
    assert torch.equal(moved[:, [0, 1, 2, 4, 5]], encoded[:, [0, 1, 2, 4, 5]])
    for condition, vector in ((Attributes(PEN.fields, ["digit"]), torch.eye(3)), (DIGITS, torch.arange(3))):
        with pytest.raises(CondgenError, match="vicinity"):
            condition.near(vector, torch.zeros(3, condition.width))


# --- names that hold a separator ---


@pytest.mark.parametrize(
    "asked, labels",
    [
        ("cat, black", [0]),  # the whole text is a name
        ('"cat, black",dog', [0, 1]),
        ('dog, "cat, black"', [1, 0]),
        ('"say ""hi"""', [2]),
        ('"cat, black",1-2', [0, 1, 2]),
        ('["cat, black", "dog"]', [0, 1]),
        (["cat, black", 2], [0, 2]),
    ],
)
def test_a_class_whose_name_holds_a_comma_can_be_asked_for(asked, labels):
    pets = ClassLabel(["cat, black", "dog", 'say "hi"'])
    assert pets.encode(asked).tolist() == labels


def test_an_open_quote_is_told():
    with pytest.raises(CondgenError, match="quote that is not closed"):
        ClassLabel(["cat, black", "dog"]).encode('"cat, black')


@pytest.mark.parametrize(
    "asked", ['"size, cm"=10,mood="a=b"|"c|d"', {"size, cm": 10, "mood": '"a=b"|"c|d"'}, 'mood="a=b"|"c|d",  "size, cm" = 10']
)
def test_attributes_whose_names_hold_separators_can_be_asked_for(asked):
    odd = Attributes([Category("mood", ("a=b", "c|d", "plain")), Number("size, cm", 0, 20)])
    assert odd.values(odd.encode(asked)).tolist() == [[0, 10], [1, 10]]


def test_more_conditions_than_anybody_meant_are_refused():
    many = Attributes([Category("kind", ("a", "b")), Number("size", 0, 1)])
    for text in ("size=0:1:1000000000", "kind=0-1,size=0:1:90000"):
        with pytest.raises(CondgenError, match=r"FIRST:LAST:COUNT|name at most"):
            many.encode(text)
