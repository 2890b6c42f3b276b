"""How exact are the exact samplers, and how fast? `python benchmarks/reference.py FOLDER [--data DIR]`.

    gaussian   hmc and nuts against the analytic posterior of the Gaussian mode (sampler wiener)
    sbc        simulation-based calibration of hmc itself on log-normal observations, MIRA and TARP
    both       nuts against hmc on log-normal observations
    published  the noisy convergence map of sbi_lens and its published full-field draws (DIR)
    speed      effective draws a second of hmc and nuts on the same log density
    table      transformer and npe of the quick preset against hmc, every figure of `agreement`

Each step keeps its draws in FOLDER, so that an interrupted benchmark goes on. `--only gaussian,sbc` chooses
steps; `--quick` makes them small enough for ten minutes in all (its figures are not results). The step
`table` reads the run folder FOLDER/run, which `python benchmarks/quick.py FOLDER/run` makes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _kept import kept_figures, sampled
from _record import record
from arviz_stats.base import array_stats
from scipy.stats import kstest
from torch import Tensor

import sbikit
from sbikit import Comparison, Evidence, LogDensity, Sampler, Simulations, Simulator, Values
from sbikit.fields.spectra import power_spectrum
from sbikit.problem.seeds import derive_seed, uniforms

PARAMETERS = ("Omega_m", "S8", "w0")


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    gaussian: int = 16
    nuts: int = 2
    draws: int = 4000
    sbc: int = 200
    both: int = 8
    speed: tuple[int, ...] = (32, 64, 128)
    published: tuple[int, int, int] = (8, 4000, 32_000)
    """Chains, draws and the most of them."""
    engine: tuple[int, int] = (300, 500)
    """Transitions of nuts: warm-up, and those that are kept where its speed is measured."""
    table: tuple[int, int] = (100, 500)
    """Observations, and draws of the estimators for each."""
    short: bool = False
    """Whether training and chains are shorter than they should be."""


QUICK = Scale(
    gaussian=4,
    nuts=1,
    draws=500,
    sbc=8,
    both=1,
    speed=(32,),
    published=(4, 200, 200),
    engine=(100, 200),
    table=(8, 200),
    short=True,
)


def observed(simulator: Simulator, count: int, seed: int = 0) -> dict[str, Tensor]:
    """Held-out draws of all variables, each (count, *shape)."""
    return Simulations(simulator, seed).held_out(0, count)


def data(simulator: Simulator, draws: Values) -> dict[str, Tensor]:
    """The observables among them."""
    return {name: draws[name] for name in simulator.observed}


# --- the Gaussian mode ----------------------------------------------------------------------


def gaussian(folder: Path, scale: Scale) -> None:
    """Offsets of means, ratios of sds and C2ST between each sampler and the analytic posterior."""
    simulator = sbikit.load("simulator", "lognormal", size=32, field="gaussian")
    held_out = data(simulator, observed(simulator, scale.gaussian))
    exact, _ = sampled(
        folder / "wiener",
        sbikit.load("sampler", "wiener", simulator=simulator),
        held_out,
        2 * scale.draws,
        1,
        at_once=4,
    )
    each = scale.draws // 4
    for name, count, options in (
        ("wiener, floor", scale.gaussian, {}),
        ("hmc", scale.gaussian, {"draws": 3 * each, "max_draws": 3 * each}),
        ("nuts", scale.nuts, {"draws": 2 * each, "warmup": scale.engine[0]}),
    ):
        some = {key: value[:count] for key, value in held_out.items()}
        if "floor" in name:
            draws = {key: value[scale.draws :] for key, value in exact.items()}
        else:
            sampler = sbikit.load("sampler", name, simulator=simulator, **options)
            draws, told = sampled(folder / name, sampler, some, scale.draws, 2, at_once=8)
            record(
                f"{name}: observations that can be trusted, of {count}", float(told["trusted"].sum()), None
            )
        _compare(name, {key: value[: scale.draws, :count] for key, value in exact.items()}, draws)


def _compare(name: str, exact: Values, draws: Values, against: str = "the analytic posterior") -> None:
    """The figures of one sampler against draws to go by; errors are those between observations."""
    from sbi.utils.metrics import c2st

    theta, other = exact["theta"].double(), draws["theta"].double()
    count = theta.shape[1]
    offset = (other.mean(0) - theta.mean(0)) / theta.std(0)
    ratio = other.std(0) / theta.std(0)
    for i, label in enumerate(PARAMETERS):
        bias = float(offset[:, i].mean())
        error = _error(offset[:, i])
        record(
            f"{name}: offset of the mean of {label}, sd", bias, error, goal="within .05", ok=abs(bias) <= 0.05
        )
        mean = float(ratio[:, i].log().mean().exp())
        record(
            f"{name}: ratio of sds of {label}",
            mean,
            _error(ratio[:, i]),
            goal="1 within 3 %",
            ok=abs(mean - 1.0) <= 0.03,
            ratio_to=against,
        )
    record(
        f"{name}: rms offset over parameters and observations, sd", float(offset.square().mean().sqrt()), None
    )
    summary, others = (_scalars(one) for one in (exact, draws))
    scores = []
    for b in range(min(count, 8)):
        few = slice(None, None, max(1, len(summary) // 2000))
        scores.append(float(c2st(summary[few, b], others[few, b], seed=b)))
    mean = float(np.mean(scores))
    record(
        f"{name}: C2ST of parameters and four map summaries",
        mean,
        _error(torch.tensor(scores)),
        goal="at most .52",
        ok=mean <= 0.52,
    )


def _scalars(draws: Values) -> Tensor:
    """Parameters, log variance, minimum, maximum and large-scale power of the map, (n, B, S)."""
    kappa = draws["kappa"][..., 0, :, :]
    power = power_spectrum(kappa.numpy(), (1.0, 1.0), bins=4).power[..., 0]
    flat = kappa.flatten(-2)
    summaries = [flat.var(-1).log(), flat.amin(-1), flat.amax(-1), torch.from_numpy(np.log(power)).float()]
    return torch.cat([draws["theta"], torch.stack(summaries, -1)], -1)


def _error(values: Tensor) -> float | None:
    """Standard error of the mean; None of a single value."""
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else None


# --- calibration of the reference itself ----------------------------------------------------


def sbc(folder: Path, scale: Scale) -> None:
    """Ranks of parameters and map summaries among hmc's draws, MIRA and TARP."""
    simulator, held_out, draws, told = _lognormal(folder, scale.sbc)
    trusted = told["trusted"]
    record(f"hmc: observations that can be trusted, of {len(trusted)}", float(trusted.sum()), None)
    record("hmc: smallest effective sample size of a parameter", float(told["ess"].min()), None)
    thinned = {key: value[4::10, trusted] for key, value in draws.items()}
    truth = {key: value[trusted] for key, value in held_out.items()}
    names = (*PARAMETERS, "log variance", "minimum", "maximum", "large-scale power")
    ranks = _ranks(_scalars(truth), _scalars(thinned))
    for name, column in zip(names, ranks.T, strict=True):
        p = float(kstest(column, "uniform").pvalue)
        record(f"SBC of hmc: p of uniform ranks, {name}", p, None, goal="above .005", ok=p > 0.005)
    pixel = _ranks(truth["kappa"][:, :, ::8, ::8].flatten(1), thinned["kappa"][..., ::8, ::8].flatten(2))
    z = (pixel.mean(1) - 0.5) * math.sqrt(12.0)
    record("SBC of hmc: mean rank of 16 pixels, sd from 1/2", float(z.mean()), float(z.std() / len(z) ** 0.5))
    training = Simulations(simulator, 0).training(0, 2048)
    evidence = Evidence(simulator.spec, truth, {n: truth[n] for n in simulator.observed}, thinned, training)
    for validator in ("mira", "tarp"):
        found = sbikit.load("validator", validator).validate(evidence, seed=5)
        for metric in found.metrics:
            if metric.verdict == "none":
                continue
            record(
                f"{metric.name} of {metric.variable}, draws of hmc",
                metric.value,
                metric.error,
                goal=f"{metric.ideal:.4g} within 3 standard errors",
                ok=metric.verdict == "pass",
            )


