"""The log-normal simulator's spectra, maps and speed: `python benchmarks/spectra.py`.

Compares C(ell) with pyccl, the emulator with CAMB at held-out cosmologies and the mean power of maps with
its input, and counts maps and gradients per CPU-second on one thread.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _record import record
from numpy.typing import NDArray
from torch import Tensor

from sbikit.seeds import draw_seeds, normals
from sbikit_lognormal.emulator import Emulator, find_table
from sbikit_lognormal.field import Pixels, power_matrix
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL, Setting, source_distribution, spectra

HELD_OUT = Path(__file__).parents[1] / "tests" / "reference" / "lognormal_held_out.npz"
FIDUCIAL = (0.3, 0.8, -1.0)
COSMOLOGIES = (FIDUCIAL, (0.18, 0.62, -0.5), (0.22, 0.95, -1.7), (0.45, 0.65, -0.6), (0.45, 0.98, -1.75))
EXTENT = 10.0


def against_pyccl() -> None:
    """Largest deviation from pyccl, which runs CAMB for P(k) itself; the rest is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deviations = [_deviation_from_pyccl(*cosmology) for cosmology in COSMOLOGIES]
    worst = max(deviations)
    record(
        f"largest relative deviation of C(ell) from pyccl, 20 <= ell <= 3000, {len(COSMOLOGIES)} cosmologies",
        worst,
        None,
        goal="below 0.01",
        ok=worst < 0.01,
        ratio_to="pyccl with its own CAMB mead2020 P(k)",
    )


def _deviation_from_pyccl(omega_m: float, s8: float, w0: float) -> float:
    import pyccl as ccl

    setting = Setting()
    z, n_z = source_distribution(setting)
    camb = {"halofit_version": "mead2020", "dark_energy_model": "ppf", "kmax": 20.0, "AccuracyTarget": 1}
    cosmology = ccl.Cosmology(
        Omega_c=omega_m - setting.omega_b,
        Omega_b=setting.omega_b,
        h=setting.h,
        n_s=setting.n_s,
        sigma8=s8 / math.sqrt(omega_m / 0.3),
        w0=w0,
        transfer_function="boltzmann_camb",
        matter_power_spectrum="camb",
        extra_parameters={"camb": camb},
    )
    tracer = ccl.WeakLensingTracer(cosmology, dndz=(z, n_z[0]))
    ell = np.geomspace(20, 3000, 60)
    shear_over_convergence = (ell + 2) * (ell - 1) / (ell * (ell + 1))
    ours = spectra(setting, omega_m, s8, w0, ell)[0, 0] * shear_over_convergence
    return float(np.abs(ours / ccl.angular_cl(cosmology, tracer, tracer, ell) - 1).max())


def emulator_errors() -> None:
    """Errors at cosmologies that the emulator was not fitted to, in the box and in the default prior."""
    with np.load(HELD_OUT, allow_pickle=False) as file:
        cosmologies, truth = file["cosmologies"], file["spectra"]
    emulated = Emulator(find_table(Setting()))(torch.from_numpy(cosmologies))[0].numpy()
    errors = np.abs(emulated / truth - 1)[:, 0, 0, (ELL >= 20) & (ELL <= 6000)]
    ranges = LogNormal().prior.laws.values()
    low, high = np.array([(law.low, law.high) for law in ranges]).T
    inside = ((cosmologies >= low) & (cosmologies <= high)).all(1)
    for where, rows in (("the box", errors), ("the default prior", errors[inside])):
        about = f"emulator, 20 <= ell <= 6000, {len(rows)} held-out cosmologies of {where}"
        ratio_to = "CAMB at the same cosmology"
        record(
            f"median relative error of the {about}",
            float(np.median(rows)),
            _bootstrap(rows),
            ratio_to=ratio_to,
        )
        record(f"largest relative error of the {about}", float(rows.max()), None, ratio_to=ratio_to)


def _bootstrap(rows: NDArray[np.float64]) -> float:
    """Standard error of the median over cosmologies."""
    random = np.random.default_rng(0)
    medians = [np.median(rows[random.integers(len(rows), size=len(rows))]) for _ in range(300)]
    return float(np.std(medians))


