"""How many network evaluations a draw needs: `python benchmarks/solver.py FOLDER`.

FOLDER is a finished run of the transformer. The same noise is solved with few evaluations of the field's
network and with 96, at the same parameters, for observations of the training stream, which no result is
reported on. The rms shift of pixels in posterior standard deviations, and the ratio of their variances, with
standard errors over observations. The parameters, whose network is small, always have all of theirs; they are
solved with fewer, too. The 96 go from 150 to the level below which data tell nothing more. The field is also
denoised at few levels from several first ones to several last ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _run_folder import opened
from _solved import solved, tell_solved

from sbikit_transformer.diffusion import noise_levels

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/solver.py FOLDER")
    torch.set_num_threads(1)
    more = [noise_levels(f, last, n) for n in (3, 4, 5) for f in (5.0, 12.0, 36.0) for last in (0.4, 0.15)]
    for one in solved(opened(Path(sys.argv[1]), "cpu"), more=more):
        tell_solved(one)
