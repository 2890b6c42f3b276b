"""The main job with the quick preset: its calibration, time and memory: `python benchmarks/quick.py FOLDER`.

Runs (or goes on with) the README's first command in FOLDER and prints what its validators found on held-out
observations. Time and memory are those of the run, resumed parts included.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from _record import record

SECONDS, MEGABYTES = 900.0, 4000.0


def run(folder: Path) -> None:
    """The main job; finished stages are not repeated."""
    command = ["run", "--sim", "lognormal", "--estimator", "diffusion-transformer", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "sbikit", *command], check=True, stdout=sys.stderr)


def calibration(folder: Path) -> None:
    """Every figure of every validator; those with a verdict have their ideal as goal."""
    shown = set()
    for report in json.loads((folder / "metrics.json").read_text())["reports"]:
        for metric in report["metrics"]:
            name = f"{metric['name']} of {metric['variable']}"
            if name in shown:
                continue
            shown.add(name)
            judged = metric["verdict"] != "none"
            record(
                name,
                metric["value"],
                metric["error"],
                goal=f"{metric['ideal']:.4g} within 3 standard errors" if judged else None,
                ok=metric["verdict"] == "pass" if judged else None,
            )


def cost(folder: Path) -> None:
    """Wall time of the stages and the largest resident memory."""
    provenance = json.loads((folder / "provenance.json").read_text())
    total = sum(provenance["timings"].values())
    record("wall seconds of the run", total, None, goal=f"at most {SECONDS:g}", ok=total <= SECONDS)
    for stage, seconds in provenance["timings"].items():
        record(f"wall seconds of the stage {stage}", seconds, None)
    peak = provenance["peak_memory_mb"]
    record("peak memory of the run, MB", peak, None, goal=f"below {MEGABYTES:g}", ok=peak < MEGABYTES)
    record("simulations that trained it", provenance["simulations"], None)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/quick.py FOLDER")
    run(Path(sys.argv[1]))
    calibration(Path(sys.argv[1]))
    cost(Path(sys.argv[1]))
