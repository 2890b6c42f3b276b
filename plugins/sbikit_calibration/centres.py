"""Where distances are measured from. Uniformity of ranks holds for any centre that depends on the
observation x alone; which departures are seen depends on the centre.

Prior centres: latents of random training simulations, whatever x is. They cannot tell a posterior
from the prior.

Data centres: c = E[y | x] + residual, with the expectation from a kernel ridge regression of the latents
on features of x (its values, and the logarithms of its power in rings of modes), fitted on training
simulations, and the leave-one-out residual of a random training simulation. The regression is
    H = 1 1^T / M + K (K + lambda)^-1,   residual_i = (y - H y)_i / (1 - H_ii),
and kernel and lambda are those with the least squared residual (Allen 1974,
doi:10.1080/00401706.1974.10489157).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sbikit import Evidence, Field, Values, Variable
from sbikit.problem.seeds import derive_seed, generator
from sbikit_calibration.distance import Centres, scale

_MOST_TRAINING = 1000
_RINGS = 12
_RIDGES = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)  # log10, of the mean eigenvalue
_TARGETS = 256  # scalars of a latent on which the regression is chosen
_CHUNK = 2**21


def prior_centres(evidence: Evidence, count: int, seed: int) -> Centres:
    """`count` centres an observation, each the latents of a random training simulation."""
    M = len(evidence.training[evidence.spec.latents[0].name])
    chosen = _choose(evidence, M, count, seed)
    return lambda name, b: evidence.training[name][chosen[b]]


def data_centres(evidence: Evidence, count: int, seed: int) -> Centres:
    """`count` centres an observation, each its regression's prediction plus a random residual."""
    training = {name: tensor[:_MOST_TRAINING] for name, tensor in evidence.training.items()}
    regressions = _regressions(evidence, training, seed)
    M = len(training[evidence.spec.latents[0].name])
    chosen = _choose(evidence, M, count, seed)

    def centres(name: str, b: int) -> Tensor:
        weights = regressions[name].prediction(b) + regressions[name].residual(chosen[b])
        targets = training[name]
        return (weights.float() @ targets.flatten(1)).unflatten(-1, targets.shape[1:])

    return centres


def _choose(evidence: Evidence, M: int, count: int, seed: int) -> Tensor:
    """Indices (B, count) of training simulations."""
    B = len(evidence.truth[evidence.spec.latents[0].name])
    return torch.randint(M, (B, count), generator=generator(derive_seed(seed, "centres")))


# --- the regression -------------------------------------------------------------------------


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
        size = self.training.diagonal().mean().clamp_min(1e-30)
        return Kernel(self.training / size, self.observed / size)


@dataclass(frozen=True)
class Regression:
    """A ridge regression as weights on the M training targets, in the eigenbasis of its kernel.

    Args:
        basis: eigenvectors U of the kernel, (M, M).
        eigenvalues: e, (M,).
        observed: similarity of observations and training simulations in that basis, (B, M).
        ridge: lambda.
    """

    basis: Tensor
    eigenvalues: Tensor
    observed: Tensor
    ridge: float

    @cached_property
    def _kept(self) -> Tensor:
        return self.eigenvalues / (self.eigenvalues + self.ridge)

    @cached_property
    def _leverage(self) -> Tensor:
        """H_ii, (M,)."""
        return torch.mv(self.basis**2, self._kept) + 1.0 / len(self.basis)

    def mean_squared_residual(self, projected: Tensor, targets: Tensor) -> float:
        """Mean squared leave-one-out residual of targets y (M, dim), given U^T y too."""
        fitted = self.basis @ (self._kept.unsqueeze(-1) * projected) + targets.mean(0)
        return float((((targets - fitted) / (1.0 - self._leverage).unsqueeze(-1)) ** 2).mean())

    def prediction(self, b: int) -> Tensor:
        """Weights (M,) whose product with the targets is the prediction for observation b."""
        return self.basis @ (self.observed[b] / (self.eigenvalues + self.ridge)) + 1.0 / len(self.basis)

    def residual(self, rows: Tensor) -> Tensor:
        """Weights (len(rows), M) whose product with the targets is the leave-one-out residual of `rows`."""
        M = len(self.basis)
        hat = (self.basis[rows] * self._kept) @ self.basis.T + 1.0 / M
        identity = torch.nn.functional.one_hot(rows, M)
        return (identity - hat) / (1.0 - self._leverage[rows]).unsqueeze(-1)


