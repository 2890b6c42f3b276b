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
    scalars = [one for v in evidence.spec.vectors for one in _scalars(evidence, v)]
    distances = [_distance(evidence, v) for v in evidence.spec.vectors if len(v.labels) > 1]
    statistics = [one for field in evidence.spec.fields for one in _statistics(evidence, field)]
    return [*scalars, *distances, *statistics, *_dependence(scalars, statistics)]


def _scalars(evidence: Evidence, vector: Vector) -> Iterator[Quantity]:
    members = _members(evidence, vector.name)
    for i, label in enumerate(vector.labels):
        yield Quantity("", f"{vector.name}.{label}", "parameters", members[..., i])


def _statistics(evidence: Evidence, field: Field) -> Iterator[Quantity]:
    of = MapStatistics(field)
    for channel in range(field.channels):
        truth = evidence.truth[field.name][:, channel].numpy()
        draws = evidence.draws[field.name][:, :, channel].numpy()
        members = (np.concatenate([truth[b : b + 1], draws[:, b]]) for b in range(len(truth)))
        found = np.stack([np.concatenate([of(maps), _distances(maps)], 1) for maps in members])
        variable = field.name if field.channels == 1 else f"{field.name}.{channel + 1}"
        for i, name in enumerate((*of.names, DISTANCE)):
            yield Quantity(name, variable, "fields", found[..., i])


def _distances(maps: NDArray[np.floating]) -> Floats:
    """Mean squared deviation of maps (n + 1, *grid) from their mean, in pixel variances, (n + 1, 1)."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    square = (flat - flat.mean(0)) ** 2
    variance = square.mean(0)
    return np.asarray((square / np.where(variance > 0, variance, 1.0)).mean(1, keepdims=True))


def _distance(evidence: Evidence, vector: Vector) -> Quantity:
    """Squared distance from the members' mean in the metric of their covariance (Mahalanobis)."""
    y = _centred(_members(evidence, vector.name))
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


def _members(evidence: Evidence, name: str) -> Floats:
    """Truth and draws of a latent side by side, (B, n + 1, *shape)."""
    truth, draws = evidence.truth[name].double(), evidence.draws[name].double()
    return np.concatenate([truth.numpy()[:, None], np.moveaxis(draws.numpy(), 0, 1)], 1)
