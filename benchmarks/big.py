"""Peak memory and time of every stage where draws are larger than memory: `python benchmarks/big.py FOLDER`.

    python benchmarks/big.py FOLDER [--pixels 128] [--bins 5] [--observations 256] [--draws 64]
                                    [--shown 100] [--reference 4] [--simulations 2048]
                                    [--validators sbc coverage mira tarp] [--stages sample validate report]

A run whose simulator and samplers cost next to nothing (`_big`) goes through its stages, each in a fresh
process that tells its peak resident memory (VmHWM). `--reference 0` leaves the exact sampler out. Stages
of FOLDER that are done are not repeated, and then not measured. With `--here` all are done in one process,
and the peak is that of all. The figures of the validators are in FOLDER/run/metrics.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SIZES = {
    "pixels": 128,
    "bins": 5,
    "observations": 256,
    "draws": 64,
    "shown": 100,
    "reference": 4,
    "simulations": 2048,
}
LIMIT = 3.0  # GB, of sample, validate and report


def stages_here(folder: Path, size: dict[str, int], validators: list[str], stages: Sequence[str]) -> None:
    """Do stages in this process and print its peak memory and the time as JSON."""
    from _big.run import install_parts, words

    from sbikit.problem.memory import peak_bytes

    install_parts(folder / "parts")
    began, run = time.monotonic(), folder / "run"
    if not run.exists():
        sbikit("init", str(run), *words(size, validators))
    for stage in stages:
        sbikit(stage, str(run))
    peak = peak_bytes() / 1e9
    print(json.dumps({"GB": peak, "seconds": time.monotonic() - began}))


def sbikit(*words: str) -> None:
    """One command, in this process."""
    from sbikit.cli import main

    sys.argv = ["sbikit", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def tell(size: dict[str, int], stages: Sequence[str]) -> None:
    """All of it, a figure a line."""
    from _record import record

    each = size["bins"] * size["pixels"] ** 2 * 4 / 1e9
    what = f"{size['pixels']} px, {size['bins']} bins, {size['observations']} x {size['draws']} draws"
    record(f"draws of fields at {what} [GB]", each * size["observations"] * size["draws"], None)
    for stage in stages:
        command = [sys.executable, *sys.argv, "--stages", stage, "--here"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        limited = stage in ("sample", "validate", "report")
        record(
            f"peak memory of the stage {stage} [GB]",
            round(found["GB"], 3),
            None,
            goal=f"below {LIMIT:g}" if limited else None,
            ok=found["GB"] < LIMIT if limited else None,
        )
        record(f"wall time of the stage {stage} [s]", round(found["seconds"], 1), None)


def main() -> None:
    """Run and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--validators", nargs="+", default=["sbc", "coverage", "mira", "tarp"])
    parser.add_argument("--stages", nargs="+", default=["simulate", "fit", "sample", "validate", "report"])
    parser.add_argument("--here", action="store_true")
    asked = parser.parse_args()
    size = {name: int(getattr(asked, name)) for name in SIZES}
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.here:
        stages_here(asked.folder, size, asked.validators, asked.stages)
    else:
        tell(size, asked.stages)


if __name__ == "__main__":
    main()
