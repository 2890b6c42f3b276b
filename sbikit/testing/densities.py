"""The contract of log densities and of marginal densities."""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit.problem.errors import UnsupportedError
from sbikit.problem.seeds import draw_seeds, generator, normals
from sbikit.problem.variables import Values
from sbikit.roles.simulator import (
    LogDensity,
    Simulator,
    SupportsLogDensity,
    SupportsMarginalDensity,
)
from sbikit.testing.promises import (
    ContractError,
    another_global_random_state,
    clone,
    finite,
    global_random_state_kept,
    same,
    shapes,
    unchanged,
)


def check_log_density(
    capability: SupportsLogDensity, observed: Values, simulator: Simulator, name: str
) -> None:
    where = f"{name}.log_density"
    two = {key: value[:2].clone() for key, value in observed.items()}
    given = clone(two)
    with global_random_state_kept(where):
        density = capability.log_density(two)
    unchanged(two, given, where)
    seeds = draw_seeds(0, "contract/white", 0, 6)
    white = 0.5 * normals(seeds, (density.size,)).double().reshape(3, 2, density.size)
    z = white.clone().requires_grad_()
    value = density.log_prob(z)
    unchanged({"z": z.detach()}, {"z": white}, f"{where}.log_prob")
    _form(value, (3, 2), "(*n, B)", "The log density", f"{where}.log_prob")
    (gradient,) = torch.autograd.grad(value.sum(), z)
    finite(value, where, "log_prob")
    finite(gradient, where, "gradient")
    _check_gradient(density, z.detach(), gradient, where)
    alone = capability.log_density({key: item[:1] for key, item in two.items()})
    with torch.no_grad():
        single = alone.log_prob(z[0, :1].detach())
        same(single, value[0, :1], where, "the density of one observation is the same in a batch", like=value)
    _check_decode(density, simulator, z.detach(), f"{where}.decode")


def _form(value: Tensor, shape: tuple[int, int], axes: str, what: str, where: str) -> None:
    if tuple(value.shape) != shape or value.dtype != torch.float64:
        raise ContractError(
            f"{what} has the wrong shape or type.",
            where=where,
            expected=f"{axes} = {shape}, torch.float64",
            got=f"{tuple(value.shape)}, {value.dtype}",
        )


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


def check_marginal_density(
    capability: SupportsMarginalDensity, observed: Values, simulator: Simulator, name: str
) -> None:
    """Shapes, one observation alone and in a batch, and fields that come from the generator; or a refusal."""
    where = f"{name}.marginal_density"
    two = {key: value[:2].clone() for key, value in observed.items()}
    given = clone(two)
    try:
        with global_random_state_kept(where):
            density = capability.marginal_density(two)
        unchanged(two, given, where)
        alone = capability.marginal_density({key: value[:1] for key, value in observed.items()})
        capability.marginal_density({key: value[:0] for key, value in observed.items()})
    except UnsupportedError:
        return
    theta = simulator.prior.sample(draw_seeds(0, "contract/marginal", 0, 3))[simulator.prior.name].double()
    at = theta.clone()
    found = density.log_likelihood(theta)
    unchanged({"parameters": theta}, {"parameters": at}, f"{where}.log_likelihood")
    _form(found, (2, 3), "(B, Q)", "The marginal likelihood", f"{where}.log_likelihood")
    finite(found, where, "log_likelihood")
    slope, other = (part - part[:, :1] for part in (found[:1], alone.log_likelihood(theta)))
    same(other, slope, where, "the likelihood of one observation is the same in a batch", like=found)
    for b in range(2):
        with global_random_state_kept(f"{where}.draw"):
            fields = density.draw(theta, b, generator(0))
        shapes(fields, simulator.spec.fields, (3,), f"{where}.draw")
        with another_global_random_state():
            again = density.draw(theta, b, generator(0))
        for key, value in fields.items():
            text = f"fields {key!r} come from the generator alone"
            same(again[key], value, f"{where}.draw", text, like=value)
    unchanged({"parameters": theta}, {"parameters": at}, f"{where}.draw")
