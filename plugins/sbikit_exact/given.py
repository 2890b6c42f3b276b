"""Fields given parameters and data, by what draws both: the log density at coordinates that stay."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from sbikit import LogDensity, Prior, Spec, UnsupportedError, Values

_FARTHEST = 7.0  # white coordinate of parameters of float32 that lie on a bound
_NEAR = 1e-4  # of the prior's spread: what coordinates and back may change of parameters of float32


def refuse_unless_parameters(spec: Spec, names: Collection[str], prior: Prior, sampler: str) -> None:
    """Refuse what is no field given all parameters.

    Args:
        spec: the joint problem.
        names: the latents that are given.
        prior: of the parameters.
        sampler: for the message.

    Raises:
        UnsupportedError: it is another conditional.
    """
    if set(names) == {prior.name} and len(spec.latents) > 1:
        return
    others = ", ".join(v.name for v in spec.latents if v.name != prior.name)
    raise UnsupportedError(
        f"{sampler} cannot draw the other latents given {', '.join(names)}.",
        where=f"sampler '{sampler}'",
        expected=f"{prior.name} as what is given"
        if others
        else "a problem with other latents than parameters",
        got=", ".join(names),
    )


def at_parameters(density_of: Callable[[Values], LogDensity], prior: Prior) -> Callable[[Values], LogDensity]:
    """The log density of what is left once the parameters are known.

    Args:
        density_of: the joint log density given observations (B, *shape), whose first coordinates are the
            prior's white ones.
        prior: of the parameters.

    Returns:
        The same, of observations that hold the parameters, too, (B, D).
    """

    def density_at(observation: Values) -> LogDensity:
        theta = observation[prior.name]
        joint = density_of({name: value for name, value in observation.items() if name != prior.name})
        known = prior.to_white(theta.double()).clamp(-_FARTHEST, _FARTHEST)
        _refuse_other_coordinates(joint, prior, theta, known)
        count, gradient = known.shape[-1], joint.gradient

        def whole(z: Tensor) -> Tensor:
            first = known.to(z.dtype).expand(*z.shape[:-1], count)
            return torch.cat([first, z], -1)

        return LogDensity(
            joint.size - count,
            lambda z: joint.log_prob(whole(z)),
            lambda z: joint.decode(whole(z)),
            gradient=None if gradient is None else lambda z: gradient(whole(z))[..., count:],
        )

    return density_at


def _refuse_other_coordinates(joint: LogDensity, prior: Prior, theta: Tensor, known: Tensor) -> None:
    """Refuse a density whose first coordinates are not the prior's white ones."""
    spread = prior.from_white(known + 0.5) - prior.from_white(known - 0.5)
    rest = known.new_zeros(len(known), max(0, joint.size - known.shape[-1]))
    found = joint.decode(torch.cat([known, rest], -1))[prior.name]
    if not bool(((found - theta).abs() <= _NEAR * spread.abs()).all()):
        raise UnsupportedError(
            "The simulator's density does not tell which of its coordinates parameters are.",
            where="log_density of the simulator",
            expected="the first coordinates to be the prior's white ones, as Prior.to_white gives them",
            fix="let LogDensity.decode start with prior.from_white",
        )
