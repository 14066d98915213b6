"""Texts from tables: tokens and back, words and categories, and what is refused in a sentence."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from config.tiny_data import write_songci, write_texts

from condgen.data.sources import SongCi, TextTable
from condgen.data.words import chosen_words, lexicon
from condgen.errors import CondgenError
from condgen.tokens import STOP, UNKNOWN, Tokens


def test_texts_come_back_from_their_tokens() -> None:
    space = Tokens("ab c", 5)
    tokens = space.tokens(["a b", "cab caba", "", "az"])
    assert tokens.shape == (4, 5) and tokens[0].tolist() == [2, 4, 3, STOP, STOP] and tokens[3, 1] == UNKNOWN
    assert space.texts(tokens) == ["a b", "cab c", "", "a□"]
    assert space.marks.nonzero().flatten().tolist() == [4]
    with pytest.raises(CondgenError, match="vocabulary"):
        Tokens("aa", 5)


def test_texts_are_drawn_and_written() -> None:
    space = Tokens("春风，。", 12)
    samples = space.tokens(["春风。风，春。", "风"])
    for columns in (1, 2):
        picture = space.grid(samples, columns)
        assert picture.dtype == torch.uint8 and picture.shape[0] == 3 and picture.float().std() > 0
    assert space.file(samples[:1]).decode() == "春风。\n风，春。\n"
    assert space.file(samples).decode() == "春风。\n风，春。\n\n风\n"
    name, values = space.export(samples)
    assert name == "tokens" and values.dtype == torch.int32


def test_a_table_gives_texts_categories_and_words(tmp_path: Path) -> None:
    tables = TextTable(write_texts(tmp_path / "t.csv"), length=64).load()
    space = tables.train.made
    assert isinstance(space, Tokens) and tables.train.images.dtype == torch.int16
    assert space.texts(tables.train.images[:2]) == ["the cat sees a bird, 0 times.", "the dog sees a tree, 1 times."]
    (kind,) = tables.fields
    assert kind.name == "kind" and set(kind.values) == {"cats", "dogs"}
    assert "bird" in tables.words and "the" not in tables.words  # which every text holds
    assert tables.train.values is not None and tables.train.values.shape == (40, 1 + 16)
    row = tables.train.values[0, 1:].long().tolist()
    assert {tables.words[number] for number in row if number >= 0} <= {"cat", "bird"}


def test_keywords_of_a_column_and_a_packed_table(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "tags": "red blue" if i % 2 else "", "n": i % 2} for i in range(12)]
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    tables = TextTable(path, keywords="tags", places=3).load()
    assert sorted(tables.words) == ["blue", "red"] and tables.train.values is not None
    assert tables.train.values[:2, 1:].sort(dim=1).values.tolist() == [[-1, -1, -1], [-1, 0, 1]]


def test_songci_has_tunes_by_their_last_name(tmp_path: Path) -> None:
    tables = SongCi(write_songci(tmp_path / "songci.jsonl.gz")).load()
    assert {field.name: set(field.values) for field in tables.fields} == {"tune": {"乙", "丙"}, "author": {"某", "佚"}}
    space = tables.train.made
    assert isinstance(space, Tokens) and space.texts(tables.train.images[:1]) == ["春风又绿，明月何时还。"]


def test_words_of_chinese_are_characters_and_pairs_that_cohere() -> None:
    texts = ["明月天水", "水天明月", "天明月水", "明月水天", "山海江河"] * 5
    words = lexicon(texts * 5, 100)
    assert "明月" not in words  # too common: nearly each text holds it
    texts += ["花鸟虫鱼"] * 20 + [a + b for a in "花鸟虫鱼" for b in "甲乙丙丁"] * 5
    words = lexicon(texts, 100)
    assert "明月" in words and "花甲" not in words
    assert len(lexicon(texts, 3)) == 3
    table = chosen_words(["明月天水", "無"], words, 4, seed=0)
    assert words.index("明月") in table[0].tolist() and table[1].tolist() == [-1] * 4


HEAD = "text,kind\n"


@pytest.mark.parametrize(
    "content, options, said",
    [
        ("", {}, "no rows"),
        (HEAD, {}, "no rows"),
        ("kind\ncat\n", {}, "no column text"),
        (HEAD + "a,b\n,b\n", {}, "line 3: text is empty"),
        (HEAD + "a,b\n", {"columns": ["age"]}, "no column age"),
        (HEAD + "a,b\n", {"columns": ["kind"]}, "at least 5 texts"),
        (HEAD + "a,b\n", {"rarest": 3}, "vocabulary"),
        (HEAD + "a,b\n", {"keywords": "tags"}, "no column tags"),
        (HEAD + "a\n", {}, "as many cells"),
    ],
)
def test_bad_tables_are_refused(content: str, options: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(CondgenError, match=said):
        TextTable(path, **options).load()  # type: ignore[arg-type]


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    for make in (SongCi, TextTable):
        with pytest.raises(CondgenError, match=r"There is no .*file="):
            make(tmp_path / "x.jsonl.gz").load()
    broken = tmp_path / "b.jsonl.gz"
    for content in (b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"[1]\n"), gzip.compress(b"x" * 4000)[:-9]):
        broken.write_bytes(content)
        with pytest.raises(CondgenError):
            SongCi(broken).load()
        with pytest.raises(CondgenError):
            TextTable(broken).load()
    with pytest.raises(CondgenError, match="must be a"):
        TextTable(tmp_path / "t.txt").load()


def test_texts_beyond_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgen.data.sources.text.LARGEST", 100)
    with pytest.raises(CondgenError, match="at most 100 fit"):
        TextTable(write_texts(tmp_path / "t.csv")).load()
