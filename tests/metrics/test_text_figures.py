"""The figures of texts, counted by hand."""

import pytest

from condgen.errors import CondgenError
from condgen.metrics.text import Asked, TextFigures, form, wanted

TRAIN = ["春风又绿，明月何时还。", "山高，水长。", "山高水长，春去。"]


@pytest.fixture
def figures() -> TextFigures:
    return TextFigures(TRAIN, [0, 1, None])


def test_a_form_is_the_letters_of_each_phrase() -> None:
    assert form("春风、又绿，明月。") == (4, 2) and form("山□。水") == (2, 1) and form("") == () and form("。，") == ()


def test_figures_of_training_texts_and_of_others(figures: TextFigures) -> None:
    nothing = Asked(None, ())
    own = figures.figures(TRAIN, [Asked(0, ("春",)), Asked(1, ("春", "水")), nothing])
    assert own["form_obeyed"] == 1 and own["copied_8grams"] == 1 and own["keywords_present"] == pytest.approx(2 / 3)
    new = figures.figures(["江河湖海，江河湖海日。", "一二三。"], [Asked(0, ()), Asked(1, ())])
    assert new["form_obeyed"] == 0.5 and new["copied_8grams"] == 0 and "keywords_present" not in new
    assert new["distinct_2"] == pytest.approx(7 / 10) and new["repetition"] == pytest.approx(3 / 10)
    assert figures.figures([""], [Asked(2, ())]) == {}


def test_only_figures_of_texts_can_be_asked_for() -> None:
    assert wanted("form_obeyed") == ["form_obeyed"] and len(wanted("all")) == 7
    with pytest.raises(CondgenError, match="no metric 'fid' of texts"):
        wanted(["fid"])
