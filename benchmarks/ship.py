"""Ship what a finished run has learned: `python benchmarks/ship.py RUNFOLDER NAME`.

Copies configuration, weights, calibration record and provenance to the folder NAME in `pretrained` of the
transformer's plug-in, or in another one, `--into FOLDER`; `sbikit sample --pretrained NAME` then finds them.
NAME is that of the preset that was trained. Refused, with exit status 2, is a run that is not finished, has a
verdict that fails, has a file of 16 MiB or more, or names a path of this machine. With `--despite agreement`
those of the comparison with exact draws may fail; whoever draws is told how many of all verdicts pass.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sbikit import SbikitError
from sbikit.runs import ship

INTO = Path(__file__).parents[1] / "plugins" / "sbikit_transformer" / "pretrained"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUNFOLDER")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--into", type=Path, default=INTO, metavar="FOLDER")
    parser.add_argument("--despite", action="append", default=[], metavar="VALIDATOR")
    chosen = parser.parse_args()
    try:
        print(ship(chosen.run, chosen.into / chosen.name, despite=chosen.despite))
    except SbikitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
