"""For those who write plug-ins: contract checks, a silent monitor, and toy problems with a known posterior.

Each `check_*` raises `ContractError`, which names the promise of `sbikit.interfaces` that is broken,
and returns nothing when all are kept. The toys are described in `sbikit.toys`.

    from sbikit.testing import check_simulator

    def test_contract():
        check_simulator(MySimulator())
"""

from __future__ import annotations

import json
import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.errors import CheckpointError, SbikitError, UnsupportedError
from sbikit.interfaces import (
    Comparison,
    Curve,
    Estimator,
    Evidence,
    LogDensity,
    Metric,
    QuietMonitor,
    Report,
    Sampler,
    Simulator,
    SupportsFloor,
    SupportsLogDensity,
    SupportsObserve,
    SupportsSummaries,
    Validator,
)
from sbikit.seeds import derive_seed, draw_seeds, normals
from sbikit.simulations import Simulations, run_simulator
from sbikit.toys import (
    ExactField,
    ExactVector,
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    Spoiled,
)
from sbikit.variables import Field, Values, Variable, Vector, check_values

_BATCH = 4
_ROUNDING = 1e-4  # of a variable's standard deviation


class ContractError(SbikitError):
    """A plug-in breaks a promise of its interface."""


def gather_evidence(
    simulator: Simulator,
    sampler: Sampler,
    *,
    observations: int = 200,
    draws: int = 64,
    training: int = 400,
    reference: Sampler | None = None,
    compared: int = 16,
    seed: int = 0,
) -> Evidence:
    """What a validator judges, for a sampler of (part of) a simulator's problem.

    Args:
        simulator: draws truths, observations and training simulations.
        sampler: draws from the posterior to judge.
        observations: B.
        draws: n, an observation.
        training: M.
        reference: an exact sampler; the evidence then holds a comparison with twice as many of its draws.
        compared: how many of the observations that is for.
        seed: fixes all of it.
    """
    simulations = Simulations(simulator, seed)
    held_out, spec = simulations.held_out(0, observations), sampler.spec
    observation = {v.name: held_out[v.name] for v in spec.observables}
    some = {key: value[:compared] for key, value in observation.items()}
    return Evidence(
        spec,
        {v.name: held_out[v.name] for v in spec.latents},
        observation,
        sampler.sample(observation, draws, seed=derive_seed(seed, "draws")),
        simulations.training(0, training),
        None if reference is None else _comparison(sampler, reference, some, draws=draws, seed=seed),
    )


def _comparison(sampler: Sampler, reference: Sampler, some: Values, *, draws: int, seed: int) -> Comparison:
    """New draws of both samplers for some observations, the first ones."""
    rows = tuple(range(len(next(iter(some.values())))))
    return Comparison(
        "reference",
        rows,
        reference.sample(some, 2 * draws, seed=derive_seed(seed, "exact")),
        sampler.sample(some, draws, seed=derive_seed(seed, "compared")),
    )


# --- simulators -----------------------------------------------------------------------------


