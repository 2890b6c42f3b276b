"""The spectra and the shift as polynomials of the cosmology, so that torch can differentiate them.

Least squares with Chebyshev polynomials T_a(x) T_b(y) T_c(v), a + b + c <= 5, where x, y and v are
log Omega_m, log S8 and w0 scaled to [-1, 1] over the box. Fitted are log C_ii(ell), the inverse
hyperbolic tangent of the correlation C_ij / sqrt(C_ii C_jj), and log lambda_i, at a scrambled Sobol sequence
of CAMB runs.

    python -m sbikit_lognormal.emulator build      # remakes the table in this package
    python -m sbikit_lognormal.emulator held-out   # remakes the reference values of the tests
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from sbikit import CheckpointError, SimulationError
from sbikit_lognormal.runs import BOX, from_unit, run_all
from sbikit_lognormal.spectra import ELL, Setting

Array = NDArray[np.float64]

DEGREE = 5
RUNS = 180
SEED = 20240117
SHIPPED = Path(__file__).parent / "tables"

_FORMAT = 1
_CORES = os.cpu_count() or 1


# --- the table ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Coefficients and what they hold for.

    Args:
        setting: sources and fixed cosmology.
        ell: multipoles (n_ell,).
        coefficients: (terms, outputs), outputs as `pack` orders them.
        provenance: how the table was made.
    """

    setting: Setting
    ell: Array
    coefficients: Array
    provenance: dict[str, str]

    def save(self, path: Path) -> None:
        """Write an .npz file; the file appears only when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "format": _FORMAT,
            "setting": asdict(self.setting),
            "box": BOX,
            "degree": DEGREE,
            "provenance": self.provenance,
        }
        part = path.with_name(f"{path.stem}.part{os.getpid()}.npz")
        np.savez_compressed(
            part, header=np.array(json.dumps(header)), ell=self.ell, coefficients=self.coefficients
        )
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is damaged or of another format.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                setting = Setting(**header["setting"])
                if (header["format"], header["degree"]) != (_FORMAT, DEGREE):
                    raise ValueError(f"format {header['format']}, degree {header['degree']}")
                if {key: tuple(bounds) for key, bounds in header["box"].items()} != BOX:
                    raise ValueError(f"box {header['box']}")
                return cls(setting, file["ell"], file["coefficients"], header["provenance"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                "The table of a spectrum emulator cannot be read.",
                where=str(path),
                expected=f"an .npz table of format {_FORMAT}, degree {DEGREE}, box {BOX}",
                got=f"{type(error).__name__}: {error}",
                fix="delete the file: it is made again when it is needed",
            ) from error


def find_table(setting: Setting) -> Table:
    """The table for a setting: shipped, or from the user's cache, or built now with a progress bar.

    Raises:
        CheckpointError: the table is there but cannot be read.
        SimulationError: it is not there, and CAMB failed at one of the cosmologies.
    """
    name = f"{setting.digest}.npz"
    for folder in (SHIPPED, cache_folder()):
        if (folder / name).exists():
            return Table.load(folder / name)
    table = build(setting, cache_folder() / "runs" / setting.digest, processes=_CORES)
    table.save(cache_folder() / name)
    return table


def cache_folder() -> Path:
    """Where tables built here are kept: $XDG_CACHE_HOME/sbikit/spectra, else ~/.cache/sbikit/spectra."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sbikit" / "spectra"


# --- fitting --------------------------------------------------------------------------------


def build(setting: Setting, folder: Path, *, processes: int) -> Table:
    """Fit a table to CAMB runs, kept in a folder of their own until all are done.

    Raises:
        SimulationError: CAMB failed at one of the cosmologies.
    """
    cosmologies = from_unit(sobol_points(RUNS, SEED))
    spectra, shifts = _run(setting, cosmologies, folder, processes, "spectra for the emulator")
    features = chebyshev(torch.from_numpy(cosmologies)).numpy()
    coefficients = np.linalg.lstsq(features, pack(spectra, shifts), rcond=None)[0]
    provenance = {
        "command": "python -m sbikit_lognormal.emulator build",
        "runs": str(RUNS),
        "seed": str(SEED),
        **{library: version(library) for library in ("camb", "glass", "numpy", "scipy", "sbikit")},
    }
    return Table(setting, ELL, coefficients, provenance)


def sobol_points(count: int, seed: int) -> Array:
    """The first points of a scrambled Sobol sequence in the unit cube, (count, 3)."""
    from scipy.stats import qmc

    size = math.ceil(math.log2(count))
    return qmc.Sobol(3, scramble=True, rng=np.random.default_rng(seed)).random_base2(size)[:count]


def _run(
    setting: Setting, cosmologies: Array, folder: Path, processes: int, title: str
) -> tuple[Array, Array]:
    try:
        with _progress(title, len(cosmologies)) as advance:
            return run_all(setting, cosmologies, folder, processes=processes, progress=advance)
    except RuntimeError as error:
        raise SimulationError(
            "The power spectra could not be computed.",
            where=str(setting),
            got=str(error),
            fix="mend the redshift distribution; what was finished is kept and not computed again",
        ) from error


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr with rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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


