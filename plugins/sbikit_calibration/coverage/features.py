"""Features of the data, as kernels: its values, and the logarithms of its fields' power in rings of modes."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sbikit import Evidence, Field, Values, Variable
from sbikit.fields import Rings, tapered, wave_numbers
from sbikit_calibration.coverage.distance import TINY, scale

# Rings of equal width in log |k|: on maps of 16^2 pixels 4 to 48 of them predict two parameters equally well
# (squared error .196 to .205). Fewer see less of the spectrum, more are noisier.
_RINGS = 11
_EDGE = 1e-6  # relative, by which the outer edges clear the outermost modes: more than rounding
_NO_POWER = 1e-30  # added, so that the logarithm of no power is finite
_CHUNK = 2**21  # numbers in flight, 16 MiB: fewer take more passes, more take memory


@dataclass(frozen=True)
class Kernel:
    """Similarity of observations, features centred on the training mean.

    Args:
        training: (M, M), float64.
        observed: (B, M), float64.
    """

    training: Tensor
    observed: Tensor

    def __add__(self, other: Kernel) -> Kernel:
        return Kernel(self.training + other.training, self.observed + other.observed)

    def normalised(self) -> Kernel:
        """The same with a mean diagonal of 1."""
        size = self.training.diagonal().mean().clamp_min(TINY)
        return Kernel(self.training / size, self.observed / size)


def kernels(evidence: Evidence, training: Values) -> list[Kernel]:
    """Candidates: values of the data, spectra of its fields, and both."""
    observables = evidence.spec.observables
    values = _total([_value_kernel(v, training, evidence.observation) for v in observables])
    # Two pixels an axis have at most one mode along it beside the mean: no spectrum beyond the values. Nor is
    # there one of a field that is not stationary.
    fields = [v for v in observables if isinstance(v, Field) and v.stationary and max(v.grid) > 2]
    if not fields:
        return [values]
    spectra = _total([_spectrum_kernel(v, training, evidence.observation) for v in fields])
    return [values, spectra, values + spectra]


def _total(parts: list[Kernel]) -> Kernel:
    """The normalised sum."""
    return reduce(operator.add, parts).normalised()


def _value_kernel(variable: Variable, training: Values, observation: Values) -> Kernel:
    known, new = training[variable.name], observation[variable.name]
    unit = scale(variable, known).expand(known.shape[1:]).flatten()
    return _linear(known.flatten(1), new.flatten(1), unit)


def _spectrum_kernel(field: Field, training: Values, observation: Values) -> Kernel:
    known, new = (_log_spectra(field, values[field.name]) for values in (training, observation))
    sd = known.std(0)
    sd = torch.where(sd > 0, sd, 1.0)
    return _linear(known, new, sd)


def _linear(known: Tensor, new: Tensor, unit: Tensor) -> Kernel:
    """Mean product of centred features in units (F,): training (M, F) and observations (B, F)."""
    M, features = known.shape
    training = torch.zeros(M, M, dtype=torch.float64)
    observed = torch.zeros(len(new), M, dtype=torch.float64)
    width = max(1, _CHUNK // M)
    for of_known, of_new, units in zip(
        known.split(width, 1), new.split(width, 1), unit.split(width), strict=True
    ):
        a, b = of_known / units, of_new / units
        mean = a.mean(0)
        x, y = (a - mean).double(), (b - mean).double()
        training += x @ x.T / features
        observed += y @ x.T / features
    return Kernel(training, observed)


def _log_spectra(field: Field, values: Tensor) -> Tensor:
    """Log power of every channel in rings of modes, (B, C, *grid) to (B, C * rings), float64; tapered where
    the grid does not close on itself.
    """
    rings = _rings(field.grid)
    rows = max(1, _CHUNK // values[0].numel())
    parts = []
    for chunk in values.split(rows):
        maps = chunk.double()
        modes = rings.transform(maps if field.periodic else tapered(maps, len(field.grid)))
        parts.append(torch.log(rings.power(modes, modes) / rings.count + _NO_POWER).flatten(1))
    return torch.cat(parts)


def _rings(grid: tuple[int, ...]) -> Rings:
    """Mode zero alone, then rings of equal width in log |k|, which is counted in radians a pixel."""
    pixels = tuple(float(n) for n in grid)
    k = wave_numbers(grid, pixels)
    low, high = float(k[k > 0].min()) * (1 - _EDGE), float(k.max()) * (1 + _EDGE)
    edges = torch.logspace(math.log10(low), math.log10(high), _RINGS + 1, dtype=torch.float64)
    return Rings.between(grid, pixels, [0.0, *edges.tolist()])