def check_simulator(simulator: Simulator) -> None:
    """Check that a simulator, and every capability it has, does what `sbikit.interfaces` promises.

    Raises:
        ContractError: the first promise found broken.
    """
    name = type(simulator).__name__
    where = f"{name}.simulate"
    seeds = draw_seeds(0, "contract/simulator", 0, _BATCH)
    parameters = simulator.prior.sample(draw_seeds(0, "contract/parameters", 0, _BATCH))

    def simulate(rows: Sequence[int], seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        chosen = {key: value[list(rows)] for key, value in parameters.items()}
        given = _clone(chosen)
        with _sbikit_errors_are_broken_promises(where), _global_random_state_kept(where):
            outputs = run_simulator(simulator, chosen, seeds)
        _unchanged(chosen, given, where)
        return outputs

    with _sbikit_errors_are_broken_promises(f"{name}.spec"):
        spec = simulator.spec
    outputs = simulate(range(_BATCH), seeds)
    _check_seeding(simulator.outputs, outputs, simulate, seeds, where)
    hidden = {v.name: outputs[v.name] for v in spec.latents if v.name in outputs}
    observed = {v.name: outputs[v.name] for v in spec.observables}
    if isinstance(simulator, SupportsObserve):
        _check_observe(simulator, hidden, spec.observables, seeds, name)
    if isinstance(simulator, SupportsSummaries):
        _check_summaries(simulator, observed, spec.observables, name)
    if isinstance(simulator, SupportsFloor):
        _check_floor(simulator, parameters, outputs, spec.fields, name)
    if isinstance(simulator, SupportsLogDensity):
        _check_log_density(simulator, observed, simulator, name)


def _check_seeding(
    variables: Sequence[Variable],
    batch: Values,
    draw: Callable[[Sequence[int], NDArray[np.int64]], Values],
    seeds: NDArray[np.int64],
    where: str,
) -> None:
    """`draw(rows, seeds)` gave `batch` for all rows: is all of its randomness that of each row's seed?"""
    again, other = draw(range(_BATCH), seeds), draw(range(_BATCH), seeds[::-1].copy())
    row = _BATCH - 1
    alone = draw([row], seeds[row:])
    for variable in variables:
        key = variable.name
        _same(again[key], batch[key], where, f"{key!r} is the same for the same seeds", like=batch[key])
        text = f"a draw of {key!r} is the same alone and in a batch"
        _same(alone[key], batch[key][row:], where, text, like=batch[key])
    if all(torch.equal(other[v.name], batch[v.name]) for v in variables):
        raise ContractError(
            "Other seeds give the same outputs.",
            where=where,
            expected="randomness that comes from `seeds`",
            got="equal outputs for different seeds",
            fix="make the draws from the seeds, for example with sbikit.seeds.normals",
        )


def _check_observe(
    simulator: SupportsObserve,
    hidden: Values,
    observables: Sequence[Variable],
    seeds: NDArray[np.int64],
    name: str,
) -> None:
    where = f"{name}.observe"

    def observe(rows: Sequence[int], seeds: NDArray[np.int64]) -> Values:
        chosen = {key: value[list(rows)] for key, value in hidden.items()}
        with _global_random_state_kept(where):
            seen = simulator.observe(chosen, seeds=seeds)
        _shapes(seen, observables, (len(rows),), where)
        return seen

    _check_seeding(observables, observe(range(_BATCH), seeds), observe, seeds, where)


def _check_summaries(
    simulator: SupportsSummaries, observed: Values, observables: Sequence[Variable], name: str
) -> None:
    where = f"{name}.summaries"
    grids = [v.grid for v in observables if isinstance(v, Field)]
    with _global_random_state_kept(where):
        flat = simulator.summaries(observed)
        nested = simulator.summaries({k: v.unflatten(0, (2, _BATCH // 2)) for k, v in observed.items()})
    if set(flat) != set(nested) or not flat:
        raise ContractError("Summaries have no fixed names.", where=where, got=f"{set(flat)}, {set(nested)}")
    for key, summary in flat.items():
        axes = len(summary.shape) - 2
        if summary.shape[0] != _BATCH or (grids and tuple(summary.shape[2:]) not in grids) or axes < 1:
            raise ContractError(
                f"The summary {key!r} has the wrong shape.",
                where=where,
                expected=f"({_BATCH}, channels, *grid), with the grid of an observed field",
                got=str(tuple(summary.shape)),
            )
        _finite(summary, where, key)
        text = f"the summary {key!r} is the same for any batch shape"
        _same(nested[key].flatten(0, 1), summary, where, text, like=summary)


def _check_floor(
    simulator: SupportsFloor, parameters: Values, outputs: Values, fields: Sequence[Field], name: str
) -> None:
    where = f"{name}.floor"
    known = {field.name: field for field in fields}
    for key, bound in simulator.floor(parameters).items():
        if key not in known or tuple(bound.shape) != (_BATCH, known[key].channels):
            raise ContractError(
                f"The floor of {key!r} has the wrong name or shape.",
                where=where,
                expected=f"latent fields ({', '.join(known)}), each ({_BATCH}, channels)",
                got=f"{key} {tuple(bound.shape)}",
            )
        lowest = outputs[key].flatten(2).amin(2)
        slack = _ROUNDING * float(outputs[key].std())
        if bool((bound > lowest + slack).any()):
            raise ContractError(
                f"The field {key!r} falls below its floor.",
                where=where,
                expected=f"values of at least {float(bound.flatten()[0]):.6g} (first draw)",
                got=f"{float(lowest.flatten()[0]):.6g}",
            )


def _check_log_density(
    capability: SupportsLogDensity, observed: Values, simulator: Simulator, name: str
) -> None:
    where = f"{name}.log_density"
    two = {key: value[:2] for key, value in observed.items()}
    density = capability.log_density(two)
    seeds = draw_seeds(0, "contract/white", 0, 6)
    z = 0.5 * normals(seeds, (density.size,)).double().reshape(3, 2, density.size)
    z.requires_grad_()
    value = density.log_prob(z)
    if tuple(value.shape) != (3, 2) or value.dtype != torch.float64:
        raise ContractError(
            "The log density has the wrong shape or type.",
            where=f"{where}.log_prob",
            expected="(*n, B) = (3, 2), torch.float64",
            got=f"{tuple(value.shape)}, {value.dtype}",
        )
    (gradient,) = torch.autograd.grad(value.sum(), z)
    _finite(value, where, "log_prob")
    _finite(gradient, where, "gradient")
    _check_gradient(density, z.detach(), gradient, where)
    alone = capability.log_density({key: item[:1] for key, item in two.items()})
    with torch.no_grad():
        single = alone.log_prob(z[0, :1].detach())
        _same(
            single, value[0, :1], where, "the density of one observation is the same in a batch", like=value
        )
    _check_decode(density, simulator, z.detach(), f"{where}.decode")


def _check_gradient(density: LogDensity, z: Tensor, gradient: Tensor, where: str) -> None:
    """Compare derivatives along random directions with central differences."""
    step = normals(draw_seeds(0, "contract/direction", 0, 6), (density.size,)).double().reshape(z.shape)
    step = 1e-4 * step / step.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        difference = density.log_prob(z + step) - density.log_prob(z - step)
    slope = 2.0 * (gradient * step).sum(-1)
    usual = 2.0 * gradient.norm(dim=-1) * step.norm(dim=-1) / density.size**0.5
    worst = float(((difference - slope).abs() / (slope.abs() + usual).clamp_min(1e-300)).max())
    if worst > 1e-2:
        raise ContractError(
            "The gradient of the log density is not its derivative.",
            where=f"{where}.log_prob",
            expected="autograd and a central difference agree within 1 %",
            got=f"{100 * worst:.3g} % apart",
            fix="look for detached tensors and for float32 in the computation",
        )


def _check_decode(density: LogDensity, simulator: Simulator, z: Tensor, where: str) -> None:
    """Shapes, and parameters that have their prior where white coordinates are standard normal."""
    with torch.no_grad():
        _shapes(density.decode(z), simulator.spec.latents, (3, 2), where)
        parts = []
        for first in range(0, 128, 8):
            seeds = draw_seeds(0, "contract/decode", 2 * first, 16)
            white = normals(seeds, (density.size,)).double().reshape(8, 2, density.size)
            parts.append(density.decode(white)[simulator.prior.name].flatten(0, 1))
    decoded = simulator.prior.to_white(torch.cat(parts).double())
    off = decoded.mean(0).abs() * len(decoded) ** 0.5
    spread = (decoded.var(0) - 1.0).abs() * (len(decoded) / 2.0) ** 0.5
    if not float(torch.maximum(off, spread).max()) < 6.0:
        raise ContractError(
            "Decoded parameters do not follow the prior.",
            where=where,
            expected="the prior, at standard normal white coordinates",
            got=f"mean {decoded.mean(0).tolist()} and sd {decoded.std(0).tolist()} in white coordinates",
        )


# --- samplers and estimators ----------------------------------------------------------------


def check_sampler(sampler: Sampler, observation: Values, *, draws: int = 8, tolerance: float = 1e-3) -> None:
    """Check what a sampler returns and what its draws depend on.

    Args:
        sampler: the sampler.
        observation: at least two observations, each (B, *shape).
        draws: n, an observation.
        tolerance: how far the draws of one observation may differ between batches, in standard
            deviations of the variable: room for rounding, no more.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{type(sampler).__name__}.sample"
    B = len(next(iter(observation.values())))
    if B < 2:
        raise ContractError("Give check_sampler at least two observations.", where=where, got=str(B))
    given = _clone(observation)

    def sample(values: Values, seed: int) -> Values:
        count = len(next(iter(values.values())))
        with _sbikit_errors_are_broken_promises(where), _global_random_state_kept(where):
            drawn = sampler.sample(values, draws, seed=seed)
        _shapes(drawn, sampler.spec.latents, (draws, count), where)
        _float32_on_cpu(drawn, where)
        return drawn

    batch = sample(observation, 1)
    _unchanged(observation, given, where)
    again, other = sample(observation, 1), sample(observation, 2)
    alone = sample({key: value[:1] for key, value in observation.items()}, 1)
    among_others = sample({key: value[[0] * B] for key, value in observation.items()}, 1)
    for variable in sampler.spec.latents:
        key = variable.name
        drawn = batch[key]
        text = f"draws of {key!r} are the same for the same seed"
        _same(again[key], drawn, where, text, like=drawn, tolerance=tolerance)
        text = f"draws of {key!r} for one observation are the same whatever the others in the batch are"
        _same(alone[key], drawn[:, :1], where, text, like=drawn, tolerance=tolerance)
        _same(among_others[key][:, :1], drawn[:, :1], where, text, like=drawn, tolerance=tolerance)
        if torch.equal(other[key], drawn):
            raise ContractError(
                f"Another seed gives the same draws of {key!r}.",
                where=where,
                expected="draws that depend on the seed",
                got="equal draws for seeds 1 and 2",
            )


def check_estimator(estimator: Estimator, simulator: Simulator | None = None) -> None:
    """Check an estimator's match, fit, save and load; it is fitted once.

    Args:
        estimator: with options that make the fit quick.
        simulator: what it learns; where left out, the first toy that it can infer.

    Raises:
        ContractError: the first promise found broken.
    """
    name = type(estimator).__name__
    simulator = _matching_toy(estimator) if simulator is None else simulator
    with _sbikit_errors_are_broken_promises(f"{name}.match"):
        spec = estimator.match(simulator.spec)
    monitor = QuietMonitor()
    simulations = Simulations(simulator, 0)
    with _sbikit_errors_are_broken_promises(f"{name}.fit"), _global_random_state_kept(f"{name}.fit"):
        sampler = estimator.fit(simulations, seed=0, monitor=monitor)
    if sampler.spec != spec:
        raise ContractError(
            "The fitted sampler infers something else than `match` said.",
            where=f"{name}.fit",
            expected=repr(spec),
            got=repr(sampler.spec),
        )
    held_out = simulations.held_out(0, 3)
    observation = {v.name: held_out[v.name] for v in spec.observables}
    check_sampler(sampler, observation)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "saved"
        folder.mkdir()
        estimator.save(sampler, folder)
        _check_round_trip(estimator, sampler, simulator, folder, observation)
        _check_damage(estimator, simulator, folder)


def _matching_toy(estimator: Estimator) -> Simulator:
    for toy in (GaussianVector(), GaussianField(GaussianFieldOptions(size=8))):
        try:
            estimator.match(toy.spec)
        except UnsupportedError:
            continue
        return toy
    raise ContractError(
        "The estimator can infer neither toy.",
        where=f"{type(estimator).__name__}.match",
        fix="give check_estimator a simulator",
    )


def _check_round_trip(
    estimator: Estimator, sampler: Sampler, simulator: Simulator, folder: Path, observation: Values
) -> None:
    where = f"{type(estimator).__name__}.load"
    with _sbikit_errors_are_broken_promises(where):
        loaded = estimator.load(folder, simulator, device=torch.device("cpu"))
        drawn, again = (s.sample(observation, 8, seed=3) for s in (sampler, loaded))
    for key, tensor in drawn.items():
        _same(again[key], tensor, where, f"a loaded sampler draws the same {key!r}", like=tensor)


def _check_damage(estimator: Estimator, simulator: Simulator, folder: Path) -> None:
    """Cut every file short, take every file away, and ask for another problem: each must be refused."""
    where = f"{type(estimator).__name__}.load"
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = path.relative_to(folder)
        for damage in ("cut short", "missing"):
            copy = folder.parent / "damaged"
            shutil.copytree(folder, copy)
            content = path.read_bytes()
            (copy / inside).unlink()
            if damage == "cut short":
                (copy / inside).write_bytes(content[: len(content) // 2])
            _expect_refusal(estimator, simulator, copy, f"{inside} is {damage}", where)
            shutil.rmtree(copy)
    other = GaussianField(GaussianFieldOptions(size=4)) if simulator.spec.vectors else GaussianVector()
    _expect_refusal(estimator, other, folder, "the simulator is another", where)


def _expect_refusal(estimator: Estimator, simulator: Simulator, folder: Path, what: str, where: str) -> None:
    try:
        estimator.load(folder, simulator, device=torch.device("cpu"))
    except CheckpointError:
        return
    except Exception as error:
        raise ContractError(
            f"A damaged checkpoint ({what}) raises the wrong error.",
            where=where,
            expected="CheckpointError",
            got=f"{type(error).__name__}: {error}",
        ) from error
    raise ContractError(
        f"A damaged checkpoint ({what}) is read without complaint.",
        where=where,
        expected="CheckpointError",
        got="a sampler",
    )


# --- validators -----------------------------------------------------------------------------


def check_validator(validator: Validator) -> None:
    """Check that a validator passes an exact posterior, refuses a wrong one, and reports plain numbers.

    A calibrated validator may refuse one exact posterior by chance, so only two refusals of two count.
    Wrong posteriors are moved by one standard deviation, twice too narrow and twice too wide; a
    validator must refuse at least one of the three. One that needs a reference gets draws of the exact
    sampler, and must refuse evidence without them with an `SbikitError`.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{type(validator).__name__}.validate"
    toy = GaussianField(GaussianFieldOptions(size=8, parameters=1))
    exact = toy.exact_sampler()
    reference = exact if validator.needs_reference else None
    refused = []
    for seed in (0, 1):
        report = _validated(validator, gather_evidence(toy, exact, reference=reference, seed=seed), where)
        refused.append([f"{m.name} of {m.variable}" for m in report.metrics if m.verdict == "fail"])
    if all(refused):
        raise ContractError(
            "An exact posterior is refused.",
            where=where,
            expected="no verdict 'fail' on draws from the exact posterior",
            got="; ".join(sorted({text for texts in refused for text in texts})),
        )
    wrong = (Spoiled(exact, shift=1.0), Spoiled(exact, scale=0.5), Spoiled(exact, scale=2.0))
    reports = [
        _validated(validator, gather_evidence(toy, sampler, reference=reference), where) for sampler in wrong
    ]
    if not any(m.verdict == "fail" for report in reports for m in report.metrics):
        raise ContractError(
            "No wrong posterior is refused.",
            where=where,
            expected="a verdict 'fail' on draws that are shifted, too narrow or too wide",
            got="none",
        )
    vector = GaussianVector()
    right = vector.exact_sampler()
    evidence = gather_evidence(vector, right, reference=right if validator.needs_reference else None)
    if _validated(validator, evidence, where) != _validated(validator, evidence, where):
        raise ContractError("The same seed gives another report.", where=where, expected="equal reports")
    if validator.needs_reference:
        _check_refusal_without_reference(validator, replace(evidence, comparison=None), where)


def _check_refusal_without_reference(validator: Validator, evidence: Evidence, where: str) -> None:
    try:
        validator.validate(evidence, seed=0)
    except SbikitError:
        return
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    else:
        got = "a report"
    raise ContractError(
        "A validator that needs a reference must refuse evidence without one.",
        where=where,
        expected="an SbikitError",
        got=got,
    )


def _validated(validator: Validator, evidence: Evidence, where: str) -> Report:
    """The report, after checks of its form and of what became of the evidence."""
    compared = () if evidence.comparison is None else (evidence.comparison.exact, evidence.comparison.draws)
    parts = (evidence.truth, evidence.observation, evidence.draws, evidence.training, *compared)
    given = [_clone(part) for part in parts]
    with _sbikit_errors_are_broken_promises(where), _global_random_state_kept(where):
        report = validator.validate(evidence, seed=0)
    for part, kept in zip(parts, given, strict=True):
        _unchanged(part, kept, where)
    if not report.metrics:
        raise ContractError("The report has no metric.", where=where, expected="one or more")
    known = {*(name for v in evidence.spec.latents for name in _names(v)), "joint"}
    for metric in report.metrics:
        _check_metric(metric, known, where)
    for curve in report.curves:
        _check_curve(curve, known, where)
    return report


def _names(variable: Variable) -> tuple[str, ...]:
    """What a report may call a variable: its name, and its scalars or its channels after a dot."""
    parts = variable.labels if isinstance(variable, Vector) else range(1, variable.channels + 1)
    return (variable.name, *(f"{variable.name}.{part}" for part in parts))


def _check_metric(metric: Metric, known: set[str], where: str) -> None:
    given = (metric.value, metric.error, metric.ideal, metric.floor, metric.floor_error)
    plain = all(isinstance(x, float | int) and math.isfinite(x) for x in given if x is not None)
    plain = plain and metric.value is not None and metric.error is not None
    if not plain or metric.error < 0 or (metric.floor_error or 0.0) < 0 or metric.variable not in known:
        raise ContractError(
            f"The metric {metric.name!r} is not well formed.",
            where=where,
            expected=f"finite Python numbers, an error of 0 or more, a variable among {sorted(known)}",
            got=repr(metric),
        )
    if metric.verdict not in ("pass", "fail", "none"):
        raise ContractError(
            "Unknown verdict.", where=where, expected="pass, fail or none", got=metric.verdict
        )
    _json(asdict(metric), f"metric {metric.name!r}", where)


def _check_curve(curve: Curve, known: set[str], where: str) -> None:
    lengths = {len(getattr(curve, axis)) for axis in ("x", "y", "low", "high", "ideal")}
    if len(lengths) != 1 or curve.variable not in known:
        raise ContractError(
            f"The curve {curve.name!r} is not well formed.",
            where=where,
            expected=f"sequences of one length, a variable among {sorted(known)}",
            got=f"lengths {sorted(lengths)}, variable {curve.variable!r}",
        )
    _json(asdict(curve), f"curve {curve.name!r}", where)


def _json(content: Mapping[str, object], what: str, where: str) -> None:
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"The {what} cannot be written as JSON.",
            where=where,
            expected="Python numbers and strings, all finite",
            got=str(error),
        ) from error


# --- what all checks use --------------------------------------------------------------------


@contextmanager
def _global_random_state_kept(where: str) -> Iterator[None]:
    def state() -> tuple[object, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002 - read only, to see whether it is touched
        return (random.getstate(), str(numpy_state), bytes(torch.get_rng_state().numpy()))

    before = state()
    yield
    for library, old, new in zip(("random", "numpy", "torch"), before, state(), strict=True):
        if old != new:
            raise ContractError(
                f"The global random state of {library} is used.",
                where=where,
                expected="randomness from the seed alone",
                fix="use sbikit.seeds, or a generator made from the seed",
            )


@contextmanager
def _sbikit_errors_are_broken_promises(where: str) -> Iterator[None]:
    try:
        yield
    except ContractError:
        raise
    except SbikitError as error:
        raise ContractError(
            error.message, where=error.where or where, expected=error.expected, got=error.got, fix=error.fix
        ) from error


def _clone(values: Values) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in values.items()}


def _unchanged(values: Values, before: Values, where: str) -> None:
    for key, value in values.items():
        if not torch.equal(value, before[key]):
            raise ContractError(
                f"The argument {key!r} is changed in place.", where=where, fix="work on a copy"
            )


def _same(
    got: Tensor, expected: Tensor, where: str, promise: str, *, like: Tensor, tolerance: float = _ROUNDING
) -> None:
    """Refuse tensors further apart than `tolerance` standard deviations of `like`."""
    sd = float(like.double().std()) if like.numel() > 1 else 1.0
    apart = float((got.double() - expected.double()).abs().max())
    if not apart <= tolerance * sd + 1e-6 * float(expected.double().abs().max()):
        raise ContractError(
            f"Broken promise: {promise}.",
            where=where,
            expected=f"a difference of at most {tolerance:g} standard deviations ({sd:.3g})",
            got=f"{apart:.3g}",
        )


def _finite(tensor: Tensor, where: str, what: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ContractError(
            f"{what} is not finite.", where=where, expected="finite numbers", got="NaN or infinity"
        )


def _shapes(values: Values, variables: Sequence[Variable], batch: tuple[int, ...], where: str) -> None:
    with _sbikit_errors_are_broken_promises(where):
        check_values(values, variables, batch, where)


def _float32_on_cpu(values: Values, where: str) -> None:
    for key, value in values.items():
        if value.dtype != torch.float32 or value.device.type != "cpu":
            raise ContractError(
                f"Draws of {key!r} have the wrong type or device.",
                where=where,
                expected="torch.float32, cpu",
                got=f"{value.dtype}, {value.device}",
            )


__all__ = [
    "ContractError",
    "ExactField",
    "ExactVector",
    "GaussianField",
    "GaussianFieldOptions",
    "GaussianVector",
    "QuietMonitor",
    "Spoiled",
    "check_estimator",
    "check_sampler",
    "check_simulator",
    "check_validator",
    "gather_evidence",
]