def pack(spectra: Array, shifts: Array) -> Array:
    """What is fitted, one row a cosmology.

    Args:
        spectra: (n, bins, bins, n_ell).
        shifts: (n, bins).

    Returns:
        (n, outputs): log C_ii, then atanh of the correlations i < j, then log lambda_i.
    """
    bins = shifts.shape[-1]
    auto = spectra[:, range(bins), range(bins)]
    first, second = np.triu_indices(bins, 1)
    correlation = spectra[:, first, second] / np.sqrt(auto[:, first] * auto[:, second])
    parts = (np.log(auto), np.arctanh(correlation), np.log(shifts))
    return np.concatenate([part.reshape(len(spectra), -1) for part in parts], axis=1)


# --- evaluation -----------------------------------------------------------------------------


def chebyshev(theta: Tensor) -> Tensor:
    """The 56 products of Chebyshev polynomials, (..., 56).

    Args:
        theta: Omega_m, S8, w0, (..., 3), float64.
    """
    omega_m, s8, w0 = theta.unbind(-1)
    (om_low, om_high), (s8_low, s8_high), (w_low, w_high) = BOX.values()
    scaled = torch.stack(
        [
            2 * torch.log(omega_m / om_low) / math.log(om_high / om_low) - 1,
            2 * torch.log(s8 / s8_low) / math.log(s8_high / s8_low) - 1,
            2 * (w0 - w_low) / (w_high - w_low) - 1,
        ],
        dim=-1,
    )
    rows = [torch.ones_like(scaled), scaled]
    for _ in range(DEGREE - 1):
        rows.append(2 * scaled * rows[-1] - rows[-2])
    a, b, c = torch.tensor(_powers(), device=theta.device).unbind(-1)
    polynomials = torch.stack(rows, dim=-1)
    return polynomials[..., 0, a] * polynomials[..., 1, b] * polynomials[..., 2, c]


def _powers() -> list[tuple[int, ...]]:
    """The degrees (a, b, c) of each term."""
    return [abc for abc in product(range(DEGREE + 1), repeat=3) if sum(abc) <= DEGREE]


class Emulator:
    """Spectra and shifts, differentiable in the cosmology, float64.

    Args:
        table: fitted coefficients.
        device: where to compute.
    """

    def __init__(self, table: Table, device: torch.device | str = "cpu") -> None:
        self.bins = table.setting.bins
        self.ell = table.ell
        self.coefficients = torch.from_numpy(table.coefficients).to(device)

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., bins, bins, n_ell) and lambda_i of shape (..., bins), float64.

        Args:
            theta: Omega_m, S8, w0 inside the box, (..., 3).
        """
        rows = chebyshev(theta.double()) @ self.coefficients
        bins, n_ell = self.bins, len(self.ell)
        pairs = bins * (bins - 1) // 2
        log_auto, atanh, log_shift = rows.split([bins * n_ell, pairs * n_ell, bins], dim=-1)
        auto = log_auto.unflatten(-1, (bins, n_ell)).exp()
        if bins == 1:
            return auto.unsqueeze(-2), log_shift.exp()
        first, second = torch.triu_indices(bins, bins, 1, device=rows.device)
        correlation = atanh.unflatten(-1, (pairs, n_ell)).tanh()
        cross = correlation * torch.sqrt(auto[..., first, :] * auto[..., second, :])
        spectra = torch.diag_embed(auto.movedim(-1, 0)).movedim(0, -1).clone()
        spectra[..., first, second, :] = cross
        spectra[..., second, first, :] = cross
        return spectra, log_shift.exp()


# --- command line ---------------------------------------------------------------------------

app = typer.Typer(add_completion=False, help="Make the tables of the spectrum emulator.")
Processes = Annotated[int, typer.Option(min=1, help="CAMB runs at the same time.")]
Folder = Annotated[
    Path | None, typer.Option(help="Where finished runs are kept; the user's cache if left out.")
]


@app.command("build")
def build_command(
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = SHIPPED,
    runs: Folder = None,
    processes: Processes = _CORES,
) -> None:
    """Fit the table of the default redshift distribution."""
    setting = Setting()
    folder = runs or cache_folder() / "runs" / setting.digest
    path = out / f"{setting.digest}.npz"
    build(setting, folder, processes=processes).save(path)
    typer.echo(str(path))


@app.command("held-out")
def held_out_command(
    out: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    count: Annotated[int, typer.Option(min=1, help="Cosmologies.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the cosmologies.")] = 7,
    runs: Folder = None,
    processes: Processes = _CORES,
) -> None:
    """CAMB spectra at cosmologies that no table was fitted to."""
    setting = Setting()
    folder = runs or cache_folder() / "held-out" / f"{setting.digest}-{count}-{seed}"
    cosmologies = from_unit(np.random.default_rng(seed).random((count, 3)))
    spectra, shifts = _run(setting, cosmologies, folder, processes, "held-out spectra")
    np.savez_compressed(out, cosmologies=cosmologies, ell=ELL, spectra=spectra, shifts=shifts)
    typer.echo(str(out))


if __name__ == "__main__":
    app()
