"""`benchmarks/calibration.py --quick` from nothing to the whole table, and once more from what it kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "calibration.py"


def lines(folder: Path) -> list[dict[str, Any]]:
    """What the command prints."""
    command = [sys.executable, str(SCRIPT), str(folder), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_trial_tells_all_and_says_that_it_is_one(tmp_path: Path) -> None:
    found = lines(tmp_path)
    names = [one["name"] for one in found]
    assert all(name.startswith("trial, not a result: ") for name in names)
    assert len(set(names)) == len(names)
    for part in (
        "mira of joint",
        "tarp_uniform_centres_p of kappa",
        "p of rank_shift_of_peaks of kappa",
        "coverage_68 of kappa",
        "power of draws of kappa, low wave numbers, over the truth's",
        "against hmc: c2st of theta",
        "against hmc: offset of the mean of theta.S8 beyond the floor, rms, posterior sd",
        "against hmc: shift of the 50 % quantile of kappa, sd of the field",
        "against hmc: correlation of theta.S8 with peaks less the exact one",
        "CPU ms of a joint draw",
        "evaluations a draw of kappa",
    ):
        assert f"trial, not a result: {part}" in names
    assert lines(tmp_path) == found
