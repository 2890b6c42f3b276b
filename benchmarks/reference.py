"""How exact are the exact samplers, and how fast? `python benchmarks/reference.py FOLDER [--data DIR]`.

    gaussian   hmc and nuts against the analytic posterior of the Gaussian mode (sampler wiener)
    sbc        simulation-based calibration of hmc itself on log-normal observations, MIRA and TARP
    both       nuts against hmc on log-normal observations
    published  the noisy convergence map of sbi_lens and its published full-field draws (DIR)
    speed      effective draws a second of hmc and nuts on the same log density
    table      transformer and npe of the quick preset against hmc, every figure of `agreement`

Each step keeps its draws in FOLDER, so that an interrupted benchmark goes on. `--only gaussian,sbc` chooses
steps; `--quick` makes them small enough for ten minutes in all (its figures are not results). The step
`table` reads the run folder FOLDER/run, which `python benchmarks/quick.py FOLDER/run` makes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _reference.against import both, gaussian
from _reference.calibration import sbc
from _reference.published import published
from _reference.scale import QUICK, Scale
from _reference.speed import speed, worker
from _reference.table import table


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the published observation and draws")
    parser.add_argument("--quick", action="store_true", help="a trial of all steps in ten minutes")
    parser.add_argument(
        "--only", default="gaussian,sbc,both,published,speed,table", help="steps, commas between"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.folder, given.worker)
        return
    scale = QUICK if given.quick else Scale()
    for step in given.only.split(","):
        folder = given.folder / step
        if step == "published":
            if given.data is not None:
                published(folder, scale, given.data)
        else:
            {"gaussian": gaussian, "sbc": sbc, "both": both, "speed": speed, "table": table}[step](
                folder, scale
            )


if __name__ == "__main__":
    main()