def both(folder: Path, scale: Scale) -> None:
    """Offsets, ratios of sds and C2ST between nuts and hmc on the same log-normal observations."""
    simulator = sbikit.load("simulator", "lognormal")
    held_out = data(simulator, observed(simulator, scale.both))
    each = scale.draws // 4
    exact, told_exact = sampled(
        folder / "hmc",
        sbikit.load("sampler", "hmc", simulator=simulator, draws=3 * each, max_draws=3 * each),
        held_out,
        scale.draws,
        3,
        at_once=8,
    )
    other, told = sampled(
        folder / "nuts",
        sbikit.load("sampler", "nuts", simulator=simulator, draws=2 * each, warmup=scale.engine[0]),
        held_out,
        scale.draws,
        4,
        at_once=1,
    )
    for name, found in (("hmc", told_exact), ("nuts", told)):
        trusted = float(found["trusted"].sum())
        record(f"{name}, log-normal: observations that can be trusted, of {scale.both}", trusted, None)
    _compare("nuts against hmc", exact, other, "hmc")


def _lognormal(
    folder: Path, count: int
) -> tuple[Simulator, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The quick preset's simulator, held-out draws, hmc's draws and what they are worth."""
    simulator = sbikit.load("simulator", "lognormal")
    held_out = observed(simulator, count)
    sampler = sbikit.load("sampler", "hmc", simulator=simulator)
    draws, told = sampled(
        folder / "hmc", sampler, data(simulator, held_out), 1000, derive_seed(0, "sbc"), at_once=32
    )
    return simulator, held_out, draws, told


def _ranks(truth: Tensor, draws: Tensor) -> np.ndarray:
    """Ranks of truths (B, S) among draws (n, B, S) on [0, 1], ties and steps spread evenly."""
    below = (draws < truth).sum(0).double().numpy()
    spread = uniforms(np.arange(below.size, dtype=np.int64), 1).reshape(below.shape)
    return (below + spread) / (len(draws) + 1)


# --- the published case ---------------------------------------------------------------------

PUBLISHED: dict[str, Any] = {
    "name": "lognormal",
    "size": 128,
    "extent": 5.0,
    "observes": "convergence",
    "prior": "wcdm",
    "omega_c": {"normal": [0.3, 0.05]},
    "sigma_8": {"normal": [0.8, 0.05]},
    "omega_b": 0.0486,
    "h": 0.6774,
    "n_s": 0.9667,
    "w_0": -1.0,
    "sources": {"alpha": 0.5, "beta": 2.0, "z0": 1.0},
    "n_gal": 30.0,
    "sigma_e": 0.2,
}


def published(folder: Path, scale: Scale, source: Path) -> None:
    """Offset and ratio of sds against the published draws, as our model has it and as theirs."""
    theirs = np.load(source / "posterior_full_field__128N_5ms_30gpa_0.2se.npy").astype(float)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "observation.npy", np.load(source / "m_data__128N_5ms_30gpa_0.2se.npy")[None])
    _shift_tables(source / "lognormal_shift.csv", folder)
    for name, options in (
        ("ours", {"shift": {"table": str(folder / "table.txt")}}),
        ("no pixel window", {"shift": {"table": str(folder / "table.txt")}, "pixel_window": False}),
        (
            "no pixel window, their lookup",
            {"shift": {"table": str(folder / "lookup.txt")}, "pixel_window": False},
        ),
    ):
        theta, ess = _published_draws(folder / name.replace(",", "").replace(" ", "-"), options, scale)
        for i, label in enumerate(("omega_c", "sigma_8")):
            # Errors take the published draws for one chain, whose autocorrelation tells what they are worth.
            worth, worth_of_sd = _worth(theirs[None, :, i])
            sd = float(theirs[:, i].std())
            mean, width = float(theta[..., i].mean()), float(theta[..., i].std())
            _, ess_of_sd = _worth(theta[:, i].unflatten(0, (scale.published[0], -1)).numpy())
            offset, ratio = (mean - float(theirs[:, i].mean())) / sd, width / sd
            about = f"{label}, published case, {name}"
            record(f"mean of {about} (published {theirs[:, i].mean():.4f})", mean, width / math.sqrt(ess[i]))
            error = math.sqrt(ratio**2 / ess[i] + 1.0 / worth)
            record(f"offset in sd, {about}", offset, error, goal="within .25", ok=abs(offset) <= 0.25)
            error = ratio * math.sqrt(0.5 / ess_of_sd + 0.5 / worth_of_sd)
            record(
                f"ratio of sds, {about}",
                ratio,
                error,
                goal="1 +- .1",
                ok=abs(ratio - 1.0) <= 0.1,
                ratio_to="the published draws",
            )


def _worth(chains: np.ndarray) -> tuple[float, float]:
    """Effective sample sizes of chains (chains, draws) for the mean and for the variance."""
    squares = (chains - chains.mean()) ** 2
    return float(array_stats.ess(chains, method="mean")), float(array_stats.ess(squares, method="mean"))


def _shift_tables(source: Path, folder: Path) -> None:
    """Their table as the simulator reads it, and with the values at the places where their code finds them.

    It looks x up at (x - low) / (high - low) * 8 - 1/2, as if the eight values stood at the centres of
    eight cells, while the first and the last belong to the edges.
    """
    rows = np.loadtxt(source, delimiter=",", skiprows=1)
    moved = rows.copy()
    for column in (0, 1):
        nodes = np.unique(rows[:, column])
        low, high, count = nodes[0], nodes[-1], len(nodes)
        place = np.searchsorted(nodes, rows[:, column])
        moved[:, column] = low + (place + 0.5) / count * (high - low)
    for name, table in (("table", rows), ("lookup", moved)):
        np.savetxt(
            folder / f"{name}.txt", table, delimiter=", ", header="Omega_m, sigma_8, lambda", comments=""
        )


def _published_draws(folder: Path, options: dict[str, Any], scale: Scale) -> tuple[Tensor, list[float]]:
    """Draws (n, 2) through the command line, and their effective sample sizes."""
    out = folder.parent / f"{folder.name}.nc"
    configuration = folder.parent / f"{folder.name}.yaml"
    if not out.exists():
        chains, least, most = scale.published
        reference = {"name": "hmc", "chains": chains, "draws": least // chains, "max_draws": most // chains}
        settings = {"simulator": {**PUBLISHED, **options}, "reference": reference}
        configuration.write_text(json.dumps(settings))  # JSON is YAML
        if not folder.exists():
            _sbikit("init", str(folder), "--config", str(configuration))
        observation = str(folder.parent / "observation.npy")
        _sbikit(
            *("sample", str(folder), "--observation", observation, "--reference"),
            *("--draws", str(scale.published[1]), "--out", str(out)),
        )
    group = xr.open_datatree(out, engine="h5netcdf")["posterior"]
    if not group.attrs["trustworthy"]:
        print(f"{folder.name}: {dict(group.attrs)}", file=sys.stderr)
    theta = torch.from_numpy(np.array(group["theta"].values, dtype=float)).flatten(0, 1)
    return theta, [float(one) for one in np.atleast_1d(group.attrs["ess_bulk"])]


def _sbikit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "sbikit", *arguments], check=True, stdout=sys.stderr)


# --- speed ----------------------------------------------------------------------------------

ENGINES: dict[str, dict[str, Any]] = {"nuts": {}, "nuts, diagonal mass matrix": {"low_rank": False}}
"""The second leaves out the low-rank part of the mass matrix, whose cost grows with the pixels."""
OF_NUTS = 2
MEASURED = {32: 64, 64: 32, 128: 8}
"""Observations that stand for 64 of hmc: batches are independent, so 64 take twice as long as 32."""


def speed(folder: Path, scale: Scale) -> None:
    """Effective draws a second of the parameter that has fewest, warm-up included."""
    for size in scale.speed:
        name = f"{size} px"
        _gradient_costs(folder, size)
        engines = {}
        for engine, options in ENGINES.items():
            kept = folder / f"{engine.replace(',', '').replace(' ', '-')}-{size}"
            engines[engine] = _nuts_speed(kept, size, scale, options)
            about = f"{engine}, {OF_NUTS} observations on {os.cpu_count()} processes, {name}"
            record(f"{about}: effective draws a second", engines[engine].speed, engines[engine].error)
            record(f"{about}: gradients a second", engines[engine].gradients, None)
        for count in (1, 64):
            few = min(count, 8 if scale.short else MEASURED[size])
            found = kept_figures(
                folder / f"hmc-{size}-{count}.json", lambda size=size, few=few: _hmc_speed(size, few)
            )
            about = f"{count} observation(s)" + (f", measured on {few}" if few != count else "") + f", {name}"
            spread = found["error"] if few > 1 else None  # one observation has no spread
            record(f"hmc, {about}: effective draws a second", found["speed"], spread)
            record(f"hmc, {about}: gradients a second", found["gradients"], None)
            for engine, other in engines.items():
                ratio = found["speed"] / other.speed
                relative = math.hypot(other.error / other.speed, found["error"] / found["speed"])
                error = ratio * relative if few > 1 else None
                goal = {"goal": "at least 20", "ok": ratio >= 20.0} if count == 64 else {}
                record(f"hmc over {engine}, {about}", ratio, error, ratio_to=engine, **goal)
                tail = found["tail"] / other.tail
                record(f"hmc over {engine} by tail ESS, {about}", tail, None, ratio_to=engine)


def _gradient_costs(folder: Path, size: int) -> None:
    """What a gradient costs on one thread: that to steer by and autograd's, of 16 chains and of 4."""
    found = kept_figures(folder / f"gradient-{size}.json", lambda: _gradient_seconds(size))
    for name, seconds in found.items():
        record(f"{name}, {size} px: microseconds a chain", 1e6 * seconds, None)


def _gradient_seconds(size: int) -> dict[str, float]:
    """Of a chain, in batches of chains of four observations and of one."""
    found = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for observations in (4, 1):
        simulator, held_out = _speed_problem(size, 0, observations)
        density: LogDensity = simulator.log_density(held_out)  # type: ignore[attr-defined]
        source = torch.Generator().manual_seed(0)
        z = 0.7 * torch.randn(4, observations, density.size, generator=source, dtype=torch.float64)
        about, chains = f"batch of {4 * observations}", 4 * observations
        assert density.gradient is not None
        found[f"gradient to steer by, {about}"] = _median_seconds(density.gradient, z.float()) / chains
        found[f"gradient by autograd, {about}"] = _median_seconds(partial(_autograd, density), z) / chains
    torch.set_num_threads(threads)
    return found


def _autograd(density: LogDensity, z: Tensor) -> None:
    at = z.clone().requires_grad_()
    torch.autograd.grad(density.log_prob(at).sum(), at)


def _median_seconds(work: Callable[[Tensor], object], z: Tensor) -> float:
    """Of 20 times."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        work(z)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _speed_problem(size: int, first: int, count: int) -> tuple[Simulator, dict[str, Tensor]]:
    simulator = sbikit.load("simulator", "lognormal", size=size)
    held_out = data(simulator, Simulations(simulator, 9).held_out(first, count))
    simulator.log_density(held_out)  # tables are made
    return simulator, held_out


def _hmc_speed(size: int, count: int) -> dict[str, float]:
    simulator, held_out = _speed_problem(size, 0, count)
    # No observation goes on: the same work for all.
    return _speed(sbikit.load("sampler", "hmc", simulator=simulator, draws=400, max_draws=400), held_out)


def _speed(sampler: Any, held_out: Values) -> dict[str, float]:
    began = time.monotonic()
    sampler.sample(held_out, 100, seed=1)
    seconds = time.monotonic() - began
    found = sampler.diagnostics
    ess = torch.tensor([min(one.ess_bulk) for one in found], dtype=torch.float64)
    return {
        "speed": float(ess.sum()) / seconds,
        "error": float(ess.std()) * math.sqrt(len(ess)) / seconds if len(ess) > 1 else 0.0,
        "tail": sum(min(one.ess_tail) for one in found) / seconds,
        "gradients": sum(one.gradients for one in found) / seconds,
        "seconds": seconds,
    }


@dataclass(frozen=True)
class NutsSpeed:
    """Effective draws (bulk, and tail) and gradients a second of all processes together."""

    speed: float
    error: float
    tail: float
    gradients: float


def _nuts_speed(folder: Path, size: int, scale: Scale, options: dict[str, Any]) -> NutsSpeed:
    """Of as many processes as cores, each with observations of its own; kept."""
    workers = os.cpu_count() or 1
    files = [folder / f"{b}.json" for b in range(OF_NUTS)]
    if not all(file.exists() for file in files):
        command = [sys.executable, __file__, str(folder), "--worker"]
        running = []
        options = {"warmup": scale.engine[0], "draws": scale.engine[1], **options}
        for first in range(min(workers, OF_NUTS)):
            task = {"size": size, "observations": [*range(first, OF_NUTS, workers)], "options": options}
            running.append(subprocess.Popen([*command, json.dumps(task)]))
        if any(process.wait() for process in running):
            sys.exit("a process of nuts failed")
    found = [json.loads(file.read_text()) for file in files]
    seconds = torch.tensor([one["seconds"] for one in found])

    def rate(name: str) -> float:
        return workers * sum(one[name] * one["seconds"] for one in found) / float(seconds.sum())

    draws = torch.tensor([one["speed"] for one in found]) * seconds
    mean = draws.sum() / seconds.sum()
    spread = float((draws - mean * seconds).std() / seconds.mean() / math.sqrt(OF_NUTS))
    return NutsSpeed(rate("speed"), workers * spread, rate("tail"), rate("gradients"))


def worker(folder: Path, task: str) -> None:
    """Some observations by nuts, one after the other on one thread."""
    asked = json.loads(task)
    torch.set_num_threads(1)
    for b in asked["observations"]:
        simulator, held_out = _speed_problem(asked["size"], b, 1)
        sampler = sbikit.load("sampler", "nuts", simulator=simulator, **asked["options"])
        kept_figures(
            folder / f"{b}.json", lambda sampler=sampler, held_out=held_out: _speed(sampler, held_out)
        )


# --- the first honest table -----------------------------------------------------------------


def table(folder: Path, scale: Scale) -> None:
    """Every figure of `agreement`, for the transformer and npe of the quick preset."""
    simulator, held_out, exact, told = _lognormal(folder.parent / "sbc", max(scale.sbc, scale.table[0]))
    rows = [b for b in range(len(told["trusted"])) if bool(told["trusted"][b])][: scale.table[0]]
    observation = {name: value[rows] for name, value in data(simulator, held_out).items()}
    truth = {name: value[rows] for name, value in held_out.items()}
    training = Simulations(simulator, 0).training(0, 2048)
    for name, run in (("diffusion-transformer", folder.parent / "run"), ("npe", folder.parent / "run-npe")):
        if not (run / "report.html").exists():
            less = ("sampling.observations=16", "estimator." + ("epochs=1" if name == "npe" else "steps=50"))
            settings = [word for one in less for word in ("--set", one)] if scale.short else []
            _sbikit("run", "--sim", "lognormal", "--estimator", name, *settings, "--out", str(run))
        estimator = sbikit.load("estimator", name)
        sampler: Sampler = estimator.load(
            run / "checkpoints" / "estimator", simulator, device=torch.device("cpu")
        )
        draws, _ = sampled(folder / name, sampler, observation, scale.table[1], 7, at_once=4)
        latents = [v.name for v in sampler.spec.latents]
        comparison = Comparison(
            "hmc",
            tuple(range(len(rows))),
            {v: exact[v][:, rows] for v in latents},
            {v: draws[v] for v in latents},
        )
        evidence = Evidence(sampler.spec, truth, observation, draws, training, comparison)
        for metric in sbikit.load("validator", "agreement").validate(evidence, seed=3).metrics:
            record(
                f"{name}: {metric.name} of {metric.variable}",
                metric.value,
                metric.error,
                goal=None if metric.verdict == "none" else "the floor, within the tolerance of agreement",
                ok=None if metric.verdict == "none" else metric.verdict == "pass",
                floor=metric.floor,
                floor_error=metric.floor_error,
                ideal=metric.ideal,
            )


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the published observation and draws")
    parser.add_argument("--quick", action="store_true", help="a trial of all steps in ten minutes")
    parser.add_argument(
        "--only", default="gaussian,sbc,both,published,speed,table", help="steps, commas between"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.folder, given.worker)
        return
    scale = QUICK if given.quick else Scale()
    for step in given.only.split(","):
        folder = given.folder / step
        if step == "published":
            if given.data is not None:
                published(folder, scale, given.data)
        else:
            {"gaussian": gaussian, "sbc": sbc, "both": both, "speed": speed, "table": table}[step](
                folder, scale
            )


if __name__ == "__main__":
    main()
