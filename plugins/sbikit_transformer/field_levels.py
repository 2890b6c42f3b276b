"""Noise levels at which a field is denoised on the way to a draw: as few as draw like many would."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sbikit import Monitor, Values
from sbikit.fields import Rings, moments
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import noise_levels

# First levels: above them what the denoiser adds to the guide is taken to be what it is there. Modes that
# noise of 12 does not hide, of steep spectra, need a higher one: the mean of 128 x 128 pixels, of .3 of their
# standard deviation, is as large as noise of 38. Where the guide knows those, low ones are best, since what
# it does not know, that maps are not Gaussian, is decided at noise of about one.
FIRSTS = (5.0, 8.0, 12.0, 20.0, 36.0, 75.0, 150.0)
# The first level where it is not chosen, of fields up to 32 x 32 pixels: 4 times what hides such a mean.
_USUAL, _PIXELS = 36.0, 32**2
# Last level, in units of that below which data tell nothing more, and where nothing is narrow: about two
# thirds of the narrowest posterior's width. From a higher one the line to no noise at all is a worse guess.
_LAST, _USUAL_LAST = 3.0, 0.15
# Last levels that are tried besides: pixels that are masked vary most where noise is as large as what is left
# of them, so that fewer levels are enough of those that end higher; and so do maps whose peaks stand out.
_LASTS = (0.4, 0.25, _USUAL_LAST)
# How many levels are tried.
_COUNTS = (3, 4, 5, 6, 8, 11, 16, 24)
# Levels that stand for as many as one likes, and from where.
_MANY_STEP, _MANY_FIRST = 0.25, 150.0
# What a few levels may change, of each channel: a standard deviation, that of pixels where data are missing
# and of the others each by itself, since one may be too small where the other is too large, and a mean in
# units of the standard deviation (rms).
_OF_SD, _OF_PART, _OF_MEAN = 0.005, 0.01, 0.02
# The power of maps, and of what draws of one observation differ by, in each of a few bands of wave numbers:
# what is too little in one may be too much in another.
_OF_POWER, _BANDS = 0.01, 3
# And of its maps as a whole log variance, skewness, minimum and maximum, in standard deviations of the draws,
# on average and of each (rms): a mean rank of .5 of the truth among draws then is one of .47 to .53, and what
# goes with what else differs between draws, as their parameters, still does.
_OF_LOOK, _OF_EACH_LOOK = 0.1, 0.15
# Observations and draws of each by which levels are chosen, from the same noise with few and many: standard
# deviations then agree within their errors of .001 to .002.
OBSERVATIONS, _DRAWS = 8, 8
# Levels that are so many times too bad for the first few observations are not tried on the others.
_GLANCE, _HOPELESS = 2, 2.0
_TINY = torch.finfo(torch.float64).tiny
_ROUNDING = 1e-5


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
        exact = judged.drawn(many, judged.every)
        advance(1)
        for i, alike in enumerate(tried):
            errors = []
            for levels in alike:
                errors.append(judged.error(levels, exact))
                advance(1)
            best = min(range(len(alike)), key=errors.__getitem__)
            if errors[best] <= 1.0:
                advance(sum(map(len, tried[i + 1 :])))
                return alike[best]
    monitor.say(
        f"diffusion-transformer: {_COUNTS[-1]} noise levels of a field are not enough for draws within "
        f"{100 * _OF_SD:g} % of their spread and {_OF_LOOK:g} standard deviations of how maps look; "
        "`evaluations` asks for more"
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
        self.every = range(len(field))
        grid = denoiser.grid
        self._bands = Rings.logarithmic(grid, tuple(map(float, grid)), _BANDS).to(field.device)
        self._vary = denoiser.field_map.vary()
        # Pixels, and what the standard deviation of all of them may be off.
        self._parts = [(torch.ones_like(self._vary[0]), _OF_SD)]
        for share in denoiser.places:
            self._parts += [(share > 0.0, _OF_PART), (share == 0.0, _OF_PART)]

    @torch.no_grad()
    def drawn(self, levels: Sequence[float], rows: range) -> Tensor:
        """Of observations, (len(rows), _DRAWS, C, *grid)."""
        return torch.stack([self._drawn(levels, row) for row in rows])

    def _drawn(self, levels: Sequence[float], row: int) -> Tensor:
        told = self._told.rows(slice(row, row + 1)).repeat(_DRAWS)
        scalars = self._u[row : row + 1].repeat(_DRAWS, 1)
        return self._denoiser.draw_field(self._noise[row], scalars, told, levels)

    def error(self, levels: Sequence[float], exact: Tensor) -> float:
        """How far draws of the channel that is worst are off those of many levels, in units of what few
        levels may change; of levels that are hopeless, as the first observations have it.
        """
        first, others = self.every[:_GLANCE], self.every[_GLANCE:]
        found = self.drawn(levels, first)
        error = self._error(found, exact[:_GLANCE])
        if error > _HOPELESS or not others:
            return error
        return self._error(torch.cat([found, self.drawn(levels, others)]), exact)

    def _error(self, found: Tensor, exact: Tensor) -> float:
        if not found.isfinite().all():
            return math.inf
        errors = [0.0]
        for channel, vary in enumerate(self._vary):
            if vary.any():
                few, many = (x[:, :, channel].double() for x in (found, exact))
                errors += self._of_pixels(few, many, vary)
                errors += self._of_power(few, many)
                errors += self._of_power(*(x - x.mean(1, keepdim=True) for x in (few, many)))
                errors += self._of_looks(*(self._looks(x, channel) for x in (found, exact)))
        return max(errors)

    def _of_pixels(self, few: Tensor, many: Tensor, vary: Tensor) -> list[float]:
        """Means and spreads of the pixels (B, _DRAWS, *grid) that vary."""
        shift = ((few - many).mean(1) / many.std(1).clamp_min(_TINY))[:, vary].square().mean(1).sqrt()
        errors = [float(shift.mean()) / _OF_MEAN]
        for pixels, most in self._parts:
            if (some := vary & pixels).any():
                a, b = (x.var(1)[:, some].mean(1).sqrt().mean() for x in (few, many))
                errors.append(float((a / b - 1.0).abs()) / most)
        return errors

    def _of_power(self, few: Tensor, many: Tensor) -> list[float]:
        """Power of all maps (B, _DRAWS, *grid) together, in each band."""
        modes = (self._bands.transform(x) for x in (few, many))
        a, b = (self._bands.power(x, x).sum((0, 1)) for x in modes)
        errors: list[float] = ((a - b).abs() / (b + _ROUNDING * b.sum() + _TINY) / _OF_POWER).tolist()
        return errors

    def _of_looks(self, few: Tensor, many: Tensor) -> list[float]:
        """What is told of each map, (looks, B, _DRAWS)."""
        spread = many.var(2).mean(1).sqrt()
        # What is the same of all draws, as an edge of their support is, differs by rounding.
        differs = spread > _ROUNDING * many.abs().amax((1, 2))
        off = (few - many)[differs] / spread[differs][:, None, None]
        mean, each = off.mean((1, 2)).abs(), off.square().mean((1, 2)).sqrt()
        return [*(mean / _OF_LOOK).tolist(), *(each / _OF_EACH_LOOK).tolist()]

    def _looks(self, drawn: Tensor, channel: int) -> Tensor:
        """Of maps of a channel, in its own unit, log variance, skewness, minimum and maximum over the pixels
        that vary, (4, B, _DRAWS).
        """
        scalars = self._u[: len(drawn), None].expand(-1, _DRAWS, -1)
        decoded = self._denoiser.decode((drawn.flatten(0, 1), scalars.flatten(0, 1)))
        fields = self._denoiser.field_map.fields
        maps = torch.cat([decoded[field.name] for field in fields], -1 - len(self._denoiser.grid))
        pixels = maps[:, channel, self._vary[channel]].double().cpu()
        found = moments(pixels, axes=1)
        log_variance = 2.0 * np.log(np.maximum(found.sd, np.sqrt(_TINY)))
        extremes = pixels.aminmax(dim=1)
        looks = [log_variance, found.skewness, extremes.min.numpy(), extremes.max.numpy()]
        return torch.from_numpy(np.stack(looks)).unflatten(1, (-1, _DRAWS))
