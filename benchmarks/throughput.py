"""Speed of the log-normal simulator against its Fourier transforms and other simulators.

    python benchmarks/throughput.py [--sizes 32 64 128 256] [--bins 1 5] [--cores 1 2] [--device cpu]
                                    [--prior s8] [--glass] [--sbi-lens PYTHON FOLDER]

A map set is what one cosmology gives: its spectra and shifts, the convergence of every bin, shear and noise,
with all random numbers. Its Fourier transforms alone are, a bin, one for G, one from the convergence
and two to the shear. Both, and the random numbers alone, are timed in turns, so that a busy machine slows
all, and ratios are given with their standard error over the turns. Several cores are as many processes,
each on one thread, as draws need nothing of each other.

GLASS simulates the sphere. Its full sky has pixels of the same area and multipoles to the Nyquist
frequency of the patch, and counts for as many patches as fit into it. It is given the spectra and makes
convergence, shear and noise. sbi_lens makes the noisy convergence of a patch without shear, and
computes its spectra by jax-cosmo; its best batch size of several is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from _record import record
from numpy.typing import NDArray

from sbikit import draw_seeds, mean_and_error, normals
from sbikit_lognormal.field import block_rows
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL

EXTENT = 10  # degrees
SOURCES = {"sigma_e": 0.26, "n_gal": 27.0}
TURNS = 12
SECONDS = 0.15  # of a turn, about

Estimate = tuple[float, float]
Simulate = Callable[[NDArray[np.int64]], object]


def simulator(size: int, bins: int, prior: str) -> LogNormal:
    """The simulator of so many bins on a patch of ten degrees."""
    options = {"size": size, "extent": float(EXTENT), "prior": prior, "sources": {"bins": bins}, **SOURCES}
    return LogNormal(LogNormalOptions.model_validate_json(json.dumps(options)))


def make(size: int, bins: int, device: str, prior: str) -> Simulate:
    """From seeds (B,) to convergence and noisy shear, parameters included."""
    chosen = simulator(size, bins, prior)

    def simulate(seeds: NDArray[np.int64]) -> object:
        theta = {name: value.to(device) for name, value in chosen.prior.sample(seeds).items()}
        return chosen.simulate(theta, seeds=seeds)

    return simulate


def numbers(size: int, bins: int, device: str) -> Simulate:
    """The random numbers alone, in blocks of as many draws."""
    rows = block_rows(size, bins)

    def draw(seeds: NDArray[np.int64]) -> object:
        for first in range(0, len(seeds), rows):
            normals(seeds[first : first + rows], (bins, size, size), device)
            normals(seeds[first : first + rows] + 1, (bins, 2, size, size), device)
        return None

    return draw


def transforms(size: int, bins: int, device: str) -> Simulate:
    """The Fourier transforms alone, of as many maps and in blocks of as many draws."""
    rows = block_rows(size, bins)
    maps = normals(draw_seeds(0, "transforms", 0, rows), (bins, size, size), device)
    modes = torch.fft.rfft2(maps)
    double = torch.stack([modes, modes], -3)

    def simulate(seeds: NDArray[np.int64]) -> object:
        for _ in range(0, len(seeds), rows):
            torch.fft.irfft2(modes, s=(size, size))
            torch.fft.rfft2(maps)
            torch.fft.irfft2(double, s=(size, size))
        return None

    return simulate


@dataclass(frozen=True)
class Turns:
    """Seconds a map set, turn by turn, of processor time and of the clock, each (turns, 2).

    Args:
        whole: everything.
        transforms: Fourier transforms alone.
        numbers: random numbers alone.
    """

    whole: NDArray[np.float64]
    transforms: NDArray[np.float64]
    numbers: NDArray[np.float64]


def take_turns(size: int, bins: int, device: str, prior: str) -> Turns:
    """Time all in turns on one thread."""
    torch.set_num_threads(1)
    rows = block_rows(size, bins)
    works = (make(size, bins, device, prior), transforms(size, bins, device), numbers(size, bins, device))
    guess = max(_seconds(work, rows, device)[1] for work in works)
    count = max(1, round(SECONDS / guess / rows)) * rows
    for barrier in _together:
        barrier.wait()
    turns = [[_seconds(work, count, device) for work in works] for _ in range(TURNS)]
    return Turns(*(np.array(times) for times in zip(*turns, strict=True)))


def _seconds(simulate: Simulate, count: int, device: str) -> tuple[float, float]:
    """Seconds a map set, of processor time and of the clock, after one call to warm up."""
    seeds = draw_seeds(0, "throughput", 0, count)
    simulate(seeds[: min(count, 2)])
    cpu, clock = time.process_time(), time.perf_counter()
    simulate(seeds)
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.process_time() - cpu) / count, (time.perf_counter() - clock) / count


_together: list[Barrier] = []  # where the processes wait for each other


def _in_process(barrier: Barrier) -> None:
    """Called once by every process."""
    _together.append(barrier)


def on_cores(size: int, bins: int, cores: int, device: str, prior: str) -> list[Turns]:
    """The same turns in as many processes at once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, _in_process, (context.Barrier(cores),)) as pool:
        jobs = [pool.submit(take_turns, size, bins, device, prior) for _ in range(cores)]
        return [job.result() for job in jobs]


