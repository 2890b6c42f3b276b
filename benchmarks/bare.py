"""The quick preset without guide and statistics: `python benchmarks/bare.py FOLDER --steps N [WORDS ...]`.

Trains the same networks on the same stream, but for what the guide knows of maps and statistics tell of
parameters, for N steps, then judges them as `benchmarks/calibration.py` does, which takes WORDS. What a fit
took is told in CPU seconds: fair are as many steps as take the preset's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import calibration
from _bare import bare
from _product import product_seconds
from _record import record
from _run_folder import opened

from sbikit import SbikitError, one_thread
from sbikit.runs import run_stages


def fit_here(folder: Path) -> None:
    """Fit in this process, whose denoiser is bare, and tell what it took, unless it was fitted before."""
    run = opened(folder, "cpu")
    if run.folder.ledger.key("fit"):
        return
    began, products = time.process_time(), [product_seconds()]
    with one_thread():
        run_stages(run, ["fit"])
    seconds = time.process_time() - began
    products.append(product_seconds())
    record("CPU seconds of this fit, or of its last part", seconds, None)
    record("the same", 2.0 * seconds / sum(products), None, ratio_to="the matrix product")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--steps", type=int, required=True, help="of training")
    given, rest = words.parse_known_args()
    settings = (f"steps={given.steps}", "copies=1", "law_simulations=64")
    chosen = [word for setting in settings for word in ("--set", f"estimator.{setting}")]
    try:
        with bare():
            calibration.main([*rest, *chosen], fit_here)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except SbikitError as error:
        sys.exit(str(error))
