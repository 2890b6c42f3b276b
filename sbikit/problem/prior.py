"""The prior: one named law a parameter, how they depend on each other, and the map to white coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.special import ndtri

from sbikit.problem.errors import SpecError
from sbikit.problem.laws import Law, Normal
from sbikit.problem.precision import check_law, round_inside
from sbikit.problem.seeds import uniforms
from sbikit.problem.variables import Vector

_FARTHEST = 38.0  # white coordinate: beyond it Phi is zero in float64
_LEAST_EIGENVALUE = 1e-8  # of correlations: below, one parameter is a sum of the others


class Prior:
    """Laws of named parameters, independent but for correlations that are given.

    Correlations are those of the marginal white coordinates (a Gaussian copula): of normal laws they are
    those of the parameters, which are then jointly normal, and of any laws what their ranks see.

    Args:
        laws: parameter -> law, in the order of the parameter vector.
        name: the name of the vector.
        latex: parameter -> LaTeX without `$`; the plain name where left out.
        units: parameter -> unit; dimensionless where left out.
        correlation: pairs of parameters -> their correlation, 0 where left out; or the matrix (D, D).

    Raises:
        SpecError: float32, in which values travel, does not resolve a law; or there are no such correlations.
    """

    def __init__(
        self,
        laws: Mapping[str, Law],
        *,
        name: str = "theta",
        latex: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        correlation: Mapping[tuple[str, str], float] | ArrayLike | None = None,
    ) -> None:
        self.laws = dict(laws)
        for label, law in self.laws.items():
            check_law(label, law)
        labels = tuple(self.laws)
        self.variable = Vector(
            name,
            labels,
            units=tuple((units or {}).get(label, "") for label in labels),
            latex=tuple((latex or {}).get(label, label) for label in labels),
        )
        self.correlation = None if correlation is None else correlation_of(labels, correlation)
        self._root = None if self.correlation is None else torch.linalg.cholesky(self.correlation)

    @staticmethod
    def normal(
        mean: Mapping[str, float],
        covariance: ArrayLike,
        *,
        name: str = "theta",
        latex: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> Prior:
        """A joint normal law.

        Args:
            mean: parameter -> mean.
            covariance: (D, D).
            name, latex, units: see `Prior`.

        Raises:
            SpecError: the matrix is not that of a covariance of so many parameters.
        """
        matrix = np.asarray(covariance, dtype=np.float64)
        if matrix.shape != (len(mean),) * 2 or not (matrix.diagonal() > 0).all():
            raise SpecError(
                "This is no covariance of these parameters.",
                where="Prior.normal",
                expected=f"a matrix ({len(mean)}, {len(mean)}) with a diagonal above 0",
                got=str(matrix.tolist()),
            )
        sd = np.sqrt(matrix.diagonal())
        laws = {label: Normal(float(m), float(s)) for (label, m), s in zip(mean.items(), sd, strict=True)}
        correlation = matrix / np.outer(sd, sd)
        return Prior(laws, name=name, latex=latex, units=units, correlation=correlation)

    @staticmethod
    def from_draws(
        draws: Mapping[str, ArrayLike],
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        name: str = "theta",
        latex: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> Prior:
        """The law of a table of draws, such as a chain: a density of each parameter, and the correlations of
        their normal scores. Of a dependence that is no Gaussian copula nothing else is kept.

        Args:
            draws: parameter -> N equally weighted draws, those of one row together.
            bounds: parameter -> lowest and highest value, where there are such.
            name, latex, units: see `Prior`.

        Raises:
            SpecError: see `sbikit.FromDraws`; or there are not as many draws of each.
        """
        from sbikit.problem.other_laws import FromDraws

        columns = {label: np.asarray(value, dtype=np.float64).ravel() for label, value in draws.items()}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise SpecError(
                "There are not as many draws of each parameter.",
                where="Prior.from_draws",
                got=", ".join(f"{label}: {len(column)}" for label, column in columns.items()),
            )
        laws: dict[str, Law] = {}
        for label, column in columns.items():
            low, high = (bounds or {}).get(label, (-math.inf, math.inf))
            laws[label] = FromDraws(column, low=low, high=high)
        ranks = np.stack([np.argsort(np.argsort(column)) for column in columns.values()])
        scores = ndtri(torch.from_numpy((ranks + 0.5) / ranks.shape[1])).numpy()
        correlation = np.atleast_2d(np.corrcoef(scores))
        return Prior(laws, name=name, latex=latex, units=units, correlation=correlation)

    @property
    def name(self) -> str:
        """Name of the parameter vector."""
        return self.variable.name

    def from_white(self, z: Tensor) -> Tensor:
        """Parameters at white coordinates z, both (..., D); the result has the dtype of z."""
        mixed = z.double() if self._root is None else z.double() @ self._root.T
        theta = self.from_marginal(mixed)
        return theta if z.dtype == torch.float64 else self.rounded(theta).to(z.dtype)

    def from_marginal(self, u: Tensor) -> Tensor:
        """Parameters at the white coordinates of each law by itself, both (..., D), float64."""
        columns = zip(self.laws.values(), u.double().unbind(-1), strict=True)
        return torch.stack([law.from_white(column) for law, column in columns], dim=-1)

    def to_marginal(self, theta: Tensor) -> Tensor:
        """The white coordinates of each law by itself, (..., D), float64; infinite outside the support."""
        columns = zip(self.laws.values(), theta.double().unbind(-1), strict=True)
        return torch.stack([law.to_white(column) for law, column in columns], dim=-1)

    def rounded(self, theta: Tensor) -> Tensor:
        """Parameters (..., D) in float32, rounded to numbers that do not lie beyond the laws' bounds."""
        columns = zip(self.laws.values(), theta.unbind(-1), strict=True)
        return torch.stack([round_inside(column, law.low, law.high) for law, column in columns], dim=-1)

    def to_white(self, theta: Tensor) -> Tensor:
        """White coordinates of parameters, both (..., D); infinite outside the support."""
        u = self.to_marginal(theta)
        return (u if self._root is None else self._unmixed(u, self._root)).to(theta.dtype)

    def _unmixed(self, u: Tensor, root: Tensor) -> Tensor:
        """Independent coordinates of marginal ones; what is infinite stays so, the others are finite."""
        finite = u.clamp(-_FARTHEST, _FARTHEST)
        z = torch.linalg.solve_triangular(root, finite.unsqueeze(-1), upper=False).squeeze(-1)
        return torch.where(u.isinf(), u, z)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log prior density, (..., D) -> (...), float64; minus infinity outside the support."""
        total = torch.zeros(theta.shape[:-1], dtype=torch.float64, device=theta.device)
        for law, given in zip(self.laws.values(), theta.unbind(-1), strict=True):
            # A bound and a value are compared in the value's precision: 0.3 in float32 is more than 0.3.
            low, high = torch.tensor([law.low, law.high], dtype=given.dtype).tolist()
            inside = (given >= low) & (given <= high)
            column = given.double().clamp(law.low, law.high)
            safe = torch.where(inside, column, law.from_white(torch.zeros_like(column)))
            total = total + torch.where(inside, law.log_density(safe), -math.inf)
        if self._root is None:
            return total
        u = self.to_marginal(theta).clamp(-_FARTHEST, _FARTHEST)
        z = self._unmixed(u, self._root)
        ratio = 0.5 * (u.square() - z.square()).sum(-1) - self._root.diagonal().log().sum()
        return torch.where(total.isinf(), total, total + ratio)

    def sample(self, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """One parameter vector a seed, `{name: (len(seeds), D)}` float32; row i depends on seed i alone."""
        u = torch.from_numpy(uniforms(seeds, len(self.laws)))
        return {self.name: self.rounded(self.from_white(ndtri(u)))}


def correlation_of(
    labels: Sequence[str], given: Mapping[tuple[str, str], float] | ArrayLike
) -> Tensor | None:
    """The matrix of correlations (D, D), float64; None where all are independent.

    Raises:
        SpecError: a pair is unknown or named twice, or there are no such correlations.
    """
    count = len(labels)
    matrix = np.eye(count)
    if isinstance(given, Mapping):
        seen: set[frozenset[str]] = set()
        for pair, value in given.items():
            both = frozenset(pair)
            if len(pair) != 2 or len(both) != 2 or not both <= set(labels) or both in seen:
                raise SpecError(
                    f"{pair!r} is no pair of parameters, or is named twice.",
                    where="Prior(correlation=...)",
                    expected="pairs of " + ", ".join(labels) + ", each once",
                    got=repr(pair),
                )
            seen.add(both)
            i, j = (labels.index(label) for label in pair)
            matrix[i, j] = matrix[j, i] = value
    else:
        matrix = np.asarray(given, dtype=np.float64)
    right = (
        matrix.shape == (count, count)
        and bool(np.isfinite(matrix).all())
        and np.allclose(matrix, matrix.T, atol=1e-10)
        and np.allclose(matrix.diagonal(), 1.0)
    )
    least = float(np.linalg.eigvalsh(matrix)[0]) if right else math.nan
    if not least > _LEAST_EIGENVALUE:
        raise SpecError(
            "There are no such correlations.",
            where="Prior(correlation=...)",
            expected=f"a symmetric, positive definite matrix ({count}, {count}) with ones on its diagonal",
            got=f"shape {matrix.shape}" if math.isnan(least) else f"a smallest eigenvalue of {least:.3g}",
        )
    return None if np.array_equal(matrix, np.eye(count)) else torch.from_numpy(np.array(matrix))
