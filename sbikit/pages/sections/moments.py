"""One-point statistics of a field's draws, beside those of the truth and the reference."""

from __future__ import annotations

from dataclasses import dataclass

from sbikit.fields.moments import Floats, moments
from sbikit.pages.figures.shown_field import ShownField
from sbikit.pages.numbers import plus_minus, rounded, signed


@dataclass(frozen=True)
class MomentRow:
    """A one-point statistic: draws (mean ± scatter), truth, offset in scatters, reference."""

    name: str
    draws: str
    truth: str
    offset: str
    reference: str


_NAMES = {
    "mean": "mean",
    "sd": "standard deviation",
    "skewness": "skewness",
    "kurtosis": "excess kurtosis",
}
_ROUNDING = 1e-5  # of a pixel's sd: a mean below it is zero by construction, as far as float32 can tell


def moment_rows(shown: ShownField) -> list[MomentRow]:
    """Mean, standard deviation, skewness and excess kurtosis over the pixels."""
    axes = len(shown.field.grid)
    found = moments(shown.draws, axes=axes)
    true = None if shown.truth is None else moments(shown.truth, axes=axes)
    reference = None if shown.reference is None else moments(shown.reference, axes=axes)
    rows = []
    for key, words in _NAMES.items():
        values = getattr(found, key)
        truth = None if true is None else float(getattr(true, key))
        size = max(abs(values.mean()), values.std(ddof=1), abs(truth or 0.0))
        if key == "mean" and size < _ROUNDING * float(found.sd.mean()):
            continue
        rows.append(_row(words, values, truth, None if reference is None else getattr(reference, key)))
    return rows


def _row(name: str, values: Floats, truth: float | None, reference: Floats | None) -> MomentRow:
    centre, spread = float(values.mean()), float(values.std(ddof=1))
    return MomentRow(
        name=name,
        draws=plus_minus(centre, spread),
        truth="" if truth is None else rounded(truth, spread),
        offset="" if truth is None or spread == 0 else signed((centre - truth) / spread),
        reference="" if reference is None else _scatter(reference),
    )


def _scatter(values: Floats) -> str:
    return plus_minus(float(values.mean()), float(values.std(ddof=1)))
