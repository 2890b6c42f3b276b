"""Does sbikit ever give a wrong number without a word, or a traceback for an answer?

    python benchmarks/faults.py FOLDER [--quick] [--processes N] [--only PART]

Four parts: runs killed with SIGKILL at random moments and taken up again (100), files of run folders damaged
(300), configurations and observations fuzzed (1,000), bad simulators (all). Answered well is a refusal with a
message and status 2, or the very numbers of a run that nothing happened to. Each case is a line of
FOLDER/faults.jsonl, and the same command goes on where it was interrupted; with --quick a tenth of the cases.
Prints the counts of each part; status 1 if any case was answered badly. What a badly answered case left
behind stays in FOLDER.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import multiprocessing
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from _faults.damage import damaged
from _faults.fuzz import configured, observed
from _faults.kills import killed, pristine, unfinished
from _faults.runs import KINDS, heat_up, install_simulators
from _faults.simulators import CASES, simulated
from _record import record

PARTS: dict[str, tuple[Callable[[Path, int], dict[str, object]], int]] = {
    "kill": (killed, 100),
    "damage": (damaged, 300),
    "configuration": (configured, 700),
    "observation": (observed, 300),
    "simulator": (simulated, len(CASES)),
}


def main() -> int:
    """Run what is left, print the counts."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--quick", action="store_true", help="a tenth of the cases")
    words.add_argument("--processes", type=int, default=1, metavar="N", help="cases at a time")
    words.add_argument("--only", choices=PARTS, action="append", help="this part alone; repeat for several")
    given = words.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    install_simulators(folder / "site")
    heat_up()
    parts = {name: PARTS[name] for name in given.only or PARTS}
    for kind in KINDS:
        pristine(folder, kind)
        if "damage" in parts:
            for share in (0.3, 0.5, 0.7, 0.9):
                unfinished(folder, kind, share)
    results = folder / "faults.jsonl"
    cases = {(name, i) for name, (_, count) in parts.items() for i in _chosen(name, count, given.quick)}
    _run(folder, results, sorted(cases - set(_done(results))), given.processes)
    return _counted(_done(results), parts)


def _chosen(name: str, count: int, quick: bool) -> list[int]:
    """The cases of a part: all of them, or a tenth, the same in every process."""
    if not quick:
        return list(range(count))
    return sorted(random.Random(f"quick {name}").sample(range(count), -(-count // 10)))


def _done(results: Path) -> dict[tuple[str, int], dict[str, object]]:
    lines = results.read_text().splitlines() if results.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return {(one["part"], one["case"]): one for one in found}


def _run(folder: Path, results: Path, cases: list[tuple[str, int]], processes: int) -> None:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool, results.open("a") as file:
        waiting = {pool.submit(PARTS[name][0], folder, i): (name, i) for name, i in cases}
        for future in as_completed(waiting):
            name, i = waiting[future]
            line = json.dumps({"part": name, "case": i, **future.result()})
            file.write(line + "\n")
            file.flush()
            if not future.result()["well"]:
                print(line, file=sys.stderr, flush=True)


def _counted(done: dict[tuple[str, int], dict[str, object]], parts: dict[str, object]) -> int:
    bad = 0
    for name in parts:
        answers = [bool(one["well"]) for (part, _), one in done.items() if part == name]
        bad += answers.count(False)
        goal, ok = f"{len(answers)}, of {len(answers)}", all(answers)
        record(f"{name}: answered well", sum(answers), None, goal=goal, ok=ok)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
