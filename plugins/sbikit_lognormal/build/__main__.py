"""The command that makes the tables.

python -m sbikit_lognormal.build table      # remakes the table in this package
python -m sbikit_lognormal.build held-out   # remakes the reference values of the tests
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sbikit_lognormal.build.design import design, held_out
from sbikit_lognormal.build.fitting import fit_table
from sbikit_lognormal.build.grids import Grids
from sbikit_lognormal.build.held_out import JUDGED, held_out_spectra
from sbikit_lognormal.build.refinement import refinement
from sbikit_lognormal.build.runs import run_all
from sbikit_lognormal.spectra import ELL, TABLE

Array = NDArray[np.float64]

RUNS = 3072  # of the design; twice as many take twice the time to make and to use, eight times to fit
REFINEMENT = 768  # more, a quarter as many, where those are predicted worst by the others
SEED = 20261122  # of the design; any would do

_CORES = os.cpu_count() or 1


def cache_folder() -> Path:
    """Where CAMB runs are kept: $XDG_CACHE_HOME/sbikit/matter, else ~/.cache/sbikit/matter."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sbikit" / "matter"


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr with rate and time left."""
    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, advance=count, rate=f"{speed:.2f}/s" if speed else "")

        yield advance


def _runs(points: Array, folder: Path, processes: int, title: str) -> Grids:
    if find_spec("camb") is None:
        typer.echo("error: CAMB is not installed.\n  fix: pip install 'sbikit[camb]'", err=True)
        raise typer.Exit(2)
    with _progress(title, len(points)) as advance:
        files = run_all(points, folder, processes=processes, progress=advance)
    return Grids.read(files)


app = typer.Typer(add_completion=False, help="Make the table of the matter power emulator.")
Processes = Annotated[int, typer.Option(min=1, help="CAMB runs at the same time.")]
Folder = Annotated[
    Path | None, typer.Option(help="Where finished runs are kept; the user's cache if left out.")
]


@app.command("table")
def table_command(
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = Path(str(TABLE)),
    runs: Folder = None,
    processes: Processes = _CORES,
) -> None:
    """Fit the table of this package; about 90 CPU-minutes, resumable."""
    folder = runs or cache_folder()
    grids = _runs(design(RUNS, SEED), folder / "design", processes, "matter power to fit to")
    more = refinement(grids, REFINEMENT, SEED)
    others = _runs(more, folder / "refinement", processes, "more of it where the fit is worst")
    fit_table(grids.and_also(others), SEED).save(out)
    typer.echo(str(out))


@app.command("held-out")
def held_out_command(
    out: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the cosmologies.")] = 8,
    runs: Folder = None,
    processes: Processes = _CORES,
) -> None:
    """CAMB at cosmologies that no table was fitted to, as convergence spectra of the paper's five bins."""
    points = held_out(seed)
    folder = (runs or cache_folder()) / f"held-out-{seed}"
    grids = _runs(points, folder, processes, "held-out matter power")
    dark_matter, feedback = held_out_spectra(grids)
    np.savez_compressed(out, points=points, ell=ELL[JUDGED], dark_matter=dark_matter, feedback=feedback)
    typer.echo(str(out))


if __name__ == "__main__":
    app()
