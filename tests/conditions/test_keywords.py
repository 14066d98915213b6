"""A set of words beside attributes: written, encoded, left out in part, refused."""

import pytest
import torch

from condgen.conditions import Category, Keywords
from condgen.errors import CondgenError

TUNE, AUTHOR = Category("tune", ("甲", "乙", "丙")), Category("author", ("某", "佚"))
WORDS = ["春", "风", "明月", "江"]


@pytest.fixture
def keywords() -> Keywords:
    return Keywords([TUNE, AUTHOR], WORDS, places=5, asked=3)


def test_what_is_written_is_read_and_named(keywords: Keywords) -> None:
    asked = keywords.encode("tune=乙,keywords=春 明月|风")
    assert asked.shape == (2, 3 + 2 + 5)
    assert keywords.describe(asked) == ["tune=乙 keywords=春 明月", "tune=乙 keywords=风"]
    assert keywords.describe(keywords.encode({"keywords": "江"})) == ["keywords=江"]
    assert keywords.describe(keywords.encode("")) == ["any"]
    assert len(keywords.encode("tune=甲|乙,keywords=春|风")) == 4
    assert torch.equal(keywords.encode("keywords=春  春"), keywords.encode("keywords=春"))
    assert keywords.vector(asked)[:, 5:].tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert len(keywords.every()) == 3 and keywords.describe(keywords.every())[0] == "tune=甲"


def test_words_alone_and_without_a_value() -> None:
    alone = Keywords([], WORDS)
    assert alone.describe(alone.encode("keywords=风")) == ["keywords=风"] and len(alone.every()) == 1
    with pytest.raises(CondgenError, match="keywords=WORD"):
        alone.encode("tune=甲")
    assert Keywords([TUNE], WORDS, attributes=[]).width == 4


@pytest.mark.parametrize(
    "text, said",
    [
        ("keywords=雪", "雪 is none"),
        ("keywords=春 風", "風 is none"),
        ("keywords=春 风 明月 江", "at most 3 keywords"),
        ("keywords=春,keywords=风", "twice"),
        ("tune=丁", "tune=丁 is unknown"),
        ("title=春", "Unknown attribute"),
    ],
)
def test_what_it_does_not_know_is_refused(text: str, said: str, keywords: Keywords) -> None:
    with pytest.raises(CondgenError, match=said):
        keywords.encode(text)


def test_encoded_conditions_are_checked(keywords: Keywords) -> None:
    assert torch.equal(keywords.check(keywords.every()), keywords.every())
    for wrong in (torch.zeros(2, 3), keywords.every().long(), keywords.every() + 7.5):
        with pytest.raises(CondgenError, match="Encoded keywords"):
            keywords.check(wrong)


def test_data_without_words_are_refused() -> None:
    with pytest.raises(CondgenError, match="condition=attributes"):
        Keywords([TUNE], [])


def test_data_are_encoded_with_what_is_open(keywords: Keywords) -> None:
    values = torch.tensor([[1, torch.nan, 3, 0, -1], [torch.nan, 0, -1, -1, -1]])  # tune, author, words
    encoded = keywords.from_data(torch.zeros(2), values)
    assert keywords.describe(encoded) == ["tune=乙 keywords=江 春", "author=某"]
    assert keywords.describe(keywords.without_hints(encoded)) == ["tune=乙", "author=某"]
    rebuilt = Keywords(**{key: value for key, value in keywords.config().items() if key != "_target_"})
    assert torch.equal(rebuilt.from_data(torch.zeros(2), values), encoded)


def test_each_subset_of_a_rows_words_is_left_at_times(keywords: Keywords) -> None:
    row = keywords.from_data(torch.zeros(1), torch.tensor([[1.0, 0, 0, 1, 2, 3, -1]])).repeat(4000, 1)
    u = torch.rand(4000, keywords.numbers, generator=torch.Generator().manual_seed(0))
    partly = keywords.partly(row, u)
    words = keywords.sets(partly)
    count = (words >= 0).sum(1)
    assert torch.bincount(count).tolist() == pytest.approx([1000] * 4, abs=120)
    assert all(set(some.tolist()) <= {0, 1, 2, 3, -1} for some in words[:50])
    for word in range(4):
        assert float((words == word).any(1).float().mean()) == pytest.approx(1.5 / 4, abs=0.04)
    said = keywords.sayings(partly)
    assert float(said[:, :3].any(1).float().mean()) == pytest.approx(0.9, abs=0.03)
    assert float((said[:, :3].any(1) & said[:, 3:].any(1)).float().mean()) == pytest.approx(0.81, abs=0.03)
