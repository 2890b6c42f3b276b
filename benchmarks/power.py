"""What the default validators see, and how often they alarm for nothing: `python benchmarks/power.py FILE`.

Exact draws of a toy (2 parameters, log-normal maps of 16 x 16 pixels) are spoiled in eleven ways, at the
sizes of the quick preset, 256 observations with 64 draws each. FILE holds one JSON line a repeat; what is
there is not repeated, so that an interrupted benchmark goes on. It prints one JSON line a figure.

    --repeats 200 --processes 16      what docs/results/power.md is made of
    --markdown                        its table in the place of one JSON line a figure
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from _power.repeat import repeat
from _power.table import figures, markdown


def work(seed: int, observations: int, draws: int) -> dict[str, Any]:
    """One line."""
    began = monotonic()
    alarms = repeat(seed, observations, draws)
    sizes = {"observations": observations, "draws": draws}
    return {"repeat": seed, **sizes, "alarms": alarms, "seconds": round(monotonic() - began, 1)}


def done(file: Path, observations: int, draws: int) -> list[dict[str, Any]]:
    """The lines of these sizes, one a repeat; a line that was cut off is left out."""
    found = {}
    for text in file.read_text().splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if (line["observations"], line["draws"]) == (observations, draws):
            found[line["repeat"]] = line
    return list(found.values())


def results(missing: list[int], observations: int, draws: int, processes: int) -> Iterator[dict[str, Any]]:
    """The missing lines, as they are ready."""
    job = partial(work, observations=observations, draws=draws)
    if processes == 1:
        yield from map(job, missing)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(job, missing)


def main() -> None:
    """Do what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--observations", type=int, default=256)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    sizes = (given.observations, given.draws)
    there = {line["repeat"] for line in done(given.file, *sizes)}
    missing = [seed for seed in range(given.repeats) if seed not in there]
    given.file.parent.mkdir(parents=True, exist_ok=True)
    with given.file.open("a") as out:
        for line in results(missing, *sizes, given.processes):
            out.write(json.dumps(line) + "\n")
            out.flush()
    lines = [line for line in done(given.file, *sizes) if line["repeat"] < given.repeats]
    if given.markdown:
        print(markdown(lines))
    else:
        figures(lines)


if __name__ == "__main__":
    main()
