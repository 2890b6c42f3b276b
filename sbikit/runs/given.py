"""Posteriors of some latents given others: the conditional sampler, and whether values can be given."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sbikit.problem.bounds import bounds
from sbikit.problem.errors import ObservationError, OptionError, UnsupportedError
from sbikit.problem.option_errors import nearest
from sbikit.problem.prior import Prior
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable, Vector
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Sampler, SupportsGiven


def conditional(sampler: Sampler, names: Collection[str], by: str) -> Sampler:
    """The sampler to which the latents of these names are observed; itself where there are none.

    Args:
        sampler: of the joint posterior.
        names: latents.
        by: name of the estimator or exact sampler, for messages.

    Raises:
        UnsupportedError: it cannot draw the others given these, or nothing is left to draw.
    """
    if not names:
        return sampler
    if len(names) == len(sampler.spec.latents):
        raise UnsupportedError(
            "All latents are given, so nothing is left to infer.",
            where=", ".join(names),
            expected="one or more of " + ", ".join(v.name for v in sampler.spec.latents) + " left out",
        )
    if not supports(sampler, SupportsGiven):
        raise UnsupportedError(
            f"{by} draws all latents together, and none given others.",
            where=", ".join(names),
            expected="the observables alone: " + ", ".join(v.name for v in sampler.spec.measured),
            fix="leave these latents out, or use diffusion-transformer, hmc, nuts or wiener for fields given "
            "parameters",
        )
    return sampler.given(names)


def spec_given(spec: Spec, names: Collection[str]) -> Spec:
    """The problem to which the latents of these names are observed; itself where there are none."""
    return spec.given(*names) if names else spec


def checked_names(text: str, spec: Spec) -> tuple[str, ...]:
    """The latents that `--given` names, with commas between them.

    Raises:
        OptionError: one is no latent, or is named twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    known = [v.name for v in spec.latents]
    for i, name in enumerate(names):
        if name not in known or name in names[:i]:
            close = nearest(name, known)
            raise OptionError(
                f"{name!r} is named twice." if name in known else f"{name!r} is no latent of this problem.",
                where=f"--given {text}",
                expected=", ".join(known) + ", each at most once",
                got=name,
                fix=f"did you mean {close!r}?" if close and name not in known else "",
            )
    return names


def check_given(values: Values, given: Iterable[Variable], prior: Prior, where: str) -> None:
    """Refuse values of latents, each (B, *shape), that cannot be.

    Raises:
        ObservationError: one lies outside its prior or its support.
    """
    for variable in given:
        value = values[variable.name]
        if isinstance(variable, Vector):
            for label, (low, high), column in zip(
                variable.labels, bounds(variable, prior), value.unbind(1), strict=True
            ):
                if bool(((column < low) | (column > high)).any()):
                    raise _outside(f"{variable.name}.{label}", where, f"{low:g} to {high:g}", column.tolist())
        elif not bool(variable.support.check(value).all()):
            raise _outside(variable.name, where, str(variable.support), [float(value.min())])


def _outside(name: str, where: str, expected: str, got: list[float]) -> ObservationError:
    return ObservationError(
        f"The given {name} lies where it cannot be.",
        where=where,
        expected=expected,
        got=", ".join(f"{one:g}" for one in got[:5]) + (", ..." if len(got) > 5 else ""),
        fix="give a value that the prior allows, and in its units",
    )
