"""Peak memory does not grow with observations x draws: the same run with four times as many observations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "big.py"
SIZE = {"pixels": 48, "bins": 1, "draws": 64, "shown": 20, "simulations": 128, "reference": 0}
STAGES = ("simulate", "fit", "sample", "validate", "report")


def peak(folder: Path, observations: int) -> float:
    """Peak memory in GB of a process that does all stages."""
    words = [word for name, value in SIZE.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), str(folder), "--observations", str(observations), *words]
    command += ["--validators", "sbc", "coverage", "mira", "--stages", *STAGES, "--here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1])["GB"])


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_draws(tmp_path: Path) -> None:
    few, many = (peak(tmp_path / str(count), count) for count in (64, 256))
    a_draw = 4 * SIZE["bins"] * SIZE["pixels"] ** 2 / 1e9
    more_draws = (256 - 64) * SIZE["draws"] * a_draw
    assert many - few < 0.4 * more_draws, (
        few,
        many,
    )  # one copy of them would be 1, and before there were several
