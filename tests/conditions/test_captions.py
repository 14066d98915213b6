"""`condgen.conditions.Captions`: sentences as conditions, what data say, what users write, and what networks read."""

import pytest
import torch

from condgen.conditions import Captions, Category, LearnedEmbedding, Number, OneHot
from condgen.data.captions import ENGLISH, WORDINGS, Wordings, chinese, english
from condgen.errors import CondgenError

TEXTS = ["A red  cat\na cat", "a blue dog, asleep", "蓝色的狗"]
FIELDS = [Category("kind", ("cat", "dog")), Number("age", 0, 9)]


@pytest.fixture
def captions() -> Captions:
    return Captions(TEXTS, FIELDS, width=16, layers=1, heads=2)


def test_what_is_written_is_read_and_named(captions: Captions) -> None:
    asked = captions.encode("A  RED cat|a blue dog，asleep")
    assert asked.shape == (2, len("a blue dog, asleep")) and captions.check(asked) is asked
    assert captions.describe(asked) == ["a red cat", "a blue dog,asleep"]  # in lower case, its comma as all others
    for same in ("caption=a red cat", {"caption": "a red cat"}, '{"caption": "a red cat"}', ["a red cat"]):
        assert captions.describe(captions.encode(same)) == ["a red cat"]
    assert captions.describe(captions.encode({"caption": "a blue dog, asleep"})) == ["a blue dog, asleep"]
    assert captions.describe(captions.every()) == ["a red cat", "a blue dog, asleep", "蓝色的狗"]
    assert {*captions.describe(captions.draw(50, torch.Generator().manual_seed(0)))} == {*captions.examples}
    (caption,) = captions.schema()["properties"].values()
    assert caption["type"] == "string" and caption["maxLength"] == 18


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "caption is empty"),
        ("  ", "caption is empty"),
        ("a red cat|", "caption is empty"),
        ("a red cat " * 1000, "has 9,999 characters and this model reads at most 18"),
        ("a purple fox", "what no caption of the training had, f x"),
        ("紫色的狗", "what no caption of the training had, 紫"),
    ],
)
def test_what_it_cannot_read_is_refused(text: str, said: str, captions: Captions) -> None:
    with pytest.raises(CondgenError, match=said) as told:
        captions.encode(text)
    assert "\n" not in str(told.value) and "'a red cat'" in str(told.value)  # an example of what would be right


def test_encoded_captions_are_checked(captions: Captions) -> None:
    right = captions.every()
    for wrong in (right.float(), right[:, 1:], right + 90, -right, torch.zeros_like(right)):
        with pytest.raises(CondgenError, match="Encoded captions"):
            captions.encode(wrong)


def test_data_without_captions_are_refused(captions: Captions) -> None:
    with pytest.raises(CondgenError, match=r"data\.source\.caption=COLUMN"):
        Captions(None)
    with pytest.raises(CondgenError, match="must divide"):
        Captions(TEXTS, heads=3)
    with pytest.raises(CondgenError, match="no vector of its own"):
        captions.vector(captions.every())


def test_one_of_several_captions_is_drawn_and_the_first_is_measured(captions: Captions) -> None:
    encoded = captions.from_rows(torch.zeros(3), None, TEXTS)
    assert captions.describe(captions.check(encoded)) == ["a red cat", "a blue dog, asleep", "蓝色的狗"]
    drawn = [captions.describe(captions.partly(encoded, torch.full((3, 1), u))) for u in (0.1, 0.9)]
    assert drawn == [["a red cat", "a blue dog, asleep", "蓝色的狗"], ["a cat", "a blue dog, asleep", "蓝色的狗"]]
    rebuilt = Captions(**{key: value for key, value in captions.config().items() if key != "_target_"})
    assert torch.equal(rebuilt.from_rows(torch.zeros(3), None, TEXTS), encoded) and rebuilt.config() == captions.config()


def test_networks_read_captions_whole_and_what_lies_between_two(captions: Captions) -> None:
    torch.manual_seed(0)
    one, learned = OneHot(captions), LearnedEmbedding(captions, 5)
    asked = captions.every()
    read = one(asked)
    assert read.shape == (3, 16) and learned(asked).shape == (3, 5)
    assert one.encode is not learned.encode  # each reads for itself
    torch.testing.assert_close(read.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(one(asked[:1]), read[:1])  # others in the batch change nothing,
    longer = Captions([*TEXTS, "a" * 40], width=16, layers=1, heads=2)
    assert not torch.allclose(one(captions.encode("a cat red")), read[:1], atol=1e-3)  # but order does
    assert longer.text.length == 40
    torch.testing.assert_close(one(captions.between(asked[:1], asked[1:2], 0.25)), torch.lerp(read[:1], read[1:2], 0.25))
    read.square().sum().backward()
    one(asked)[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in one.encode.parameters())


def test_digits_are_told_in_two_languages_and_always_alike() -> None:
    values = torch.tensor([[3.0, 40.0, 0.0, 2.0], [8.0, -40.0, 4.0, 0.0], [0.0, 10.0, 2.0, 1.0]]).repeat(200, 1)
    told = Wordings(values, torch.arange(600), 1000, 0, "train")
    lines = [text.split("\n") for text in told]
    assert len(lines) == 600 and {len(several) for several in lines} == {WORDINGS}
    assert told[500:][99] == told[599]
    assert list(Wordings(values[3:6], torch.arange(3, 6), 1000, 0, "train")) == [told[i] for i in (3, 4, 5)]
    first = {several[0] for several in lines[::3]}  # says all of it
    assert len(first) > 50
    assert english(0, "three", "turned to the left", "red", "thick") == "a thick red three, turned to the left"
    assert chinese(0, "三", "向左转", "红色", "粗") == "一个粗的红色的三，向左转"
    assert english(1, "", "", "red", "") == "a red digit" and chinese(2, "", "", "", "") == "数字"
    left = ENGLISH["turned"][2]
    for text in first:
        if text.isascii():
            assert "red" in text and any(word in text for word in left) and ("three" in text or "3" in text)
            assert "thick" in text or "bold" in text
        else:
            assert "红色" in text and "左" in text and "粗" in text and ("三" in text or "3" in text)
    rest = [text for several in lines[1::3] for text in several[1:] if text.isascii()]
    assert sum("white" in text for text in rest) / len(rest) == pytest.approx(0.8, abs=0.06)
    assert all(text.startswith("an ") for text in rest if text.split()[1:2] == ["eight"] and text.startswith("a"))
