"""The problems of sbibm: `python benchmarks/sbibm.py FOLDER --task two_moons --simulations 10000`.

Of each problem that is named, simulations are kept, an estimator learns from them and from nothing else, at
its defaults, and its draws for the ten observations that come with sbibm are told apart from the reference
draws that come with it by sbibm's classifier (C2ST, 10,000 draws of either): 1/2 is ideal. A score is a line
of a scores.jsonl in FOLDER, and is not computed again; an interrupted training goes on. Without --task all
are done.

`--tuning` scores other observations, against exact draws made here (2,000 of either): by these settings are
chosen (`--set KEY=VALUE`), and nothing of them is a result. `pip install --no-deps sbibm` brings references;
`--references` tells these and exact draws made here apart, of all problems but bernoulli_glm.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _product import product_seconds
from _record import record
from _sbibm.exact import exact_draws
from _sbibm.tasks import OBSERVATIONS, TASKS, folder, reference
from torch import Tensor

import sbikit
from sbikit import Simulations, Simulator

DRAWS, TUNING_DRAWS, TUNING_OBSERVATIONS = 10_000, 2000, 4


def c2st(learned: Tensor, exact: Tensor) -> float:
    """Share of new draws that a classifier calls by their right name, learned or exact, as sbibm does."""
    from sbi.utils.metrics import c2st as of_sbi

    hidden = 10 * exact.shape[1]
    how = {"activation": "relu", "hidden_layer_sizes": (hidden, hidden), "max_iter": 10_000, "solver": "adam"}
    return float(of_sbi(exact, learned, classifier="mlp", classifier_kwargs=how))


def observations(
    task: str, simulator: Simulator, count: int, *, tuning: bool, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Data and exact draws of each observation."""
    if not tuning:
        return [reference(task, number + 1) for number in range(count)]
    held_out = Simulations(simulator, 1000 + seed).held_out(0, count)["x"]
    return [(x, exact_draws(task, x, TUNING_DRAWS, number)) for number, x in enumerate(held_out)]


def scores(task: str, simulations: int, seed: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """A record an observation; those in the folder are not made again."""
    tuning = bool(chosen.tuning)
    options = dict(pair.split("=", 1) for pair in chosen.set)
    label = [task, chosen.estimator, f"{simulations}", f"{seed}", *(f"{k}={v}" for k, v in options.items())]
    place: Path = chosen.folder / "-".join(label)
    file = place / ("tuning.jsonl" if tuning else "scores.jsonl")
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    count = chosen.observations or (TUNING_OBSERVATIONS if tuning else OBSERVATIONS)
    if len(done) >= count:
        return done[:count]
    simulator = TASKS[task]()
    kept = sbikit.simulate(
        simulator,
        simulations,
        seed=seed,
        store=chosen.folder / f"{task}-{simulations}-{seed}.zarr",
        progress=False,
    )
    timed = place / "seconds.json"
    resumed = (place / "run").exists()
    began = time.process_time()
    values = {key: json.loads(value) for key, value in options.items()}
    posterior = sbikit.fit(kept, chosen.estimator, out=place / "run", seed=seed, progress=False, **values)
    if not timed.exists():
        fit = None if resumed else time.process_time() - began  # of an earlier process nobody knows
        timed.write_text(json.dumps({"fit": fit, "product": product_seconds()}))
    seconds = json.loads(timed.read_text())
    for number, (x, exact) in enumerate(observations(task, simulator, count, tuning=tuning, seed=seed)):
        if number < len(done):
            continue
        began = time.process_time()
        learned = posterior.sample(x, len(exact)).to_numpy()["theta"]
        drawing = time.process_time() - began
        found = {"task": task, "estimator": chosen.estimator, "simulations": simulations, "seed": seed}
        found |= {
            "observation": number + 1,
            "c2st": c2st(torch.tensor(learned), exact),
            "drawing": drawing,
            **seconds,
        }
        done.append(found)
        with file.open("a") as out:
            out.write(json.dumps(found) + "\n")
    return done


def agreement(task: str, count: int) -> list[float]:
    """C2ST of exact draws made here and the reference draws, for the first observations."""
    given = [reference(task, number + 1) for number in range(count)]
    return [c2st(exact_draws(task, x, len(exact), number), exact) for number, (x, exact) in enumerate(given)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", choices=list(TASKS), action="append")
    parser.add_argument("--estimator", default="diffusion-transformer")
    parser.add_argument("--simulations", type=int, action="append")
    parser.add_argument("--observations", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--references", action="store_true", help="exact draws made here beside sbibm's")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if not chosen.tuning:
        folder()
    if chosen.references:
        for task in chosen.task or [name for name in TASKS if name != "bernoulli_glm"]:
            found = np.array(agreement(task, chosen.observations or OBSERVATIONS))
            error = float(found.std(ddof=1) / math.sqrt(len(found)))
            record(f"C2ST of exact draws made here on {task}", float(found.mean()), error, ideal=0.5)
        return
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for simulations in chosen.simulations or [1000, 10_000, 100_000]:
        for task in chosen.task or TASKS:
            found = [one for seed in range(chosen.seeds) for one in scores(task, simulations, seed, chosen)]
            of = f"of {chosen.estimator} on {task}, {simulations} simulations"
            c2sts = np.array([one["c2st"] for one in found])
            error = float(c2sts.std(ddof=1) / math.sqrt(len(c2sts)))
            record(f"C2ST {of}", float(c2sts.mean()), error, ideal=0.5)
            if any(one["fit"] is None for one in found):
                continue
            fits = sorted({one["fit"] / one["product"] for one in found})
            record(f"training {of}", float(np.mean(fits)), None, ratio_to="the matrix product")
            record(f"CPU seconds of a training {of}", float(np.mean([one["fit"] for one in found])), None)


if __name__ == "__main__":
    main()
