"""The matter power of CAMB as a function of the cosmology that torch can differentiate.

Emulated is log p(z, ell), p = (h / D_H)^3 P(k = (ell + 1/2) / chi(z), z), on the fixed redshifts and
multipoles of the Limber sum: from it the spectra of any sources follow without another run of CAMB. The
grids of all runs are compressed to principal components, weighted by what a place of the grid contributes
to the convergence; each component is a quadratic polynomial of the inputs

    log Omega_m,  Omega_b / Omega_m,  log sigma_8,  log h,  n_s,  exp(w_0)    (and log T_AGN)

plus a Gaussian process with a Matern kernel of order 7/2 whose scales, one an input and group of components,
maximise the marginal likelihood (Rasmussen and Williams 2006, ch. 2, 4 and 5). Three quantities have an
emulator each: the non-linear power, the linear power and the ratio that feedback makes.

The runs are a design even over the prior (see `design`), then a quarter as many where runs of that design
are predicted worst by the others. Runs with less than Omega_c = 0.03 are left out: their spectra are unlike
all others and spoil the compression.

    python -m sbikit_lognormal.emulator build      # remakes the table in this package
    python -m sbikit_lognormal.emulator held-out   # remakes the reference values of the tests
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from sbikit import CheckpointError
from sbikit_lognormal.cosmology import Cosmology, expansion
from sbikit_lognormal.design import design, held_out
from sbikit_lognormal.limber import ELL, WEIGHTS, Limber, Z
from sbikit_lognormal.matter import MatterPower
from sbikit_lognormal.runs import run_all
from sbikit_lognormal.sources import equal_sources

Array = NDArray[np.float64]

RUNS = 3072
REFINEMENT = 768
SEED = 20261122
TABLE = Path(__file__).parent / "tables" / "matter.npz"

PAPER_SOURCES = equal_sources(2.0, 0.68, 0.11, 5, 0.05)
"""The five bins whose spectra judge the emulator."""

COMPONENTS = {"nonlinear": 80, "linear": 40, "feedback": 24}
"""Principal components that are kept of each quantity."""

_GROUPS = (6, 25)  # where one group of components ends and the next begins
_FORMAT = 3
_TUNED_ON = 600  # runs that fix the scales of the kernel
_TUNING_STEPS = 50
_LEAST_NOISE = 3e-8  # less makes weights so large that their rounding shows in differences of the fit
_LEAST_OMEGA_C = 0.03
_CANDIDATES = 2**14  # points of the design's sequence of which the refinement is chosen
_NEIGHBOURS = 8
_PLANES = (0.3, 0.7, 1.5, 4.9)  # redshifts of the source planes that weigh the grid
_LEAST_WEIGHT = 3e-4
_JUDGED = (ELL >= 20) & (ELL <= 6000)
_CORES = os.cpu_count() or 1


# --- the table ------------------------------------------------------------------------------


class Fit(NamedTuple):
    """One emulated quantity; d inputs, n runs, C components, G groups.

    Attributes:
        centre: of the inputs (d,).
        spread: of the inputs (d,).
        points: standardised inputs of the runs (n, d).
        scales: of the kernel (G, d).
        members: the group of each component (C,).
        kernel: (n, C) weights of the runs.
        polynomial: (terms, C).
        mean: (n_z n_ell,).
        basis: (C, n_z n_ell).
    """

    centre: Array
    spread: Array
    points: Array
    scales: Array
    members: Array
    kernel: Array
    polynomial: Array
    mean: Array
    basis: Array


@dataclass(frozen=True)
class Table:
    """All fits and how they were made."""

    fits: dict[str, Fit]
    provenance: dict[str, str]

    def save(self, path: Path) -> None:
        """Write an .npz file; the file appears only when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"format": _FORMAT, "provenance": self.provenance}
        arrays = {
            f"{name}.{field}": array
            for name, fit in self.fits.items()
            for field, array in fit._asdict().items()
        }
        part = path.with_name(f"{path.stem}.part{os.getpid()}.npz")
        np.savez_compressed(part, header=np.array(json.dumps(header)), z=Z, ell=ELL, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is damaged, of another format or of another grid.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != _FORMAT:
                    raise ValueError(f"format {header['format']}")
                for name, grid in (("z", Z), ("ell", ELL)):
                    if file[name].shape != grid.shape or not np.allclose(file[name], grid, rtol=1e-12):
                        raise ValueError(f"another grid of {name}")
                fits = {
                    name: Fit(*(file[f"{name}.{field}"].astype(np.float64) for field in Fit._fields))
                    for name in COMPONENTS
                }
                return cls(fits, header["provenance"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                "The table of the matter power emulator cannot be read.",
                where=str(path),
                expected=f"an .npz table of format {_FORMAT} on the grid of this version",
                got=f"{type(error).__name__}: {error}",
                fix="reinstall sbikit, or remake it: python -m sbikit_lognormal.emulator build",
            ) from error


@cache
def shipped_table() -> Table:
    """The table of this package, read once.

    Raises:
        CheckpointError: it cannot be read.
    """
    return Table.load(TABLE)


# --- evaluation -----------------------------------------------------------------------------


def inputs(cosmology: Tensor) -> Tensor:
    """What the fits depend on, (..., 6), of the six parameters (..., 6)."""
    c = Cosmology.of(cosmology)
    columns = (
        torch.log(c.omega_m),
        c.omega_b / c.omega_m,
        torch.log(c.sigma_8),
        torch.log(c.h),
        c.n_s,
        torch.exp(c.w_0),
    )
    return torch.stack(columns, -1)


def quadratic(x: Tensor) -> Tensor:
    """1, x_i and x_i x_j for i <= j, (..., terms), of x (..., d)."""
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return torch.cat([torch.ones_like(x[..., :1]), x, x[..., first] * x[..., second]], -1)


class _Process:
    """One fit on a device."""

    def __init__(self, fit: Fit, device: torch.device | str) -> None:
        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.centre, self.spread = tensor(fit.centre), tensor(fit.spread)
        # As transposed views these leave a row's rounding independent of its place among others.
        self.polynomial = tensor(fit.polynomial.T.copy()).T
        self.mean, self.basis = tensor(fit.mean), tensor(fit.basis.T.copy()).T
        members = fit.members.astype(int)
        self.groups = []
        for group, scales in enumerate(fit.scales):
            weights = tensor(fit.kernel[:, members == group].T.copy()).T
            self.groups.append((tensor(1.0 / scales), tensor(fit.points / scales), weights))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., n_z, n_ell) at inputs (..., d)."""
        x = (x - self.centre) / self.spread
        parts = [_kernel(x * inverse, points) @ weights for inverse, points, weights in self.groups]
        components = torch.cat(parts, -1) + quadratic(x) @ self.polynomial
        return (self.mean + components @ self.basis).unflatten(-1, (len(Z), len(ELL)))


def _kernel(x: Tensor, points: Tensor) -> Tensor:
    """The Matern kernel of order 7/2 of x (..., d) and points (n, d), in units of its scales, (..., n).

    Distances are those of differences: the weights are so large that what squares would cancel matters.
    """
    flat = x.reshape(-1, x.shape[-1])
    distance = torch.cdist(flat, points, compute_mode="donot_use_mm_for_euclid_dist") * math.sqrt(7.0)
    factor = 1.0 + distance * (1.0 + distance * (0.4 + distance / 15.0))
    return (factor * torch.exp(-distance)).reshape(*x.shape[:-1], len(points))


class Emulator:
    """Matter power on the Limber grid, differentiable in the cosmology, float64.

    Args:
        table: what was fitted; the shipped one if left out.
        device: where to compute.
    """

    def __init__(self, table: Table | None = None, device: torch.device | str = "cpu") -> None:
        fits = (shipped_table() if table is None else table).fits
        self._processes = {name: _Process(fit, device) for name, fit in fits.items()}

    def nonlinear(self, cosmology: Tensor) -> Tensor:
        """log p(z, ell), (..., n_z, n_ell), of the six parameters (..., 6)."""
        return self._processes["nonlinear"](inputs(cosmology))

    def linear(self, cosmology: Tensor) -> Tensor:
        """The same of the linear power."""
        return self._processes["linear"](inputs(cosmology))

    def feedback(self, cosmology: Tensor, log_t_agn: Tensor) -> Tensor:
        """log of the power with feedback over that without, (..., n_z, n_ell).

        Args:
            cosmology: the six parameters (..., 6).
            log_t_agn: log10 of the heating temperature in K (...).
        """
        return self._processes["feedback"](torch.cat([inputs(cosmology), log_t_agn[..., None]], -1))


# --- fitting --------------------------------------------------------------------------------


class Grids(NamedTuple):
    """Runs on the Limber grid: inputs (n, 7) and each quantity (n, n_z n_ell)."""

    points: Array
    nonlinear: Array
    linear: Array
    feedback: Array

    @classmethod
    def read(cls, files: list[Path]) -> Grids:
        """From the files of CAMB runs."""
        rows = []
        for file in files:
            power = MatterPower.load(file)
            rows.append(
                (
                    np.append(power.cosmology, power.log_t_agn),
                    power.nonlinear(ELL, Z).ravel(),
                    power.linear(ELL, Z).ravel(),
                    power.feedback(ELL, Z).ravel(),
                )
            )
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    def where(self, rows: NDArray[np.bool_]) -> Grids:
        """Some of the runs; a multiple of eight of them, as matrix products like it."""
        chosen = np.flatnonzero(rows)
        chosen = chosen[: len(chosen) // 8 * 8]
        return Grids(*(column[chosen] for column in self))

    def and_also(self, more: Grids) -> Grids:
        """These runs, then others."""
        return Grids(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))


def fit_table(grids: Grids) -> Table:
    """Fit all quantities to runs."""
    grids = grids.where(grids.points[:, 0] > _LEAST_OMEGA_C)
    cosmology = torch.from_numpy(grids.points[:, :6].copy())
    x = inputs(cosmology).numpy()
    hot = np.concatenate([x, grids.points[:, 6:]], axis=1)
    weights = {
        "nonlinear": _grid_weights(cosmology, grids.nonlinear),
        "linear": _grid_weights(cosmology, grids.linear),
    }
    weights["feedback"] = weights["nonlinear"]
    fits = {
        name: _fit(hot if name == "feedback" else x, getattr(grids, name), weights[name], components)[0]
        for name, components in COMPONENTS.items()
    }
    provenance = {
        "command": "python -m sbikit_lognormal.emulator build",
        "runs": str(len(x)),
        "seed": str(SEED),
        **{library: version(library) for library in ("camb", "numpy", "scipy", "torch", "sbikit")},
    }
    return Table(fits, provenance)


def refinement(grids: Grids, count: int) -> Array:
    """More points of the design's sequence, (count, 7), drawn as the square of the error expected there.

    The error is that of the nearest runs of the design, each predicted from all others.
    """
    grids = grids.where(grids.points[:, 0] > _LEAST_OMEGA_C)
    cosmology = torch.from_numpy(grids.points[:, :6].copy())
    weights = _grid_weights(cosmology, grids.nonlinear)
    fit, left_out = _fit(inputs(cosmology).numpy(), grids.nonlinear, weights, COMPONENTS["nonlinear"])
    candidates = design(_CANDIDATES, SEED)[RUNS:]
    candidates = candidates[candidates[:, 0] > _LEAST_OMEGA_C]
    x = (inputs(torch.from_numpy(candidates[:, :6].copy())).numpy() - fit.centre) / fit.spread
    nearest = cKDTree(fit.points).query(x, _NEIGHBOURS)[1]
    square = (left_out**2).sum(1)[nearest].mean(1)
    key = np.log(np.random.default_rng(1).random(len(square))) / square
    return np.asarray(candidates[np.sort(np.argsort(-key)[:count])])


def _grid_weights(cosmology: Tensor, log_power: Array) -> Array:
    """How much each place of the grid matters to the convergence of some source plane, (n_z n_ell,)."""
    z = torch.from_numpy(Z)
    fine = torch.linspace(0.0, float(Z[-1]), 2001, dtype=torch.float64)
    inverse = 1.0 / expansion(Cosmology.of(cosmology), fine)
    steps = 0.5 * (inverse[:, 1:] + inverse[:, :-1]) * (fine[1] - fine[0])
    chi = torch.cat([torch.zeros(len(cosmology), 1, dtype=torch.float64), steps.cumsum(1)], 1).numpy()
    u = np.stack([np.interp(Z, fine.numpy(), row) for row in chi])
    planes = np.stack([np.interp(_PLANES, fine.numpy(), row) for row in chi])
    kernel = (1 + Z) * np.clip(1.0 - u[:, None] / planes[:, :, None], 0.0, None)
    rate = WEIGHTS / expansion(Cosmology.of(cosmology), z).numpy()
    power = np.exp(log_power.reshape(len(u), 1, len(Z), len(ELL)))
    share = (rate[:, None] * kernel**2)[..., None] * power
    share /= share.sum(2, keepdims=True)
    return np.asarray(np.sqrt((share**2).mean(0).max(0)).ravel() + _LEAST_WEIGHT)


def _fit(x: Array, y: Array, weights: Array, components: int) -> tuple[Fit, Array]:
    """Compress y (n, outputs) and fit the components as functions of x (n, d).

    Returns:
        The fit, and by how much the prediction of each run from all others fails, (n, components).
    """
    mean = y.mean(0)
    basis = np.linalg.svd((y - mean) * weights, full_matrices=False)[2][:components]
    coefficients = ((y - mean) * weights) @ basis.T
    centre, spread = x.mean(0), x.std(0)
    points = (x - centre) / spread
    terms = quadratic(torch.from_numpy(points)).numpy()
    polynomial = np.linalg.lstsq(terms, coefficients, rcond=None)[0]
    residual = coefficients - terms @ polynomial
    members = np.searchsorted(_GROUPS, np.arange(components), side="right")
    kernel, left_out = np.empty_like(residual), np.empty_like(residual)
    scales = []
    for group in range(members.max() + 1):
        own = members == group
        sd = residual[:, own].std(0)
        scale, noise = _tune(points[:_TUNED_ON], residual[:_TUNED_ON, own] / sd)
        diagonal = torch.tensor(max(noise, _LEAST_NOISE), dtype=torch.float64)
        covariance = _covariance(torch.from_numpy(points / scale), diagonal)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance)).numpy()
        kernel[:, own] = inverse @ residual[:, own]
        left_out[:, own] = kernel[:, own] / np.diag(inverse)[:, None]
        scales.append(scale)
    fit = Fit(
        centre=centre,
        spread=spread,
        points=points,
        scales=np.stack(scales),
        members=members.astype(np.float64),
        kernel=kernel,
        polynomial=polynomial,
        mean=mean,
        basis=basis / weights,
    )
    return fit, left_out


def _covariance(scaled: Tensor, noise: Tensor) -> Tensor:
    """Kernel of all pairs of rows (n, d), and noise on the diagonal."""
    return _kernel(scaled, scaled) + noise * torch.eye(len(scaled), dtype=torch.float64)


def _tune(x: Array, y: Array) -> tuple[Array, float]:
    """Scales (d,) and noise that maximise the marginal likelihood of y (n, C), one amplitude a component."""
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    log_scale = torch.full((x.shape[1],), 0.7, dtype=torch.float64, requires_grad=True)
    log_noise = torch.tensor(-14.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_scale, log_noise], lr=0.1)
    for _ in range(_TUNING_STEPS):
        optimizer.zero_grad()
        root = torch.linalg.cholesky(_covariance(points / log_scale.exp(), log_noise.exp()))
        amplitude = (values * torch.cholesky_solve(values, root)).mean(0)
        loss = 0.5 * len(points) * torch.log(amplitude).sum() + y.shape[1] * root.diagonal().log().sum()
        loss.backward()
        optimizer.step()
    return log_scale.detach().exp().numpy(), float(log_noise.detach().exp())


# --- command line ---------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where CAMB runs are kept: $XDG_CACHE_HOME/sbikit/matter, else ~/.cache/sbikit/matter."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sbikit" / "matter"


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


@app.command("build")
def build_command(
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = TABLE,
    runs: Folder = None,
    processes: Processes = _CORES,
) -> None:
    """Fit the table of this package; about 90 CPU-minutes, resumable."""
    folder = runs or cache_folder()
    grids = _runs(design(RUNS, SEED), folder / "design", processes, "matter power to fit to")
    more = refinement(grids, REFINEMENT)
    others = _runs(more, folder / "refinement", processes, "more of it where the fit is worst")
    fit_table(grids.and_also(others)).save(out)
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
    np.savez_compressed(out, points=points, ell=ELL[_JUDGED], dark_matter=dark_matter, feedback=feedback)
    typer.echo(str(out))


def held_out_spectra(grids: Grids) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spectra of the paper's bins without and with feedback, each (n, pairs, n), for 20 <= ell <= 6000."""
    limber = Limber(PAPER_SOURCES)
    cosmology = torch.from_numpy(grids.points[:, :6].copy())

    def spectra(log_power: Array) -> NDArray[np.float32]:
        power = torch.from_numpy(log_power.reshape(len(cosmology), len(Z), len(ELL)))
        return limber(cosmology, power).numpy()[..., _JUDGED].astype(np.float32)

    return spectra(grids.nonlinear), spectra(grids.nonlinear + grids.feedback)


if __name__ == "__main__":
    app()
