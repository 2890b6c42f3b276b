"""Options that have no effect, or do not fit the bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sbikit import OptionError
from sbikit_lognormal.options.limits import SMALLEST_PIXEL
from sbikit_lognormal.options.simulator import LogNormalOptions

GivenT = TypeVar("GivenT")


def refuse_idle(options: LogNormalOptions, names: Sequence[str], why: str, *, fix: str) -> None:
    """No option shall be without effect.

    Args:
        options: the options.
        names: those that have no effect.
        why: what makes it so, a sentence.
        fix: what to do about it.

    Raises:
        OptionError: one of them is not at its default.
    """
    fields = type(options).model_fields
    idle = [name for name in names if getattr(options, name) != fields[name].default]
    if idle:
        raise OptionError(
            why,
            where=", ".join(f"simulator.{name}" for name in idle),
            expected="left out",
            got=", ".join(f"{name} = {getattr(options, name)}" for name in idle),
            fix=fix,
        )


def check_options(options: LogNormalOptions, bins: int) -> None:
    """Refuse pixels smaller than the spectra reach, and options without effect.

    Args:
        options: the options.
        bins: how many bins their sources make.

    Raises:
        OptionError: they do not fit each other.
    """
    _refuse_small_pixels(options)
    if options.field == "gaussian":
        why = "A Gaussian field has no lower bound, and its bins are as correlated as their spectra say."
        fix = "leave them out, or choose field: lognormal"
        refuse_idle(options, ("shift", "decorrelation"), why, fix=fix)
    if bins == 1:
        why = "A single bin has no correlation to lower."
        refuse_idle(options, ("decorrelation",), why, fix="leave it out, or take several bins")
    if options.observes == "convergence":
        why = "Where convergence is observed no map is made back from shear."
        refuse_idle(options, ("wiener", "quadratics"), why, fix="leave it out, or choose observes: shear")


def _refuse_small_pixels(options: LogNormalOptions) -> None:
    pixel = options.extent * 60.0 / options.size
    if pixel < SMALLEST_PIXEL:
        raise OptionError(
            "The pixels are smaller than the matter power spectrum is known.",
            where="simulator.size, simulator.extent",
            expected=f"pixels of {SMALLEST_PIXEL} arcmin or more",
            got=f"{pixel:.3g} arcmin ({options.extent:g} deg / {options.size})",
            fix="choose a smaller size or a larger extent",
        )


def per_bin(option: str, given: GivenT | tuple[GivenT, ...], bins: int) -> tuple[GivenT, ...]:
    """One value a bin, of an option that has one for all or one a bin.

    Raises:
        OptionError: there are not as many as bins.
    """
    each = given if isinstance(given, tuple) else (given,) * bins
    if len(each) != bins:
        values = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in each)
        raise OptionError(
            f"There are not as many values of {option} as bins.",
            where=f"simulator.{option}",
            expected=f"one for all, or a list of {bins}",
            got=f"{len(each)}: {values}",
            fix="give one a bin",
        )
    return each