def ours(size: int, bins: int, cores: int, device: str, prior: str) -> Estimate:
    """Print the figures of one configuration.

    Returns:
        Map sets per CPU-second, and the standard error.
    """
    runs = on_cores(size, bins, cores, device, prior)
    about = f"{size} px, {bins} bin(s), prior {prior}, {cores} process(es)"
    where = None if device == "cpu" else torch.cuda.get_device_name()
    whole = np.concatenate([turns.whole for turns in runs])
    cpu, clock = mean_and_error(1 / whole[:, 0]), mean_and_error(1 / whole[:, 1])
    record(f"map sets per CPU-second, {about}", *cpu, device=where)
    record(f"map sets per second, {about}", cores * clock[0], math.sqrt(cores) * clock[1], device=where)
    drawn = mean_and_error(np.concatenate([turns.numbers[:, 0] / turns.transforms[:, 0] for turns in runs]))
    record(
        f"processor time of the random numbers of a map set, {about}",
        *drawn,
        ratio_to="its Fourier transforms alone",
        device=where,
    )
    ratio = mean_and_error(np.concatenate([turns.whole[:, 0] / turns.transforms[:, 0] for turns in runs]))
    record(
        f"processor time of a map set, {about}",
        *ratio,
        goal="at most 3 at 128 px" if size == 128 else None,
        ok=ratio[0] <= 3 if size == 128 else None,
        ratio_to="its Fourier transforms alone",
        device=where,
    )
    return cpu


def glass_sky(size: int, bins: int, repeats: int, own: Estimate) -> None:
    """Print patches per CPU-second of a GLASS full sky, and by how much this simulator is faster."""
    import glass

    side = math.radians(EXTENT) / size
    nside, lmax = round(math.sqrt(math.pi / 3) / side), round(math.pi / side)
    theta = torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64)
    chosen = simulator(size, bins, "s8")
    spectra, shift = chosen.spectra(theta)
    order = [i * (i + 1) // 2 + j for i in range(bins) for j in range(i, -1, -1)]
    ell = np.maximum(np.arange(lmax + 1), ELL[0])
    c_ell = [np.exp(np.interp(np.log(ell), np.log(ELL), np.log(spectra[pair].numpy()))) for pair in order]
    laws = [glass.grf.Lognormal(value) for value in shift.tolist()]
    random, sigma = np.random.default_rng(0), float(chosen.survey.noise[0, 0, 0])
    patches = 12 * nside**2 / size**2
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        gaussian = glass.solve_gaussian_spectra(laws, c_ell)
        for kappa in glass.generate(laws, glass.regularized_spectra(gaussian), nside, rng=random):
            (shear,) = glass.from_convergence(kappa, lmax, shear=True, discretized=False)
            noise = random.standard_normal((2, kappa.size))
            shear += sigma * (noise[0] + 1j * noise[1])
        seconds.append((time.process_time() - start) / patches)
    _others(f"GLASS, {size} px, {bins} bin(s)", np.array(seconds), own)


def sbi_lens(python: str, folder: str, size: int, bins: int, own: Estimate) -> None:
    """Print map sets per CPU-second of sbi_lens, and by how much this simulator is faster."""
    script = Path(__file__).with_name("_sbi_lens.py")
    runs = []
    for batch in (1, 8):
        arguments = [folder, size, bins, EXTENT, batch, 5]
        command = [python, str(script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(np.array(json.loads(done.stdout.splitlines()[-1])))
    _others(f"sbi_lens, {size} px, {bins} bin(s)", min(runs, key=np.mean), own)


def _others(about: str, seconds: NDArray[np.float64], own: Estimate) -> None:
    rate = mean_and_error(1 / seconds)
    record(f"map sets per CPU-second of {about}", *rate)
    record(
        f"map sets per CPU-second of sbikit over those of {about}",
        own[0] / rate[0],
        own[0] / rate[0] * math.hypot(own[1] / own[0], rate[1] / rate[0]),
        ratio_to=about.split(",", maxsplit=1)[0],
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--bins", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prior", choices=("s8", "wcdm"), default="s8")
    parser.add_argument("--glass", action="store_true")
    parser.add_argument("--sbi-lens", nargs=2, metavar=("PYTHON", "FOLDER"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.sizes:
        for bins in options.bins:
            rates = [ours(size, bins, cores, options.device, options.prior) for cores in options.cores]
            if options.glass:
                glass_sky(size, bins, 3, rates[0])
            if options.sbi_lens:
                python, folder = options.sbi_lens
                sbi_lens(python, folder, size, bins, rates[0])


if __name__ == "__main__":
    main()
