"""Noise levels at which a field is denoised on the way to a draw: as few as draw like many would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sbikit import Monitor, Values
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import noise_levels

# First levels: above them what the denoiser adds to the guide is taken to be what it is there. Modes that
# noise of 12 does not hide, of steep spectra, need a higher one: the mean of 128 x 128 pixels, of .3 of their
# standard deviation, is as large as noise of 38.
FIRSTS = (12.0, 20.0, 36.0, 75.0, 150.0)
# The first level where it is not chosen, of fields up to 32 x 32 pixels: 4 times what hides such a mean.
_USUAL, _PIXELS = 36.0, 32**2
# Last level, in units of that below which data tell nothing more, and where nothing is narrow: about two
# thirds of the narrowest posterior's width. From a higher one the line to no noise at all is a worse guess.
_LAST, _USUAL_LAST = 3.0, 0.15
# Last levels that are tried besides: pixels that are masked vary most where noise is as large as what is left
# of them, so that fewer levels are enough of those that end higher.
_LASTS = (0.25, _USUAL_LAST)
# How many levels are tried.
_COUNTS = (3, 4, 5, 6, 8, 11, 16, 24)
# Levels that stand for as many as one likes, and from where.
_MANY_STEP, _MANY_FIRST = 0.25, 150.0
# What a few levels may change, of each channel: a standard deviation, that of pixels where data are missing
# and of the others each by itself, since one may be too small where the other is too large, and a mean in
# units of the standard deviation (rms).
_OF_SD, _OF_PART, _OF_MEAN = 0.005, 0.01, 0.02
# Observations and draws of each by which levels are chosen, from the same noise with few and many: standard
# deviations then agree within their errors of .001 to .002.
OBSERVATIONS, _DRAWS = 8, 8
_TINY = torch.finfo(torch.float64).tiny


def enough_levels(
    denoiser: Denoiser,
    simulations: Values,
    source: torch.Generator,
    monitor: Monitor,
    *,
    firsts: Sequence[float] = FIRSTS,
    last: float | None = None,
) -> list[float]:
    """The fewest levels, of those tried, that draw fields as many do, and of so few the best.

    Args:
        denoiser: trained, with its `end`.
        simulations: of all variables, each (M, *shape), on its device, all of which are drawn for.
        source: of the noise.
        monitor: is told how far it is, and where none of those tried are enough.
        firsts: first levels to try.
        last: the last one, where it is fixed.
    """
    end = float(denoiser.end[1]) if last is None else last
    judged = _Judged(denoiser, simulations, source)
    many = noise_levels(_MANY_FIRST, end, 1 + math.ceil(math.log(_MANY_FIRST / end) / _MANY_STEP))
    tried = levels_tried(firsts, end, fixed=last is not None)
    with monitor.progress("choosing noise levels", 1 + sum(map(len, tried))) as advance:
        exact = judged.drawn(many)
        advance(1)
        for i, alike in enumerate(tried):
            errors = []
            for levels in alike:
                errors.append(judged.error(judged.drawn(levels), exact))
                advance(1)
            best = min(range(len(alike)), key=errors.__getitem__)
            if errors[best] <= 1.0:
                advance(sum(map(len, tried[i + 1 :])))
                return alike[best]
    monitor.say(
        f"diffusion-transformer: {_COUNTS[-1]} noise levels of a field are not enough for draws within "
        f"{100 * _OF_SD:g} % of their spread; `evaluations` asks for more"
    )
    return alike[best]


def levels_tried(firsts: Sequence[float], end: float, *, fixed: bool = False) -> list[list[list[float]]]:
    """Levels that may be enough: of each count, the least first, those that are tried.

    Args:
        firsts: first levels.
        end: below which data tell nothing more.
        fixed: whether levels go there.
    """
    lasts = (end,) if fixed else sorted({*_LASTS, last_level(end)}, reverse=True)
    return [[noise_levels(f, last, count) for f in firsts for last in lasts] for count in _COUNTS]


def first_level(pixels: int) -> float:
    """A first level that is high enough, where it is not chosen, for so many pixels.

    Noise hides the mean of n pixels where it is some times sqrt(n) as large as that.
    """
    return _USUAL * math.sqrt(max(1.0, pixels / _PIXELS))


def last_level(end: float) -> float:
    """The last level, where data tell nothing more below `end`."""
    return min(_USUAL_LAST, _LAST * end)


class _Judged:
    """Draws of a few observations from the same noise, at their true scalars, which are draws as well."""

    def __init__(self, denoiser: Denoiser, simulations: Values, source: torch.Generator) -> None:
        self._denoiser = denoiser
        field, self._u = denoiser.encode(simulations)
        self._told = denoiser.condition(simulations)
        shape = (len(field), _DRAWS, *field.shape[1:])
        self._noise = torch.randn(shape, generator=source).to(field.device)
        self._vary = denoiser.field_map.vary()
        # Pixels, and what the standard deviation of all of them may be off.
        self._parts = [(torch.ones_like(self._vary[0]), _OF_SD)]
        for share in denoiser.places:
            self._parts += [(share > 0.0, _OF_PART), (share == 0.0, _OF_PART)]

    @torch.no_grad()
    def drawn(self, levels: Sequence[float]) -> Tensor:
        """(B, _DRAWS, C, *grid)."""
        return torch.stack(list(self._each(levels)))

    def _each(self, levels: Sequence[float]) -> Iterator[Tensor]:
        for b, noise in enumerate(self._noise):
            told = self._told.rows(slice(b, b + 1)).repeat(_DRAWS)
            yield self._denoiser.draw_field(noise, self._u[b : b + 1].repeat(_DRAWS, 1), told, levels)

    def error(self, found: Tensor, exact: Tensor) -> float:
        """How far draws of the channel that is worst are off, in units of what few levels may change."""
        errors = [0.0]
        for channel, vary in enumerate(self._vary):
            if not vary.any():
                continue
            a, b = (x[:, :, channel].double() for x in (found, exact))
            shift = ((a - b).mean(1) / b.std(1).clamp_min(_TINY))[:, vary].square().mean(1).sqrt()
            errors.append(float(shift.mean()) / _OF_MEAN)
            for pixels, most in self._parts:
                if not (some := vary & pixels).any():
                    continue
                few, many = (x.var(1)[:, some].mean(1).sqrt().mean() for x in (a, b))
                errors.append(float((few / many - 1.0).abs()) / most)
        # Draws that are not finite are as far off as can be.
        return max(error if math.isfinite(error) else math.inf for error in errors)
