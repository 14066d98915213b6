"""80 mistakes at random, see scripts/fuzz.py: each ends well or in one sentence."""

from pathlib import Path

import fuzz
import pytest


@pytest.mark.slow
def test_nothing_that_anybody_types_or_damages_ends_in_a_defect(tmp_path: Path) -> None:
    found = [(case, result) for _, case, result in fuzz.fuzz(tmp_path, seed=0, count=80)]
    defects = [
        f"{result.verdict}: condgen {' '.join(case.arguments)}\n{result.output}" for case, result in found if result.defect
    ]
    assert not defects, "\n".join(defects)
    assert {case.kind for case, _ in found} >= {
        "command line",
        "configuration",
        "stored file",
        "checkpoint",
        "table",
        "archive",
    }
    refused = sum(result.verdict == "sentence" for _, result in found)
    assert refused > 24, "the changes are hardly mistakes"


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        (0, "", "well"),
        (1 << 8, "condgen: This is wrong.", "sentence"),
        (1 << 8, "", "status 1"),
        (70 << 8, "condgen: This should not have happened.", "status 70"),
        (0, "Traceback (most recent call last):", "traceback"),
        (11, "", "signal 11"),
    ],
)
def test_what_counts_as_a_defect(status: int, output: str, verdict: str) -> None:
    assert fuzz.judged(status, output, stopped=False) == verdict
