"""What is ranked: numbers that an exact posterior gives truth and draws alike.

Of every observation there are n + 1 members, the truth and n draws, and under an exact posterior the truth
may be any of them. So the rank of any function of a member is uniform (Talts et al., arXiv:1804.06788), also
of one that depends on the data or on the members as a set (Modrak et al., arXiv:2211.02383):

    parameters  every scalar of every vector, and the distance of each vector from the members' mean
    fields      statistics of every channel (`maps`), and the distance of each map from the members' mean
    dependence  products (a - mean a)(b - mean b) over the members, of two scalars, and of a scalar and a
                statistic of a map: how they hang together, which marginals do not show
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sbikit import Evidence, Field, Vector
from sbikit_calibration.ranks.maps import MapStatistics

Floats = NDArray[np.float64]
Family = Literal["parameters", "fields", "dependence"]

DISTANCE = "distance"
# Statistics of a map whose dependence on the parameters is ranked: amplitude, shape and lower end, on which
# parameters act; each further one makes all verdicts a little blunter.
_PAIRED = ("log_variance", "skewness", "minimum")
_FEWEST_A_SCALAR = 4  # members a scalar: of fewer the covariance says little, and scalars count alike instead
_MOST_PRODUCTS = 120  # of two scalars, those of 16; of more scalars than that no dependence is ranked


@dataclass(frozen=True, eq=False)
class Quantity:
    """One number of every member.

    Args:
        name: of the statistic, "" for a parameter itself.
        variable: what it is about, as a metric names it.
        family: what kind it is.
        members: truth (entry 0) and draws, (B, n + 1).
    """

    name: str
    variable: str
    family: Family
    members: Floats


def quantities(evidence: Evidence) -> list[Quantity]:
    """All that is ranked: parameters, statistics of fields, their dependence."""
    vectors, maps = _members(evidence)
    scalars = [one for v in evidence.spec.vectors for one in _scalars(v, vectors[v.name])]
    distances = [_distance(v, vectors[v.name]) for v in evidence.spec.vectors if len(v.labels) > 1]
    statistics = [one for field in evidence.spec.fields for one in _statistics(field, maps[field.name])]
    return [*scalars, *distances, *statistics, *_dependence(scalars, statistics)]


def _members(evidence: Evidence) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Truth (entry 0) and draws of every vector, (B, n + 1, D), and statistics of every field's, their
    distance the last, (B, channels, n + 1, S). Draws are gone through once.
    """
    of = {field.name: MapStatistics(field) for field in evidence.spec.fields}
    vectors: dict[str, list[Floats]] = {v.name: [] for v in evidence.spec.vectors}
    maps: dict[str, list[Floats]] = {name: [] for name in of}
    for block in evidence.blocks():
        for name, found in vectors.items():
            truth, draws = block.truth[name].double(), block.draws[name].double()
            found.append(np.concatenate([truth.numpy()[:, None], np.moveaxis(draws.numpy(), 0, 1)], 1))
        for name, rows in maps.items():
            truth, draws = block.truth[name], block.draws[name]
            for i in range(len(truth)):
                members = np.concatenate([truth[i : i + 1].numpy(), draws[:, i].numpy()])
                rows.append(_of_channels(members, of[name]))
    return {k: np.concatenate(v) for k, v in vectors.items()}, {k: np.stack(v) for k, v in maps.items()}


def _of_channels(members: NDArray[np.floating], of: MapStatistics) -> Floats:
    """Statistics of members (n + 1, C, *grid) of one observation, (C, n + 1, S)."""
    channels = (np.ascontiguousarray(members[:, c]) for c in range(members.shape[1]))
    return np.stack([np.concatenate([of(maps), _distances(maps)], 1) for maps in channels])


def _scalars(vector: Vector, members: Floats) -> Iterator[Quantity]:
    for i, label in enumerate(vector.labels):
        yield Quantity("", f"{vector.name}.{label}", "parameters", members[..., i])


def _statistics(field: Field, found: Floats) -> Iterator[Quantity]:
    names = (*MapStatistics(field).names, DISTANCE)
    for channel in range(field.channels):
        variable = field.name if field.channels == 1 else f"{field.name}.{channel + 1}"
        for i, name in enumerate(names):
            yield Quantity(name, variable, "fields", found[:, channel, :, i])


def _distances(maps: NDArray[np.floating]) -> Floats:
    """Mean squared deviation of maps (n + 1, *grid) from their mean, in pixel variances, (n + 1, 1)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    square = (flat - flat.mean(0)) ** 2
    variance = square.mean(0)
    return np.asarray((square / np.where(variance > 0, variance, 1.0)).mean(1, keepdims=True))


def _distance(vector: Vector, members: Floats) -> Quantity:
    """Squared distance from the members' mean in the metric of their covariance (Mahalanobis)."""
    y = _centred(members)
    sd = y.std(1, keepdims=True)
    z = y / np.where(sd > 0, sd, 1.0)
    if z.shape[1] < _FEWEST_A_SCALAR * z.shape[2]:
        values = (z**2).sum(-1)
    else:
        precision = np.linalg.pinv(np.einsum("bni,bnj->bij", z, z) / z.shape[1], hermitian=True)
        values = np.einsum("bni,bij,bnj->bn", z, precision, z)
    return Quantity(DISTANCE, vector.name, "parameters", values)


def _dependence(scalars: Sequence[Quantity], statistics: Sequence[Quantity]) -> Iterator[Quantity]:
    paired = [one for one in statistics if one.name in _PAIRED]
    pairs = list(itertools.combinations(scalars, 2))
    if len(pairs) <= _MOST_PRODUCTS:
        for a, b in pairs:
            yield _product(a, b, f"dependence_on_{_label(b, beside=a)}")
    if len(scalars) * len(paired) <= _MOST_PRODUCTS:
        for a, b in itertools.product(scalars, paired):
            yield _product(a, b, f"dependence_on_{b.name}_of_{b.variable}")


def _product(a: Quantity, b: Quantity, name: str) -> Quantity:
    return Quantity(name, a.variable, "dependence", _centred(a.members) * _centred(b.members))


def _label(scalar: Quantity, *, beside: Quantity) -> str:
    """A scalar's label, after its vector's name where that of the scalar beside it is another."""
    vector, _, label = scalar.variable.partition(".")
    return label if beside.variable.partition(".")[0] == vector else scalar.variable


def _centred(members: Floats) -> Floats:
    return members - members.mean(1, keepdims=True)