def _regressions(evidence: Evidence, training: Values, seed: int) -> dict[str, Regression]:
    """The best regression of every latent."""
    best: dict[str, tuple[float, Regression]] = {}
    targets = {
        v.name: _few(training[v.name] / scale(v, training[v.name]), derive_seed(seed, v.name))
        for v in evidence.spec.latents
    }
    for kernel in _kernels(evidence, training):
        e, U = torch.linalg.eigh(kernel.training)
        e = e.clamp_min(0.0)
        observed = kernel.observed @ U
        for name, y in targets.items():
            projected = U.T @ (y - y.mean(0))
            for power in _RIDGES:
                regression = Regression(U, e, observed, float(e.mean()) * 10.0**power)
                error = regression.mean_squared_residual(projected, y)
                if name not in best or error < best[name][0]:
                    best[name] = (error, regression)
    return {name: regression for name, (_, regression) in best.items()}


def _few(targets: Tensor, seed: int) -> Tensor:
    """At most 256 of the scalars (M, dim), chosen at random, float64."""
    flat = targets.flatten(1)
    columns = torch.randperm(flat.shape[1], generator=generator(seed))[:_TARGETS]
    return flat[:, columns].double()


# --- features -------------------------------------------------------------------------------


def _kernels(evidence: Evidence, training: Values) -> list[Kernel]:
    """Candidates: values of the data, spectra of its fields, and both."""
    observables = evidence.spec.observables
    values = _total([_value_kernel(v, training, evidence.observation) for v in observables])
    fields = [v for v in observables if isinstance(v, Field) and max(v.grid) > 2]
    if not fields:
        return [values]
    spectra = _total([_spectrum_kernel(v, training, evidence.observation) for v in fields])
    return [values, spectra, values + spectra]


def _total(kernels: list[Kernel]) -> Kernel:
    """The normalised sum."""
    total = kernels[0]
    for kernel in kernels[1:]:
        total = total + kernel
    return total.normalised()


def _value_kernel(variable: Variable, training: Values, observation: Values) -> Kernel:
    s = scale(variable, training[variable.name])
    return _linear((training[variable.name] / s).flatten(1), (observation[variable.name] / s).flatten(1))


def _spectrum_kernel(field: Field, training: Values, observation: Values) -> Kernel:
    known, new = (_log_spectra(field, values[field.name]) for values in (training, observation))
    sd = known.std(0)
    sd = torch.where(sd > 0, sd, 1.0)
    return _linear(known / sd, new / sd)


def _linear(known: Tensor, new: Tensor) -> Kernel:
    """Mean product of centred features: training (M, F) and observations (B, F)."""
    M, features = known.shape
    training = torch.zeros(M, M, dtype=torch.float64)
    observed = torch.zeros(len(new), M, dtype=torch.float64)
    width = max(1, _CHUNK // M)
    for a, b in zip(known.split(width, 1), new.split(width, 1), strict=True):
        mean = a.mean(0)
        x, y = (a - mean).double(), (b - mean).double()
        training += x @ x.T / features
        observed += y @ x.T / features
    return Kernel(training, observed)


def _log_spectra(field: Field, values: Tensor) -> Tensor:
    """Log power of every channel in rings of modes, (B, C, *grid) to (B, C * rings), float64."""
    ring_of, modes = _rings(field.grid)
    axes = tuple(range(-len(field.grid), 0))
    rows = max(1, _CHUNK // values[0].numel())
    parts = []
    for chunk in values.split(rows):
        power = torch.fft.fftn(chunk.double(), dim=axes).abs().square().flatten(2)
        summed = torch.zeros(*power.shape[:2], len(modes), dtype=torch.float64)
        summed.index_add_(2, ring_of, power)
        parts.append(torch.log(summed / modes + 1e-30).flatten(1))
    return torch.cat(parts)


def _rings(grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The ring of every mode in the layout of fftn, flattened, and the modes a ring holds."""
    axes = torch.meshgrid(*[torch.fft.fftfreq(n, dtype=torch.float64) for n in grid], indexing="ij")
    k = torch.stack(axes).square().sum(0).sqrt().flatten()
    low, high = float(k[k > 0].min()) * (1 - 1e-6), float(k.max()) * (1 + 1e-6)
    edges = torch.logspace(math.log10(low), math.log10(high), _RINGS, dtype=torch.float64)
    _, ring_of = torch.unique(torch.bucketize(k, edges), return_inverse=True)
    return ring_of, torch.bincount(ring_of).double()
