"""The contract of simulators and of their capabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.seeds import draw_seeds, normals
from sbikit.problem.variables import Field, Values, Variable
from sbikit.roles.simulator import (
    LogDensity,
    Simulator,
    SupportsFloor,
    SupportsLogDensity,
    SupportsObserve,
    SupportsSummaries,
)
from sbikit.simulations.checked import run_simulator
from sbikit.testing.promises import (
    ROUNDING,
    ContractError,
    clone,
    finite,
    global_random_state_kept,
    same,
    sbikit_errors_are_broken_promises,
    shapes,
    unchanged,
)

_BATCH = 4


def check_simulator(simulator: Simulator) -> None:
    """Check that a simulator, and every capability it has, does what `sbikit.roles.plugin` promises.

    Raises:
        ContractError: the first promise found broken.
    """
    name = type(simulator).__name__
    where = f"{name}.simulate"
    seeds = draw_seeds(0, "contract/simulator", 0, _BATCH)
    parameters = simulator.prior.sample(draw_seeds(0, "contract/parameters", 0, _BATCH))

    def simulate(rows: Sequence[int], seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        chosen = {key: value[list(rows)] for key, value in parameters.items()}
        given = clone(chosen)
        with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
            outputs = run_simulator(simulator, chosen, seeds)
        unchanged(chosen, given, where)
        return outputs

    with sbikit_errors_are_broken_promises(f"{name}.spec"):
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
        same(again[key], batch[key], where, f"{key!r} is the same for the same seeds", like=batch[key])
        text = f"a draw of {key!r} is the same alone and in a batch"
        same(alone[key], batch[key][row:], where, text, like=batch[key])
    if all(torch.equal(other[v.name], batch[v.name]) for v in variables):
        raise ContractError(
            "Other seeds give the same outputs.",
            where=where,
            expected="randomness that comes from `seeds`",
            got="equal outputs for different seeds",
            fix="make the draws from the seeds, for example with sbikit.problem.seeds.normals",
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
        with global_random_state_kept(where):
            seen = simulator.observe(chosen, seeds=seeds)
        shapes(seen, observables, (len(rows),), where)
        return seen

    _check_seeding(observables, observe(range(_BATCH), seeds), observe, seeds, where)


def _check_summaries(
    simulator: SupportsSummaries, observed: Values, observables: Sequence[Variable], name: str
) -> None:
    where = f"{name}.summaries"
    grids = [v.grid for v in observables if isinstance(v, Field)]
    with global_random_state_kept(where):
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
        finite(summary, where, key)
        text = f"the summary {key!r} is the same for any batch shape"
        same(nested[key].flatten(0, 1), summary, where, text, like=summary)


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
        slack = ROUNDING * float(outputs[key].std())
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
    finite(value, where, "log_prob")
    finite(gradient, where, "gradient")
    _check_gradient(density, z.detach(), gradient, where)
    alone = capability.log_density({key: item[:1] for key, item in two.items()})
    with torch.no_grad():
        single = alone.log_prob(z[0, :1].detach())
        same(single, value[0, :1], where, "the density of one observation is the same in a batch", like=value)
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
        shapes(density.decode(z), simulator.spec.latents, (3, 2), where)
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
