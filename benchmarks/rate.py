"""Joint draws a CPU second beside effective ones of hmc, on one thread: `python benchmarks/rate.py FOLDER`.

FOLDER is a finished run whose simulator has a log density. Observations are of the training stream, which no
result is reported on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _run_folder import opened
from _speed import SpeedSize, speed, tell_speed


def main() -> None:
    """Draw by both, then tell."""
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/rate.py FOLDER")
    torch.set_num_threads(1)
    tell_speed(speed(opened(Path(sys.argv[1]), "cpu"), SpeedSize()))


if __name__ == "__main__":
    main()
