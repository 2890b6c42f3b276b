"""Train the paper's setting a piece at a time: `python benchmarks/paper.py FOLDER [--minutes 9]`.

128 pixels a side, five bins and six parameters (arXiv:2606.31988). The run is in FOLDER/run; where it is not
there it is made with the preset `paper`, and with a smaller network, for two processor cores, unless
`--whole` asks for the preset's own. Each call goes on for so many minutes, ends with a checkpoint, and says
how far it is and what all calls have cost; `--pieces N` makes N of them in one call. It takes an accelerator
where there is one (`--device`). Exit status 0 once the network is trained, 75 before. `python
benchmarks/calibration.py FOLDER --preset paper` then judges it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

from _product import product_seconds
from _record import record

# For processors: 4.2 million weights, 2.3 of them the field's; patches of 64 pixels, 8 simulations a step. Of
# 34,000, 68,000 and 184,000 simulations the law's minus log likelihood of 12,288 others is -.636, -.734 and
# -.808 (differences +- .005): each doubling of them still teaches .05 or more.
FOR_PROCESSORS = {
    "precision": "auto",
    "estimator.width": 96,
    "estimator.depth": 4,
    "estimator.heads": 4,
    "estimator.batch": 8,
    "estimator.steps": 10_000,
    "estimator.ema": 0.998,
    "estimator.guide_simulations": 2048,
    "estimator.law_simulations": 524_288,
}
BEGAN = datetime.datetime.now(datetime.UTC).isoformat()  # of this call
NOT_YET = 75  # as sysexits.h says: try again
_INTERRUPTED = 130
_PATIENCE = 60.0  # seconds that an interrupted fit may take to end


def main() -> int:
    """One or more pieces; returns the exit status."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--minutes", type=float, default=9.0, help="of a piece")
    words.add_argument("--pieces", type=int, default=1, metavar="N")
    words.add_argument("--whole", action="store_true", help="the preset's own network, for an accelerator")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of a new run")
    words.add_argument("--device", help="what the run says where left out")
    words.add_argument("--devices", metavar="N", help="processes, as of `sbikit fit`: one a core")
    given = words.parse_args()
    run = given.folder / "run"
    if not (run / "run.yaml").exists():
        settings = [] if given.whole else [f"{key}={value}" for key, value in FOR_PROCESSORS.items()]
        chosen = (f"--set={setting}" for setting in (*settings, *given.set))
        _sbikit("init", str(run), "--preset", "paper", *chosen)
    elif given.set:
        words.error(f"there is a run in {run} already; --set is for a new one")
    command = ["fit", str(run)]
    for option in ("device", "devices"):
        if value := getattr(given, option):
            command += [f"--{option}", value]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for _ in range(given.pieces):
        done = False
        try:
            done = piece(command, 60.0 * given.minutes)
        finally:
            tell(given.folder, run, done)
        if done:
            return 0
    return NOT_YET


def piece(command: list[str], seconds: float) -> bool:
    """Go on for so long; whether the fit is done.

    Raises:
        subprocess.CalledProcessError: sbikit has refused, and said why.
    """
    # Apart from the terminal, whose interrupts it would hear beside the one that it is sent.
    started = [sys.executable, "-m", "sbikit", *command]
    fit = subprocess.Popen(started, stdout=sys.stderr, start_new_session=True)
    try:
        status = fit.wait(seconds)
    except subprocess.TimeoutExpired:
        status = _ended(fit)
    except BaseException:  # an interrupt, or what somebody's handler makes of it
        _ended(fit)
        raise
    if status not in {0, _INTERRUPTED}:
        raise subprocess.CalledProcessError(status, fit.args)
    return status == 0


def _ended(fit: subprocess.Popen[bytes]) -> int:
    """The exit status of a fit that is asked to keep what is done: by a signal that shells do not hide from
    what they start in the background.
    """
    fit.send_signal(signal.SIGTERM)
    return fit.wait(_PATIENCE)


def tell(folder: Path, run: Path, done: bool) -> None:
    """How far it is, and what it has cost, this call's processes and those of calls before."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept = folder / "cost.json"
    calls = json.loads(kept.read_text()) if kept.exists() else {}
    calls[BEGAN] = {"cpu": used.ru_utime + used.ru_stime, "product": product_seconds()}
    kept.write_text(json.dumps(calls))
    record("CPU seconds of all calls", sum(call["cpu"] for call in calls.values()), None)
    products = sum(call["cpu"] / call["product"] for call in calls.values())
    record("CPU time of all calls", products, None, ratio_to="a product of two 1024 x 1024 float32 matrices")
    log = run / "training.jsonl"
    rounds = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    losses = [entry for entry in rounds if "loss" in entry]
    record("training steps", losses[-1]["step"] if losses else 0, None, goal="all", ok=done)
    if losses:
        record("loss of the last round, 2 without the networks", losses[-1]["loss"], None)


def _sbikit(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sbikit", *words], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except subprocess.CalledProcessError as error:  # of sbikit, which has said why
        sys.exit(error.returncode)
