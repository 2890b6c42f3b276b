"""Peak memory and time of every stage where draws are larger than memory: `python benchmarks/big.py FOLDER`.

    python benchmarks/big.py FOLDER [--pixels 128] [--bins 5] [--observations 256] [--draws 64]
                                    [--shown 100] [--reference 4] [--stages sample validate report]

A run whose simulator and samplers cost next to nothing (`_big`) goes through its stages, each in a fresh
process that tells its peak resident memory (getrusage). Finished stages of FOLDER are not repeated, and then
not measured. The figures of all validators are in FOLDER/run/metrics.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = {"pixels": 128, "bins": 5, "observations": 256, "draws": 64, "shown": 100, "reference": 4}
LIMIT = 3.0  # GB, of sample, validate and report


def measured(folder: Path, size: dict[str, int], stage: str) -> dict[str, float]:
    """Peak memory in GB and seconds of one stage, done by a process of its own."""
    command = [sys.executable, __file__, str(folder), "--only", stage]
    command += [word for name, value in size.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_stage(folder: Path, size: dict[str, int], stage: str) -> None:
    """Do one stage here and print its memory and time."""
    from _big.run import install, words

    from sbikit.cli import main

    install(folder / "parts")
    began = time.monotonic()
    run = folder / "run"
    if not run.exists():
        _command(main, ["init", str(run), *words(size), "--device", "cpu"])
    done = _command(main, [stage, str(run)])
    if done:
        raise SystemExit(done)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"GB": peak, "seconds": time.monotonic() - began}))


def _command(main: object, words: list[str]) -> int:
    sys.argv = ["sbikit", *words]
    try:
        main()  # type: ignore[operator]
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def tell(folder: Path, size: dict[str, int], stages: list[str]) -> None:
    """All of it, a figure a line."""
    from _record import record

    field = size["bins"] * size["pixels"] ** 2 * 4 / 1e9
    draws = field * size["observations"] * size["draws"]
    what = f"{size['pixels']} px, {size['bins']} bins, {size['observations']} x {size['draws']} draws"
    record(f"draws of fields at {what} [GB]", draws, None)
    for stage in stages:
        found = measured(folder, size, stage)
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
    stages = ["simulate", "fit", "sample", "validate", "report"]
    parser.add_argument("--stages", nargs="+", default=stages)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = {name: int(getattr(asked, name)) for name in SIZES}
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.only:
        one_stage(asked.folder, size, asked.only)
    else:
        tell(asked.folder, size, asked.stages)


if __name__ == "__main__":
    main()
