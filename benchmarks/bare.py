"""The quick preset without guide and statistics: `python benchmarks/bare.py FOLDER --steps N [WORDS ...]`.

Trains the same networks on the same stream, but for what the guide knows of maps and statistics tell of
parameters, for N steps, then judges them as `benchmarks/calibration.py` does, which takes WORDS. N such that
the fit takes as many CPU seconds as that of the preset are the fair ones; both are told.
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
from sbikit.run import run_stages

if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--steps", type=int, required=True, help="of training")
    given, rest = words.parse_known_args()
    folder: Path = given.folder / "run"
    try:
        if not (folder / "run.yaml").exists():
            settings = (f"steps={given.steps}", "copies=1", "law_simulations=64")
            chosen = [word for setting in settings for word in ("--set", f"estimator.{setting}")]
            command = [sys.executable, "-m", "sbikit", "init", str(folder), "--preset", "quick", *chosen]
            subprocess.run(command, check=True)
        with bare():
            run = opened(folder, "cpu")
            began, product = time.process_time(), product_seconds()
            with one_thread():
                run_stages(run, ["fit"])
            seconds = time.process_time() - began
            if seconds > 60.0:  # else it was fitted before
                record("CPU seconds of the fit", seconds, None)
                record("the same in matrix products", seconds / product, None)
            sys.argv = ["calibration.py", str(given.folder), *rest]
            calibration.main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except SbikitError as error:
        sys.exit(str(error))
