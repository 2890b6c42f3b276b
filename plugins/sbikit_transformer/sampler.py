"""The samplers of trained denoisers: of all latents given data, and of fields given data and vectors."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Draws,
    Sampler,
    Spec,
    Trust,
    UnsupportedError,
    Values,
    check_observation,
    draw_seeds,
    normals,
)
from sbikit_transformer.conditions import Condition
from sbikit_transformer.denoiser import Denoiser, State
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.doubts import LEAST_DRAWS, judge, judge_given
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.scalar_flow import draw_scalars

# Of all draws that are solved together: fewer take more calls, and on processors more than caches hold take
# longer: a draw of the quick preset 25.0 +- 0.7 ms with 4,096, 26.7 +- 0.6 with 1,024, 36 +- 4 with 16,384.
# No draw depends on it but by rounding.
_TOKENS_AT_ONCE, _TOKENS_ON_GPU = 4096, 16384
# Pixels of a grid likewise, on processors: a draw of `paper` takes 88 ms with 7 of them at once, 113 with 15.
_PIXELS_AT_ONCE = 2**17


class TransformerSampler(Sampler):
    """Draws of all latents together, by the probability flows of trained denoisers: first the scalars given
    data, then the field given data and scalars.

    Args:
        denoiser: trained.
        options: that it was trained with.
        device: where to compute.
        precision: of products inside the field's network. The scalars' is cheap beside it, and all there is
            where posteriors of scalars alone may be a thousand times narrower than their prior.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        options: TransformerOptions,
        device: torch.device,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.spec = denoiser.spec
        self.denoiser = denoiser.to(device).eval()
        self.device = device
        self._options, self._precision = options, precision
        count = options.evaluations or int(denoiser.knots)
        self.scalar_levels = noise_levels(options.sigma_max, float(denoiser.end[0]), count)
        first, last, evaluations = denoiser.path.tolist()
        self.field_levels = noise_levels(first, last, int(evaluations))

    def in_precision(self, precision: torch.dtype) -> TransformerSampler:
        """See `sbikit.SupportsPrecision.in_precision`."""
        return TransformerSampler(self.denoiser, self._options, self.device, precision)

    def given(self, names: Collection[str]) -> FieldsGivenVectors:
        """See `sbikit.SupportsGiven.given`: the fields given all vectors."""
        vectors = {v.name for v in self.spec.vectors}
        if not self.spec.fields or set(names) != vectors:
            raise UnsupportedError(
                f"The transformer cannot draw the other latents given {', '.join(names)}.",
                where="estimator 'diffusion-transformer'",
                expected=", ".join(sorted(vectors)) + ", from which and the data it draws fields"
                if self.spec.fields
                else "a problem with a latent field, which it draws given vectors and data",
                got=", ".join(names),
            )
        return FieldsGivenVectors(self, self.spec.given(*names))

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `sbikit.Sampler.sample`; draw i of observation b depends on it and on (seeds[b], i) alone.

        Raises:
            ObservationError: the observation does not fit the simulator, or there is not one seed for each.
        """
        check_observation(observation, self.spec, seeds)
        condition = self.condition(observation)
        rows, trust = [], []
        for b, seed in enumerate(seeds):
            told = condition.rows(slice(b, b + 1))
            own = draw_seeds(int(seed), "draws", 0, n)
            u = self._scalars(told, own)
            field = self.fields(told, own, u)
            rows.append(self.denoiser.decode((field, u)))
            trust.append(self._judge(told, (field, u)))
        return _together(rows, trust, self.spec)

    def condition(self, observation: Values) -> Condition:
        """What the networks are told of observations (B, *shape)."""
        spec = self.denoiser.spec
        return self.denoiser.condition(
            {v.name: observation[v.name].to(self.device) for v in spec.observables}
        )

    def _scalars(self, told: Condition, seeds: NDArray[np.int64]) -> Tensor:
        """Draws of the scalars given the data of one observation, one a seed, (n, P)."""
        u = torch.empty(len(seeds), self.denoiser.coordinates.size, device=self.device)
        for rows in self._pieces(len(seeds), self.denoiser.network.scalars.tokens):
            noise = self._noise(seeds[rows])[:, self._pixels :]
            u[rows] = draw_scalars(self.denoiser, noise, told.repeat(len(noise)), self.scalar_levels)
        return u

    def fields(self, told: Condition, seeds: NDArray[np.int64], u: Tensor) -> Tensor:
        """Draws of the field given the data of one observation and scalars (n, P), one a seed,
        (n, C, *grid).
        """
        denoiser = self.denoiser
        shape = (denoiser.field_map.channels, *denoiser.grid)
        field = torch.zeros(len(seeds), *shape, device=self.device)
        if denoiser.guide is None:
            return field
        tokens, grid = denoiser.network.field.tokens, math.prod(denoiser.grid)
        for rows in self._pieces(len(seeds), tokens, grid):
            noise = self._noise(seeds[rows])[:, : self._pixels].unflatten(1, shape)
            each = told.repeat(len(noise))
            with denoiser.multiplying(self._precision):
                field[rows] = denoiser.draw_field(noise, u[rows], each, self.field_levels)
        return field

    @property
    def _pixels(self) -> int:
        return self.denoiser.field_map.channels * math.prod(self.denoiser.grid)

    def _noise(self, seeds: NDArray[np.int64]) -> Tensor:
        """Of each draw the noise of its field, then that of its scalars, (n, pixels + P)."""
        return normals(seeds, (self._pixels + self.denoiser.coordinates.size,), self.device)

    def _pieces(self, count: int, tokens: int, pixels: int = 1) -> Iterator[slice]:
        """So many draws of so many tokens and pixels each, as many as are solved together."""
        on_processor = self.device.type == "cpu"
        size = (_TOKENS_AT_ONCE if on_processor else _TOKENS_ON_GPU) // tokens
        if on_processor:
            size = min(size, _PIXELS_AT_ONCE // pixels)
        size = max(1, size)
        return (slice(first, first + size) for first in range(0, count, size))

    def _judge(self, told: Condition, clean: State) -> Trust:
        width = None
        if len(clean[1]) >= LEAST_DRAWS:
            ends = self.denoiser.end.tolist()
            width = min(a / b for a, b in zip(self.denoiser.narrowest(clean), ends, strict=False))
        return judge(told.alien[0].tolist(), self.denoiser.data_map.most_alien.int().tolist(), width)


class FieldsGivenVectors(Sampler):
    """Draws of the latent field given data and all latent vectors, by the field's network alone.

    Args:
        joint: the sampler of all latents.
        spec: the conditional problem, to which the vectors are observed.
    """

    def __init__(self, joint: TransformerSampler, spec: Spec) -> None:
        self.spec, self._joint = spec, joint

    def in_precision(self, precision: torch.dtype) -> FieldsGivenVectors:
        """See `sbikit.SupportsPrecision.in_precision`."""
        return FieldsGivenVectors(self._joint.in_precision(precision), self.spec)

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `sbikit.Sampler.sample`; of the same seeds as a joint draw, it takes the same noise.

        Raises:
            ObservationError: the observation does not fit the problem, or there is not one seed for each.
        """
        check_observation(observation, self.spec, seeds)
        denoiser = self._joint.denoiser
        condition = self._joint.condition(observation)
        vectors = {v.name: observation[v.name].to(self._joint.device) for v in denoiser.spec.vectors}
        scalars = denoiser.coordinates.encode(vectors)
        rows, trust = [], []
        for b, seed in enumerate(seeds):
            told, own = condition.rows(slice(b, b + 1)), draw_seeds(int(seed), "draws", 0, n)
            u = scalars[b].expand(n, -1)
            rows.append(denoiser.decode((self._joint.fields(told, own, u), u)))
            trust.append(self._judge(told, scalars[b : b + 1]))
        return _together(rows, trust, self.spec)

    def _judge(self, told: Condition, u: Tensor) -> Trust:
        denoiser = self._joint.denoiser
        surprise = float(denoiser.surprise(u, told).abs().max()) if u.shape[1] else 0.0
        return judge_given(told.alien[0].tolist(), denoiser.data_map.most_alien.int().tolist(), surprise)


def _together(rows: Sequence[Values], trust: Sequence[Trust], spec: Spec) -> Draws:
    """Draws of observations one by one, each (n, *shape), together."""
    values = {v.name: torch.stack([row[v.name] for row in rows], 1) for v in spec.latents}
    return Draws({name: value.float().cpu() for name, value in values.items()}, tuple(trust))
