"""The log-normal simulator's spectra, maps and gradients: `python benchmarks/spectra.py`.

Compares C_ij(ell) of every pair of bins with pyccl, the emulator with CAMB at held-out cosmologies, and
power, one-point moments and shear correlation functions of maps with theory. Speed is in throughput.py.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import record
from numpy.typing import NDArray
from torch import Tensor

from sbikit import draw_seeds, normals
from sbikit.fields import Rings
from sbikit_lognormal.build.held_out import PAPER_SOURCES
from sbikit_lognormal.cosmology import LEAST_OMEGA_C
from sbikit_lognormal.field import LogNormalConvergence, Pixels, power_matrix, white_modes
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL, Emulator, Limber
from sbikit_lognormal.survey import KaiserSquires

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "lognormal"))

Array = NDArray[np.float64]

HELD_OUT = ROOT / "tests" / "reference" / "lognormal_held_out.npz"
RINGS = 8
BATCH = 250


def made(**options: Any) -> LogNormal:
    """A simulator of options as a configuration file has them."""
    return LogNormal(LogNormalOptions.model_validate_json(json.dumps(options)))


# --- spectra --------------------------------------------------------------------------------


def against_pyccl() -> None:
    """Every pair of the paper's five bins at five cosmologies, the power from CAMB itself and emulated."""
    from test_spectra_limber import COSMOLOGIES, deviation_from_pyccl

    ell = np.geomspace(20, 3000, 40)
    for cosmology in COSMOLOGIES:
        emulator = Emulator()
        for name, power in (("CAMB", None), ("emulator", emulator)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                worst = float(np.abs(deviation_from_pyccl(cosmology, PAPER_SOURCES, ell, power=power)).max())
            record(
                "largest relative deviation of C_ij(ell) from pyccl, 15 pairs of 5 bins, 20 <= ell <= 3000, "
                f"omega_c, omega_b, sigma_8, h, n_s, w_0 = {cosmology}, matter power from {name}",
                worst,
                None,
                goal="at most 0.005",
                ok=worst <= 0.005,
                ratio_to="pyccl with its own CAMB mead2020 P(k)",
            )


def emulator_errors() -> None:
    """Errors of all 15 spectra at cosmologies that the emulator was not fitted to."""
    with np.load(HELD_OUT, allow_pickle=False) as file:
        points, judged = file["points"], np.isin(ELL.round(6), file["ell"].round(6))
        truths = {name: file[name] for name in ("dark_matter", "feedback")}
    cosmology, log_t_agn = torch.from_numpy(points[:, :6].copy()), torch.from_numpy(points[:, 6].copy())
    emulator, limber = Emulator(), Limber(PAPER_SOURCES)
    power = emulator.nonlinear(cosmology)
    powers = {"dark_matter": power, "feedback": power + emulator.feedback(cosmology, log_t_agn)}
    from_prior, dark = np.arange(len(points)) < 240, points[:, 0] > LEAST_OMEGA_C
    regions = (
        ("drawn from the prior", from_prior & dark),
        ("filling the ball of 99.9 % of the prior", ~from_prior & dark),
        (f"with omega_c below {LEAST_OMEGA_C}, outside the prior", ~dark),
    )
    for name, truth in truths.items():
        errors = np.abs(limber(cosmology, powers[name]).numpy()[..., judged] / truth - 1)
        for where, rows in regions:
            _record_errors(name.replace("_", " "), where, errors[rows].reshape(rows.sum(), -1))


def _record_errors(name: str, where: str, errors: Array) -> None:
    about = f"error of C_ij(ell), {name}, 20 <= ell <= 6000, at {len(errors)} held-out cosmologies {where}"
    ratio_to = "CAMB and the same Limber sum"
    goal = "outside" not in where and name == "dark matter"
    random = np.random.default_rng(0)
    medians = [np.median(errors[random.integers(len(errors), size=len(errors))]) for _ in range(200)]
    median, largest = float(np.median(errors)), float(errors.max())
    record(
        f"median relative {about}",
        median,
        float(np.std(medians)),
        goal="at most 0.0005" if goal else None,
        ok=median <= 5e-4 if goal else None,
        ratio_to=ratio_to,
    )
    share = float((errors.max(1) <= 0.01).mean())
    record(
        f"99 % quantile of the relative {about}", float(np.quantile(errors, 0.99)), None, ratio_to=ratio_to
    )
    record(
        f"share of cosmologies whose largest relative error is at most 0.01: {about}",
        share,
        math.sqrt(share * (1 - share) / len(errors)),
        ratio_to=ratio_to,
    )
    record(
        f"largest relative {about}",
        largest,
        None,
        goal="at most 0.01" if goal else None,
        ok=largest <= 0.01 if goal else None,
        ratio_to=ratio_to,
    )


# --- maps -----------------------------------------------------------------------------------


def _maps(simulator: LogNormal, theta: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """White maps and convergence, float64, each (BATCH, bins, N, N)."""
    pixels = Pixels(simulator.size, math.radians(simulator.outputs[0].extent[0]))
    field = LogNormalConvergence(pixels, ELL, simulator.bins, torch.float64)
    gaussian = field.gaussian(*simulator.spectra(theta))
    for first in range(0, count, BATCH):
        white = normals(
            draw_seeds(0, "maps", first, BATCH), (simulator.bins, *(simulator.size,) * 2)
        ).double()
        many = replace(
            gaussian, **{name: value.expand(BATCH, *value.shape) for name, value in vars(gaussian).items()}
        )
        yield white, field.convergence(white_modes(white), many)


def map_statistics(size: int, extent: float, bins: int, count: int) -> None:
    """Mean auto- and cross-spectra in rings of modes, and mean, variance and skewness, against theory.

    The lowest rings hold few modes, so that the plain mean of 2,000 maps has an error of over a per cent
    there. The power of the white latents, whose mean is known, is most of that scatter: as a control
    variate (regressed out, ring by ring) it takes it away. Both figures are given.
    """
    simulator = made(size=size, extent=extent, sources={"bins": bins})
    theta = torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64)
    spectra, shift = simulator.spectra(theta)
    pixels = Pixels(size, math.radians(extent))
    modes = spectra @ torch.from_numpy(power_matrix(pixels, ELL)).T
    rings = _rings(size)
    row, column = torch.tril_indices(bins, bins)
    half_plane = modes[:, torch.from_numpy(pixels.lag_index[:, : size // 2 + 1])].flatten(1)
    expected = rings.power(half_plane + 0j, torch.ones_like(half_plane) + 0j) / rings.count
    ratios, controls, moments = [], [], []
    for white, maps in _maps(simulator, theta, count):
        hat, white_hat = rings.transform(maps), white_modes(white).flatten(-2) / size
        power = rings.power(hat[:, row], hat[:, column]) / rings.count * (pixels.extent / size) ** 2
        ratios.append(power / expected)
        controls.append((rings.power(white_hat[:, row], white_hat[:, column]) / rings.count).flatten(1))
        moments.append(torch.stack([maps.pow(n).mean((-2, -1)) for n in (1, 2, 3)], 1))
    ratio, control = torch.cat(ratios), torch.cat(controls)
    control = control - torch.eye(bins, dtype=torch.float64)[row, column].repeat_interleave(RINGS)
    for name, values in (("plain mean", ratio), ("with control variates", _controlled(ratio, control))):
        _record_power(f"{count} maps, {bins} bin(s), {size} px, {extent:g} deg, {name}", values)
    variance = torch.log1p(_variance(modes, pixels)[row == column] / shift**2)
    _record_moments(f"{count} maps, {bins} bin(s), {size} px", torch.cat(moments), variance, shift)


def _variance(modes: Tensor, pixels: Pixels) -> Tensor:
    """Covariance of the pixels of two bins, (pairs,), of the power (pairs, n_lags)."""
    return modes[:, torch.from_numpy(pixels.lag_index)].sum((-2, -1)) / pixels.extent**2


def _controlled(ratio: Tensor, control: Tensor) -> Tensor:
    """The ratios (n, pairs, rings) less what white power (n, pairs * rings) explains, ring by ring."""
    pairs = ratio.shape[1]
    white = control.unflatten(1, (pairs, RINGS))
    out = torch.empty_like(ratio)
    for ring in range(RINGS):
        centred = white[..., ring] - white[..., ring].mean(0)
        slope = torch.linalg.lstsq(centred, ratio[..., ring] - ratio[..., ring].mean(0)).solution
        out[..., ring] = ratio[..., ring] - white[..., ring] @ slope
    return out


def _record_power(name: str, ratio: Tensor) -> None:
    """Largest deviation over pairs and rings, and the chi square of all."""
    deviation, error = ratio.mean(0) - 1, ratio.std(0) / math.sqrt(len(ratio))
    worst = int(deviation.abs().argmax())
    record(
        "largest relative deviation of mean auto- and cross-power "
        f"over {deviation.numel()} rings and pairs: {name}",
        float(deviation.abs().flatten()[worst]),
        float(error.flatten()[worst]),
        goal="below 0.02 in every ring of every pair",
        ok=bool((deviation.abs() < 0.02).all()),
        ratio_to="the input spectra with pixel window and aliases",
    )
    z = deviation / error
    record(
        f"root mean square of the same deviations in standard errors: {name}",
        float(z.square().mean().sqrt()),
        1 / math.sqrt(2 * z.numel()),
        goal="near 1",
        ok=bool(z.square().mean().sqrt() < 1.5),
    )


def _record_moments(name: str, moments: Tensor, variance: Tensor, shift: Tensor) -> None:
    """Mean, variance and skewness of pixels; theory is that of a log-normal variable.

    Args:
        name: of which maps.
        moments: mean of the first three powers over each map, (n, 3, bins).
        variance: of the Gaussian variable, (bins,).
        shift: lambda, (bins,).
    """
    n = len(moments)
    excess = torch.expm1(variance)
    second, third = shift**2 * excess, shift**3 * excess**2 * (excess + 3)
    expected = torch.stack([torch.zeros_like(second), second, third])
    mean, error = moments.mean(0), moments.std(0) / math.sqrt(n)
    scale = torch.stack([second.sqrt(), second, third])
    for index, what in enumerate(
        ("mean in standard deviations", "relative variance", "relative third moment")
    ):
        deviation, own = (mean - expected)[index] / scale[index], error[index] / scale[index]
        for b in range(len(second)):
            record(
                f"{what}, deviation from theory, bin {b + 1}: {name}",
                float(deviation[b]),
                float(own[b]),
                goal="0 within 3 standard errors",
                ok=bool(deviation[b].abs() < 3 * own[b]),
            )


def _rings(size: int) -> Rings:
    """8 logarithmic rings from the lowest mode to Nyquist."""
    edges = torch.logspace(math.log10(0.9), math.log10(size / 2 + 0.5), RINGS + 1, dtype=torch.float64)
    return Rings.between((size, size), (2.0 * math.pi, 2.0 * math.pi), edges.tolist())


# --- shear ----------------------------------------------------------------------------------


def shear_correlations(size: int = 64, extent: float = 5.0, count: int = 250) -> None:
    """xi+ and xi- of noiseless shear patches by treecorr against the periodic field's at the same lags.

    The mean of a product of shears at a lag is that of the periodic field, whether or not a pair of
    pixels is counted across the edge; treecorr counts none across.
    """
    import treecorr

    simulator = made(size=size, extent=extent)
    theta = torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64)
    pixels = Pixels(size, math.radians(extent))
    modes = simulator.spectra(theta)[0][0] @ torch.from_numpy(power_matrix(pixels, ELL)).T
    side = extent * 60.0 / size
    y, x = (axis.ravel() * side for axis in np.mgrid[:size, :size])
    binning = {"min_sep": 2 * side, "max_sep": 30 * side, "nbins": 8, "bin_slop": 0, "num_threads": 1}
    lensing = KaiserSquires(size, torch.float64)
    found = []
    for _, maps in _maps(simulator, theta, count):
        for one, two in lensing.shear(maps[:, 0]).flatten(-2).numpy():
            shear = treecorr.GGCorrelation(**binning)
            shear.process(treecorr.Catalog(x=x, y=y, g1=one, g2=two))
            found.append(np.stack([shear.xip, shear.xim]))
    measured = np.stack(found)
    expected = _expected_correlations(modes[torch.from_numpy(pixels.lag_index)], size, side, shear)
    mean, error = measured.mean(0), measured.std(0, ddof=1) / math.sqrt(len(measured))
    for name, got, wanted, own in zip(("xi+", "xi-"), mean, expected, error, strict=True):
        z = (got - wanted) / own
        worst = int(np.abs(z).argmax())
        record(
            f"{name} of {count} shear patches, {size} px, {extent:g} deg, by treecorr: largest "
            f"deviation, 8 separations from {2 * side:.3g} to {30 * side:.3g} arcmin, in standard "
            f"errors (there {got[worst] / wanted[worst] - 1:+.4f} +- {own[worst] / abs(wanted[worst]):.3f})",
            float(np.abs(z).max()),
            None,
            goal="below 3",
            ok=bool((np.abs(z) < 3).all()),
            ratio_to="correlation function of the input spectrum at the pixels' lags",
        )
        record(
            f"{name} at the smallest separation, relative deviation from theory",
            float(got[0] / wanted[0] - 1),
            float(own[0] / abs(wanted[0])),
            goal="0 within 3 standard errors",
            ok=bool(abs(z[0]) < 3),
        )


def _expected_correlations(modes: Tensor, size: int, side: float, binned: Any) -> Array:
    """xi+ and xi- (2, bins) at the separations of a treecorr object, of the power P (N, N).

    xi+ is the correlation of gamma with its conjugate; xi- that of gamma with itself, turned to the lag's
    direction.
    """
    power = modes / math.radians(side * size / 60.0) ** 2 * size**2
    k = torch.fft.fftfreq(size, dtype=torch.float64)
    turn = torch.polar(torch.ones(size, size, dtype=torch.float64), 2 * torch.atan2(k[:, None], k[None, :]))
    turn[size // 2], turn[:, size // 2] = 1.0, 1.0
    turn[0, 0] = 0.0
    plus = torch.fft.ifft2(power * turn.abs() ** 2).real
    lag = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    direction = torch.atan2(lag[:, None], lag[None, :])
    minus = (torch.fft.ifft2(power * turn**2) * torch.polar(torch.ones_like(direction), -4 * direction)).real
    radius = torch.hypot(lag[:, None], lag[None, :]) * side
    # Pairs at a lag that does not cross the edge.
    inside = (size - lag.abs())[:, None] * (size - lag.abs())[None, :]
    inside[size // 2], inside[:, size // 2] = 0.0, 0.0
    out = np.zeros((2, binned.nbins))
    for index in range(binned.nbins):
        chosen = (radius >= binned.left_edges[index]) & (radius < binned.right_edges[index])
        weight = inside[chosen]
        out[0, index] = float((plus[chosen] * weight).sum() / weight.sum())
        out[1, index] = float((minus[chosen] * weight).sum() / weight.sum())
    return out


def b_modes() -> None:
    """The B mode of noiseless shear of a periodic patch, relative to the E mode."""
    for size in (32, 128):
        simulator = made(size=size, extent=5.0, sources={"bins": 5}, n_gal=1e6)
        theta = torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64)
        maps = next(_maps(simulator, theta, BATCH))[1][:20]
        lensing = KaiserSquires(size, torch.float64)
        shear = lensing.shear(maps)
        ratio = float(
            lensing.b_mode(shear).square().mean().sqrt() / lensing.convergence(shear).square().mean().sqrt()
        )
        record(
            f"rms of the B mode over that of the E mode, periodic patch, {size} px, float64",
            ratio,
            None,
            goal="below 1e-14",
            ok=ratio < 1e-14,
        )


# --- gradients ------------------------------------------------------------------------------


def gradients() -> None:
    """The gradient of the log density in every parameter and latent against finite differences."""
    for name, options in (
        ("3 parameters, 1 bin", {}),
        (
            "6 parameters, 2 bins, alignment, feedback, shear bias, photo-z shift, mask, depth, padding",
            {
                "prior": "wcdm",
                "sources": {"bins": 2},
                "padding": 2,
                "a_ia": {"uniform": [-3.0, 3.0]},
                "eta_ia": {"normal": [0.0, 1.0]},
                "baryons": {"uniform": [7.6, 8.3]},
                "photo_z_shift": {"normal": [0.0, 0.02]},
                "shear_bias": {"normal": [0.0, 0.02]},
                "mask": {"density": 8.0, "radius": 4.0},
                "depth": {},
            },
        ),
    ):
        simulator = made(size=8, extent=5.0, **options)
        seeds = draw_seeds(0, "gradients", 0, 1)
        density = simulator.log_density(simulator.simulate(simulator.prior.sample(seeds), seeds=seeds))
        white = normals(seeds, (density.size,)).double().requires_grad_()
        (gradient,) = torch.autograd.grad(density.log_prob(white).sum(), white)
        with torch.no_grad():
            steps = 1e-2 * torch.eye(density.size, dtype=torch.float64)[:, None]
            a, b, c, d = (density.log_prob(white + m * steps)[:, 0] for m in (-2, -1, 1, 2))
        difference = (8 * (c - b) - (d - a)) / 12e-2
        error = float((difference - gradient[0]).abs().max() / gradient.abs().max())
        record(
            "largest deviation of the log density's gradient from finite differences over all "
            f"{density.size} white coordinates, relative to its largest component: {name}, 8 px, float64",
            error,
            None,
            goal="at most 1e-6",
            ok=error <= 1e-6,
            ratio_to="central differences of fourth order",
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    against_pyccl()
    emulator_errors()
    map_statistics(32, 10.0, 1, 2000)
    map_statistics(32, 10.0, 1, 60_000)
    map_statistics(64, 5.0, 5, 2000)
    map_statistics(128, 5.0, 5, 2000)
    shear_correlations()
    b_modes()
    gradients()
