"""What is compared, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from sbikit import Field, Spec
from sbikit_calibration.agreement.coherence import REGRESSION
from sbikit_calibration.agreement.maps import summary_names
from sbikit_calibration.agreement.power import PowerBins

_WORDS = {
    "log_variance": "the map's log variance",
    "power_low": "its log power on large scales",
    "power_mid": "its log power on intermediate scales",
    "power_high": "its log power on small scales",
    "minimum": "its minimum",
    "maximum": "its maximum",
    "peaks": "its number of peaks",
    REGRESSION: "the best combination of the map's summaries",
}


@dataclass(frozen=True)
class Channel:
    """One channel of a field; `variable` is its name in the report."""

    variable: str
    field: Field
    index: int
    bins: PowerBins


class ComparedVariables:
    """Names of all that is compared.

    Attributes:
        scalars: "theta.slope" for every scalar of every vector, D in all.
        channels: "field", or "field.1", "field.2" where the field has several.
    """

    def __init__(self, spec: Spec) -> None:
        self.vectors = spec.vectors
        self.scalars = tuple(f"{v.name}.{label}" for v in spec.vectors for label in v.labels)
        self.channels = tuple(_channels(spec.fields))

    @property
    def coherent(self) -> bool:
        """Whether there are both parameters and maps."""
        return bool(self.scalars and self.channels)

    @cached_property
    def summaries(self) -> tuple[tuple[str, str], ...]:
        """Name and words of every summary; the name ends in the channel's where there are several."""
        several = len(self.channels) > 1
        return tuple(
            (f"{name}_{c.variable}", f"{_WORDS[name]} ({c.variable})") if several else (name, _WORDS[name])
            for c in self.channels
            for name in (*summary_names(c.bins), REGRESSION)
        )


def _channels(fields: tuple[Field, ...]) -> Iterator[Channel]:
    for field in fields:
        bins = PowerBins(field)
        for index in range(field.channels):
            name = field.name if field.channels == 1 else f"{field.name}.{index + 1}"
            yield Channel(name, field, index, bins)
