"""`condgen.conditions.Tags`: sets of what attributes say and of what a column lists, in any number."""

import pytest
import torch

from condgen.conditions import Category, Number, Tags
from condgen.errors import CondgenError

FIELDS = [Category("colour", ("red", "light blue")), Number("angle", -45, 45), Category("pen", ("thin", "thick"))]
PARTS = {"angle": ["right", "upright", "left"]}


@pytest.fixture
def tags() -> Tags:
    return Tags(FIELDS, ["dog", "beach"], parts=PARTS, places=6, asked=4)


def test_what_is_written_is_read_and_named(tags: Tags) -> None:
    assert tags.words == ["red", "light_blue", "right", "upright", "left", "thin", "thick", "dog", "beach"]
    asked = tags.encode("left red dog|beach")
    assert tags.describe(asked) == ["tags=left red dog", "tags=beach"] and tags.check(asked) is asked
    for same in ("tags=red left", {"tags": "red left"}, {"tags": ["red", "left"]}, '{"tags": ["red", "left"]}'):
        assert tags.describe(tags.encode(same)) == ["tags=red left"]
    assert tags.describe(tags.encode("")) == ["any"]
    assert tags.vector(asked).tolist() == [[1, 0, 0, 0, 1, 0, 0, 1, 0], [0] * 8 + [1]]
    assert tags.describe(tags.every()) == ["tags=red", "tags=light_blue"]
    drawn = tags.draw(50, torch.Generator().manual_seed(0))
    assert all(torch.equal(tags.encode(text), row[None]) for text, row in zip(tags.describe(drawn), drawn, strict=True))
    assert tags.schema()["properties"]["tags"]["items"]["enum"] == tags.words


@pytest.mark.parametrize(
    "text, said",
    [
        ("purple", "tags=purple: this model knows 9 tags, and purple is none of them"),
        ("red light_blue", "red and light_blue are both colour"),
        ("left thin right", "left and right are both angle"),
        ("red left thin dog beach", "at most 4 tags"),
        ("colour=red", "Unknown attribute 'colour=red': this model is asked for tags="),
        ("tags=red,tags=dog", "names tags twice"),
    ],
)
def test_what_cannot_be_is_refused(text: str, said: str, tags: Tags) -> None:
    with pytest.raises(CondgenError, match=said):
        tags.encode(text)


def test_data_are_encoded_with_all_their_tags(tags: Tags) -> None:
    values = torch.tensor([[1.0, -45.0, 0.0, 1.0, 0.0], [0.0, 45.0, 1.0, -1.0, -1.0], [torch.nan, 14.0, 0.0, 0.0, -1.0]])
    encoded = tags.from_data(torch.zeros(3), values)
    assert tags.describe(tags.check(encoded)) == [
        "tags=light_blue right thin beach dog", "tags=red left thick", "tags=upright thin dog",
    ]  # fmt: skip
    rebuilt = Tags(**{key: value for key, value in tags.config().items() if key != "_target_"})
    assert torch.equal(rebuilt.from_data(torch.zeros(3), values), encoded)
    assert tags.told is not None and torch.equal(tags.told.values(tags.told.from_data(values, values[:2]))[:, 0], values[:2, 0])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"fields": [], "words": []}, r"data\.source\.tags=COLUMN"),
        ({"fields": FIELDS, "parts": {"colour": ["a", "b"]}}, "condition.parts.colour .* they have angle"),
        ({"fields": FIELDS, "parts": {"angle": ["a"]}}, "at least two names"),
    ],
)
def test_data_without_tags_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(CondgenError, match=said):
        Tags(**options)  # type: ignore[arg-type]


def test_values_of_one_name_are_told_apart() -> None:
    both = Tags([Category("smile", ("no", "yes")), Category("hat", ("no", "yes"))], ["wood"])
    assert both.words == ["smile:no", "smile:yes", "hat:no", "hat:yes", "wood"]
    assert both.describe(both.encode("smile:yes hat:no wood")) == ["tags=smile:yes hat:no wood"]
