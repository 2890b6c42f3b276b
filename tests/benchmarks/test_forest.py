"""`benchmarks/forest.py` finds what `calibration.py` tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forest
import pytest

# What calibration.py printed of the preset quick, which has one bin and three parameters.
RESULTS = Path(__file__).parents[2] / "docs" / "results" / "2026-11-28"
TRUTHS, EXACT = RESULTS / "calibration_validators.jsonl", RESULTS / "calibration_hmc.jsonl"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_finds_its_figures() -> None:
    truths, exact = records(TRUTHS), records(EXACT)
    assert [len(forest.figures(truths, kind, "")) for kind in forest.OF_TRUTHS] == [3, 3, 1, 1, 4, 1, 3]
    found = [len(forest.figures(exact, kind, forest._AGAINST)) for kind in forest.OF_EXACT]
    assert found == [3, 3, 3, 1, 1, 3, 7, 1]


def test_a_figure_is_drawn_in_goals_and_the_first_file_counts(tmp_path: Path) -> None:
    line = {"name": "against hmc: sd_ratio of theta.S8", "value": 1.06, "error": 0.03, "ideal": 1.0}
    (tmp_path / "a").write_text(json.dumps(line))
    (tmp_path / "b").write_text(json.dumps(line | {"value": 9.0}))
    sets = dict(forest.read([f"standard={tmp_path / 'a'},{tmp_path / 'b'}"]))
    exact = forest.picture(sets).axes[1]
    (bar,) = exact.containers
    point, _, (error,) = bar.lines
    assert point.get_xdata() == pytest.approx([1.5])  # .06 of a goal of .04
    assert error.get_segments()[0][:, 0] == pytest.approx([0.75, 2.25])


@pytest.mark.parametrize("word", ["quick", "quick=", "other=a.jsonl", "quick=nowhere.jsonl"])
def test_words_that_cannot_be_read_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(SystemExit) as left:
        forest.main([str(tmp_path / "out.png"), word])
    assert left.value.code == 2
