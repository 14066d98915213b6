"""Every command and every block of Python in the README and in docs/ does what its page says: each page is followed."""

import re
from pathlib import Path

import pytest
from blocks import PAGES, ROOT, blocks, commands, inline_commands, inline_keys, name
from command import condgen
from scenario import COMPOSED, NOT_RUN, Scenario, chosen, composed, keys


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    """From its first block to its last."""
    scenario = Scenario(tmp_path)
    try:
        for block in blocks(page):
            scenario.follow(block)
    finally:
        scenario.close()


@pytest.mark.slow
def test_commands_within_a_line_are_composed(tmp_path: Path) -> None:
    found = dict.fromkeys(command for page in PAGES for command in inline_commands(page) if "NAME" not in command)
    assert len(found) > 10
    for command in found:
        result = condgen(*composed(command.split()), cwd=tmp_path)
        assert result.code == 0, f"{command}\n{result}"


@pytest.mark.slow
def test_keys_within_a_line_exist() -> None:
    known: set[str] = set()
    groups = {group: chosen(group) for group in ("model", "data", "condition", "extractor", "prior", "trainer")}
    for i in range(max(map(len, groups.values()))):  # each choice of each group once, whatever it stands beside
        known |= keys("train", *(f"{group}={names[i % len(names)]}" for group, names in groups.items()))
    known |= keys("train", "hydra/launcher=slurm", "hydra/sweeper=optuna")
    known |= keys("evaluate") | keys("benefit")
    named = {key: name(page) for page in PAGES if page.name != "python.md" for key in inline_keys(page)}  # whose run is a Run
    assert len(named) > 30
    assert {key: page for key, page in named.items() if key not in known} == {}


@pytest.mark.parametrize("pattern", [*COMPOSED, *NOT_RUN])
def test_what_is_not_run_stands_somewhere(pattern: str) -> None:
    everything = [command for page in PAGES for block in blocks(page) for command in commands(block)]
    assert any(re.search(pattern, command) for command in everything), f"no command is like {pattern}: leave the rule out"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_pictures_are_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / "docs" / "assets").iterdir()]
    assert sum(sizes) < 1_500_000
