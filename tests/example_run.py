"""Run folders of a toy problem whose posterior is known: what the tests of the report read.

A Gaussian field on a periodic grid with spectrum amplitude A and noise: given A the map's posterior is
the Wiener posterior, exactly. The parameters' posterior is a Gaussian around a noisy estimate.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.roles.sampler import Draws
from sbikit.roles.trust import Reading, Trust
from sbikit.roles.validator import Curve, Metric, Report
from sbikit.storage.draws import write_draws
from sbikit.storage.metrics import write_metrics
from sbikit.storage.write import write_posterior

THETA = Vector(
    "theta",
    ("Omega_m", "S8", "w0"),
    latex=(r"\Omega_{\rm m}", "S_8", "w_0"),
    units=("", "", ""),
)
SD = np.array([0.03, 0.02, 0.15])
CENTRE = np.array([0.3, 0.8, -1.0])


def problem(grid=(32, 32), channels=1, extent=(10.0, 10.0), vectors=True, fields=True):
    kappa = Field("kappa", grid, channels, extent[: len(grid)], extent_unit="deg", latex=r"\kappa")
    shear = Field("shear", grid, 2 * channels, extent[: len(grid)], extent_unit="deg", latex=r"\gamma")
    kappa, shear = (replace(field, stationary=True, periodic=True) for field in (kappa, shear))
    latents = (*((THETA,) if vectors else ()), *((kappa,) if fields else ()))
    return Spec(latents, (shear,))


def summarised(spec):
    """Summaries of the data: a map, which estimates kappa where that is inferred, and a vector."""
    kappa = next(iter(spec.fields), None)
    (shear,) = spec.observables
    channels = shear.channels // 2
    latex = r"\kappa^{\rm raw}"
    return (
        Field(
            "kappa_raw",
            shear.grid,
            channels,
            shear.extent,
            extent_unit="deg",
            latex=latex,
            estimates=kappa.name if kappa else "",
        ),
        Vector("moments", ("m_1", "m_2")),
    )


def _filter(grid, extent):
    k = np.sqrt(
        sum(
            a**2
            for a in np.meshgrid(
                *[2 * np.pi * np.fft.fftfreq(n, s / n) for n, s in zip(grid, extent, strict=True)],
                indexing="ij",
            )
        )
    )
    power = 1 / (1 + (k / 2.0) ** 2)
    power.flat[0] = 0
    return power / power.mean() * 0.02**2


def gaussian_problem(rng, spec, observations, draws, noise=0.02):
    """Joint truths, data and exact posterior draws: theta (n, B, 3), kappa (n, B, *shape)."""
    field = next((v for v in (*spec.fields, *spec.observables) if isinstance(v, Field)), None)
    channels = field.channels if spec.fields else field.channels // 2
    shape = (channels, *field.grid)
    axes = tuple(range(-len(field.grid), 0))
    power = _filter(field.grid, field.extent)
    size = np.prod(field.grid)

    def correlated(*batch, spectrum):
        white = np.fft.fftn(rng.normal(size=(*batch, *shape)), axes=axes)
        return np.fft.ifftn(white * np.sqrt(spectrum), axes=axes).real

    kappa = correlated(observations, spectrum=power)
    data = kappa + noise * rng.normal(size=kappa.shape)
    gain = power / (power + noise**2)
    mean = np.fft.ifftn(np.fft.fftn(data, axes=axes) * gain, axes=axes).real
    maps = mean + correlated(draws, observations, spectrum=power * noise**2 / (power + noise**2))
    assert size == np.prod(maps.shape[2:]) / channels

    theta = CENTRE + 3 * SD * rng.normal(size=(observations, 3))
    estimate = theta + SD * rng.normal(size=theta.shape)
    shrink = 9 / 10
    theta_draws = CENTRE + shrink * (estimate - CENTRE)
    theta_draws = theta_draws + np.sqrt(shrink) * SD * rng.normal(size=(draws, *theta.shape))
    shear = np.concatenate([data, data[:, :, ::-1]], axis=1)
    return (
        {"theta": theta, "kappa": kappa},
        {"shear": shear},
        {"theta": theta_draws, "kappa": maps},
        {"kappa_raw": data, "moments": _moments(data)},
    )


SEEN = "a shift of one parameter by 0.33 of its posterior sd"


def _moments(data):
    flat = data.reshape(len(data), -1)
    return np.stack([flat.mean(1), flat.std(1)], 1)


def _tensors(values, index=()):
    return {name: torch.from_numpy(np.ascontiguousarray(a[index], np.float32)) for name, a in values.items()}


def reports(spec):
    x = np.linspace(0, 1, 21)
    y = np.clip(x + 0.03 * np.sin(6 * x), 0, 1)
    band = 0.06 * np.sqrt(4 * x * (1 - x))

    def curve(name, variable, x_label="credible level", y_label="coverage"):
        low, high = np.clip(y - band, 0, 1), np.clip(y + band, 0, 1)
        columns = (tuple(float(v) for v in column) for column in (x, y, low, high, x))
        return Curve(name, variable, *columns, x_label, y_label)

    names = [v.name for v in spec.latents] + (["joint"] if len(spec.latents) > 1 else [])
    mira = tuple(
        Metric("mira", n, 0.664 + 0.004 * i, 0.0052, 2 / 3, "pass", "Distance-rank test of the posterior.")
        for i, n in enumerate(names)
    )
    coverage = tuple(
        Metric(
            "coverage 68 %",
            n,
            0.66,
            0.03,
            0.68,
            "pass",
            "Fraction of truths inside the 68 % credible region.",
        )
        for n in names
    )
    contraction = Metric(
        "contraction", names[0], 0.81, 0.02, None, "none", "1 - posterior variance / prior variance."
    )
    return (
        Report("mira", (*mira, contraction), (), ("Sharief et al. 2026, arXiv:2605.02014",), (SEEN,)),
        Report(
            "coverage",
            coverage,
            tuple(curve("expected coverage", n) for n in names),
            ("Lemos et al. 2023, arXiv:2302.03026, doi:10.48550/arXiv.2302.03026",),
        ),
    )


# Of an exact draw: figure, kind of variable, ideal, floor, tolerance and what it says.
AGREEMENT = (
    ("mean_offset", "scalar", None, 0.064, 0.2, "rms difference of posterior means, in exact posterior sd"),
    ("mean_shift", "scalar", 0.0, 0.004, 0.2, "mean difference of posterior means, in exact sd"),
    ("sd_ratio", "scalar", 1.0, 1.003, 0.1, "posterior sd over the exact one, geometric mean"),
    ("w1", "scalar", None, 0.071, 0.15, "1-Wasserstein distance of the marginals, in exact sd"),
    ("kl", "vector", None, 0.012, 0.1, "KL(exact || judged) in nats, all parameters together"),
    ("c2st", "vector", 0.5, 0.502, 0.05, "accuracy of a classifier between judged and exact draws"),
    ("field_correlation", "field", None, 0.9995, 0.05, "correlation of posterior mean maps over pixels"),
    ("mean_map_error", "field", None, 0.063, 0.2, "rms difference of posterior mean maps, in exact pixel sd"),
    ("pixel_variance_ratio", "field", 1.0, 1.0006, 0.1, "posterior variance of pixels over the exact one"),
    ("band_power_ratio_low", "field", 1.0, 0.999, 0.1, "power of the draws over that of exact ones, large"),
    ("band_power_ratio_high", "field", 1.0, 1.0, 0.1, "power of the draws over that of exact ones, small"),
    ("coverage_68", "field", 0.68, 0.6801, 0.03, "share of exact pixels inside the central 68 % intervals"),
    ("coverage_95", "field", 0.95, 0.9498, 0.03, "share of exact pixels inside the central 95 % intervals"),
    ("coherence_log_variance", "coherent", None, 0.041, 0.15, "rms difference in the posterior correlation"),
    ("coherence_minimum", "coherent", None, 0.046, 0.15, "rms difference in the posterior correlation"),
    ("coherence", "joint", None, 0.044, 0.15, "rms difference in all posterior correlations"),
)


def agreement(spec, seed=5, excess=0.8):
    """Invented figures of closeness to an exact posterior, some of them beyond their tolerance."""
    rng = np.random.default_rng(seed)
    scalars = [f"{v.name}.{label}" for v in spec.vectors for label in v.labels]
    channels = [
        f.name if f.channels == 1 else f"{f.name}.{c + 1}" for f in spec.fields for c in range(f.channels)
    ]
    owners = {"scalar": scalars, "vector": [v.name for v in spec.vectors], "field": channels}
    owners["coherent"] = scalars if channels else []
    owners["joint"] = ["joint"] if channels and scalars else []
    metrics = []
    for name, kind, ideal, floor, tolerance, meaning in AGREEMENT:
        for variable in owners[kind]:
            sign = -1 if name == "field_correlation" or (rng.random() < 0.3 and ideal is not None) else 1
            off = sign * abs(rng.normal()) * excess * tolerance
            verdict = "pass" if abs(off) < tolerance else "fail"
            found = (floor + off, 0.15 * tolerance, ideal, verdict, meaning, floor, 0.04 * tolerance)
            metrics.append(Metric(name, variable, *found))
    curves = [_curve("mean_offset", one, "share of observations", _OFFSET) for one in scalars]
    curves += [_curve("band_power_ratio", one, "wave number [rad/deg]", _POWER) for one in channels]
    return Report("agreement", tuple(metrics), tuple(curves), ("arXiv:1610.06545",))


_OFFSET = "offset of the mean in posterior sd (dashed: between halves of the reference)"
_POWER = "power of the draws over that of the reference"


def _curve(name, variable, x_label, y_label):
    x = np.linspace(0.05, 0.95, 19)
    ideal = np.ones_like(x) if y_label == _POWER else 0.1 * (x - 0.5)
    y = ideal + 0.04 * np.sin(5 * x)
    columns = (tuple(float(v) for v in column) for column in (x, y, y - 0.05, y + 0.05, ideal))
    return Curve(name, variable, *columns, x_label, y_label)


def exact_trust(untrusted=(), observations=16):
    """What an exact sampler says of its draws, one an observation."""
    return tuple(_doubted() if b in untrusted else _trusted(b) for b in range(observations))


def _trusted(b):
    return Trust(readings=_readings(1.002 + b / 4000, 980.0 + b, 0.91))


def _doubted():
    complaints = ("bulk ESS down to 180 (wanted at least 400)", "0.30% of the transitions diverged")
    return Trust(False, _readings(None, 180.0, 0.35), complaints)


def _readings(r_hat, ess, e_bfmi):
    return (
        Reading("R-hat", r_hat, 1.01, "higher"),
        Reading("bulk ESS", ess, 400, "lower"),
        Reading("E-BFMI", e_bfmi, None, "lower"),
        Reading("gradients", 1234567),
    )


def spoil(all_reports):
    """The same with one failing check."""
    first = all_reports[0]
    bad = replace(
        first.metrics[0],
        value=0.612,
        verdict="fail",
        meaning="Distance-rank test of the posterior: below the ideal value the draws are too narrow.",
    )
    return (replace(first, metrics=(bad, *first.metrics[1:])), *all_reports[1:])


def write_example_run(
    folder: Path,
    spec: Spec | None = None,
    *,
    reference=True,
    truth=True,
    calibration=True,
    training=True,
    summaries=True,
    judged=None,
    compared=None,
    untrusted=(5, 11),
    draws=200,
    observations=24,
) -> Path:
    """A complete run folder; what is switched off is left out of it.

    `compared` are reports of closeness to the reference, which is not to be trusted for `untrusted`.
    """
    spec = spec or problem()
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    held_out = gaussian_problem(rng, spec, observations, 64)
    shown = gaussian_problem(rng, spec, 1, draws)
    exact = {name: a[:, 0] + 0.1 * a[:, 0].std(0) for name, a in shown[2].items()}
    write_posterior(
        folder / "posterior.nc",
        spec=spec,
        posterior=_tensors(shown[2], np.s_[:, 0]),
        observed=_tensors(shown[1], 0),
        summaries=_tensors(shown[3], 0) if summaries else None,
        summarised=summarised(spec) if summaries else (),
        truth=_tensors(shown[0], 0) if truth else None,
        reference=_tensors(exact) if reference and 0 not in untrusted else None,
        calibration_draws=_tensors(held_out[2]) if calibration else None,
        calibration_truth=_tensors(held_out[0]) if calibration else None,
        calibration_observed=_tensors(held_out[1]) if calibration else None,
    )
    judged = reports(spec) if judged is None else judged
    compared = compared or ()
    write_metrics(folder / "metrics.json", [*judged, *compared], [report.validator for report in compared])
    run = [
        "simulator:",
        "  name: lognormal",
        "  size: 32",
        "  extent_deg: 10.0",
        "  noise: {galaxies_per_arcmin2: 27.0, sigma_e: 0.26}",
        "estimator:",
        "  name: diffusion-transformer",
        "  width: 96",
        "  learning_rate: 1e-3",
        "validators:",
        "- name: mira",
        "- name: coverage",
        "  levels: [0.5, 0.68, 0.95]",
        "reference: {name: hmc, observations: 16, chains: 4}" if reference else "reference: null",
        f"sampling: {{draws: 64, observations: {observations}, shown_draws: {draws}}}",
        "seed: 3",
        "device: cpu",
    ]
    (folder / "run.yaml").write_text("\n".join(run) + "\n")
    provenance = {
        "sbikit": "0.1.0",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6", "xarray": "2026.9.0"},
        "python": "3.11.7",
        "platform": "Linux-6.1-x86_64",
        "device": "cpu",
        "seed": 3,
        "command": "sbikit run --sim lognormal --estimator diffusion-transformer --seed 3 --out runs/a",
        "started": "2026-03-04T10:21:07+00:00",
        "git": None,
        "timings": {"fit": 132.4, "sample": 21.7, "validate": 3.2},
        "simulations": 128000,
        "peak_memory_mb": 1204.5,
        "facts": {"Mean redshift of the sources": "bin 1: 0.4321, bin 2: 0.8765", "Masked pixels": "<none>"},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    if reference:
        values = {"theta": torch.zeros(2, 16, 3)}
        write_draws(folder / "reference.safetensors", Draws(values, exact_trust(untrusted)))
    if training:
        (folder / "training.jsonl").write_text(_training(rng))
    return folder


def _training(rng):
    lines = []
    for step in range(0, 4001, 40):
        loss = 0.3 + 0.9 * np.exp(-step / 500)
        record = {"step": step, "loss": loss * np.exp(0.05 * rng.normal()), "simulations": 32 * step}
        record |= {"seconds": step * 0.033, "learning_rate": 1e-3 * np.cos(step / 2600) ** 2}
        if step % 400 == 0:
            record["validation_loss"] = loss * 1.02
        lines.append(json.dumps(record))
    return "\n".join([*lines, *looks()]) + "\n"


def looks(labels=("Omega_m", "S8", "w0"), steps=(2000, 4000), too_narrow=1.0):
    """Of a denoiser whose gain is right but for a factor, of a posterior of variance 0.3."""
    for step in steps:
        for sigma in np.geomspace(0.005, 60.0, 6):
            left = 0.3 * sigma**2 / (0.3 + sigma**2)
            record = {"step": step, "sigma": sigma, "squared_error": left, "squared_error_se": 0.05 * left}
            record |= {"implied_variance": left / too_narrow, "implied_variance_se": 0.02 * left}
            for label in labels:
                yield json.dumps({**record, "scalar": label})
            pixel = {"pixel_squared_error": 0.9 * left, "pixel_squared_error_se": 0.01 * left}
            pixel |= {"guide_squared_error": left, "guide_squared_error_se": 0.01 * left}
            yield json.dumps({"step": step, "sigma": sigma, **pixel})