def power_of_maps(size: int, count: int) -> None:
    """Mean power of simulated maps in rings of modes against the pixelised input spectrum.

    The two lowest rings hold two independent modes each, so the plain mean of 2,000 maps has an error of
    1.6 % there. The power of the white latents, whose mean is known, is most of that scatter: as a control
    variate (regressed out, ring by ring) it takes it away. Both figures are given.
    """
    simulator = LogNormal(LogNormalOptions(size=size, extent=EXTENT))
    pixels = Pixels(size, math.radians(EXTENT))
    spectrum = Emulator(find_table(Setting()))(torch.tensor(FIDUCIAL, dtype=torch.float64))[0][0, 0]
    modes = torch.from_numpy(power_matrix(pixels, ELL)) @ spectrum
    expected = _rings(modes[torch.from_numpy(pixels.lag_index)], size)
    ratios, controls = [], []
    for first in range(0, count, 1000):
        theta = torch.tensor(FIDUCIAL).expand(1000, 3)
        white = normals(draw_seeds(0, "power", first, 1000), (size, size))
        maps = simulator.convergence(theta, white).reshape(1000, size, size)
        power = torch.fft.fft2(maps.double()).abs().square() * pixels.extent**2 / size**4
        ratios.append(_rings(power, size) / expected)
        controls.append(_rings(torch.fft.fft2(white.double()).abs().square() / size**2, size) - 1.0)
    ratio, control = torch.cat(ratios), torch.cat(controls)
    centred = control - control.mean(0)
    slope = (centred * ratio).sum(0) / centred.square().sum(0)
    for name, values in (("plain mean", ratio), ("with a control variate", ratio - slope * control)):
        deviation, error = values.mean(0) - 1, values.std(0) / math.sqrt(count)
        worst = int(deviation.abs().argmax())
        record(
            f"largest relative deviation of the mean power of {count} maps, {size} px, {name}: "
            f"bin {worst + 1} of {len(error)}",
            float(deviation[worst].abs()),
            float(error[worst]),
            goal="below 0.02 in every bin",
            ok=bool((deviation.abs() < 0.02).all()),
            ratio_to="the input spectrum with pixel window and aliases",
        )


def _rings(power: Tensor, size: int) -> Tensor:
    """Mean of power (..., N, N) over 8 logarithmic rings from the lowest mode to Nyquist."""
    k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    radius = torch.hypot(k[:, None], k[None, :]).flatten()
    edges = torch.logspace(math.log10(0.9), math.log10(size / 2 + 0.5), 9, dtype=torch.float64)
    index = torch.bucketize(radius, edges) - 1
    rings = [power.flatten(-2)[..., index == ring] for ring in range(8)]
    return torch.stack([ring.mean(-1) for ring in rings if ring.shape[-1]], -1)


def throughput(size: int, count: int, goal: float | None) -> None:
    """Maps of convergence and noisy shear per CPU-second, random numbers apart."""
    simulator = LogNormal(LogNormalOptions(size=size, extent=EXTENT))
    seeds = draw_seeds(0, "throughput", 0, count)
    theta = simulator.prior.sample(seeds)["theta"]
    white, noise = normals(seeds, (size, size)), normals(seeds, (2, size, size))
    without = _rate(lambda: simulator.shear(simulator.convergence(theta, white), noise), count)
    record(
        f"maps per CPU-second at {size} px, emulator, convergence, shear and noise, without random numbers",
        *without,
        goal=None if goal is None else f"at least {goal:g}",
        ok=None if goal is None else without[0] >= goal,
    )
    everything = _rate(lambda: simulator.simulate({"theta": theta}, seeds=seeds), count)
    record(f"maps per CPU-second at {size} px, with random numbers (simulate)", *everything)


def gradients(size: int, chains: int = 64) -> None:
    """Gradients of the log density per CPU-second, one observation a chain."""
    simulator = LogNormal(LogNormalOptions(size=size, extent=EXTENT))
    seeds = draw_seeds(0, "gradients", 0, chains)
    density = simulator.log_density(simulator.simulate(simulator.prior.sample(seeds), seeds=seeds))
    white = normals(seeds, (density.size,)).double().requires_grad_()
    rate = _rate(lambda: torch.autograd.grad(density.log_prob(white).sum(), white), chains)
    record(f"gradients of the log density per CPU-second at {size} px, {chains} chains, float64", *rate)


def _rate(work: Callable[[], object], count: int, repeats: int = 15) -> tuple[float, float]:
    """Mean items per CPU-second of `work`, which does `count`, and its standard error."""
    work()
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        rates.append(count / (time.process_time() - start))
    return float(np.mean(rates)), float(np.std(rates, ddof=1) / math.sqrt(repeats))


if __name__ == "__main__":
    torch.set_num_threads(1)
    against_pyccl()
    emulator_errors()
    for pixels_a_side in (32, 64):
        power_of_maps(pixels_a_side, 2000)
    power_of_maps(32, 60_000)
    power_of_maps(64, 20_000)
    throughput(32, 2048, goal=10_000)
    throughput(64, 1024, goal=None)
    for pixels_a_side in (32, 64):
        gradients(pixels_a_side)
