"""Errors of a denoiser by noise level, as a fit that looks at its networks logs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sbikit.pages.figures.cells import cells
from sbikit.pages.figures.noise_levels import LevelCurve, noise_level_plot
from sbikit.pages.names import math_labels
from sbikit.pages.numbers import plural
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.run_files import RunFiles
from sbikit.problem.spec import Spec

_OF_SCALAR = ("squared_error", "implied_variance")
_OF_PIXEL = ("pixel_squared_error", "guide_squared_error")
_MOST_SCALARS = 8  # panels; of more parameters the first ones are shown, and all are counted
_FAR = 3.0  # standard errors by which an error and what is implied differ, where that is said


@dataclass(frozen=True)
class NoiseLevels:
    """The last look at the denoiser, in words and as a figure."""

    picture: Picture
    words: str


def noise_levels(files: RunFiles) -> NoiseLevels | None:
    """What the last look found; None where no fit has looked."""
    last = _last_look(files.training)
    scalars = _curves(last, _OF_SCALAR, "implied by its gain")
    spec = files.posterior.spec
    cell = cells(*spec.fields).removesuffix("s")
    pixels = _curves(last, _OF_PIXEL, "of the Gaussian guide", f"a {cell}")
    curves = [*list(scalars.values())[:_MOST_SCALARS], *pixels.values()]
    if not curves:
        return None
    labels = _labels(spec)
    shown = [replace(curve, title=labels.get(curve.title, curve.title)) for curve in curves]
    return NoiseLevels(_picture(shown, cell), _words(list(scalars.values()), int(last[0]["step"])))


def _last_look(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = [one for one in records if "step" in one and (_holds(one, _OF_SCALAR) or _holds(one, _OF_PIXEL))]
    return [one for one in found if one["step"] == found[-1]["step"]]


def _holds(record: Mapping[str, Any], names: tuple[str, str]) -> bool:
    return all(isinstance(record.get(key), int | float) for key in _keys(names))


def _keys(names: tuple[str, str]) -> list[str]:
    return ["sigma", *(f"{name}{end}" for name in names for end in ("", "_se"))]


def _curves(
    records: Sequence[Mapping[str, Any]], names: tuple[str, str], beside: str, unnamed: str = ""
) -> dict[str, LevelCurve]:
    """By the scalar's name, or that of records without one."""
    rows: dict[str, list[list[float]]] = {}
    for one in records:
        if _holds(one, names):
            row = [float(one[key]) for key in _keys(names)]
            rows.setdefault(str(one.get("scalar", unnamed)), []).append(row)
    curves = {}
    for name, found in rows.items():
        sigma, error, error_se, held, held_se = np.array(sorted(found)).T
        curves[name] = LevelCurve(name, sigma, error, error_se, held, held_se, beside)
    return curves


def _labels(spec: Spec) -> dict[str, str]:
    """Names of the scalars as matplotlib sets them."""
    names = [label for vector in spec.vectors for label in vector.labels]
    return dict(zip(names, math_labels(spec.vectors), strict=True))


def _words(scalars: Sequence[LevelCurve], step: int) -> str:
    """How many errors are far from what the denoiser implies."""
    if not scalars:
        return ""
    far = [np.abs(one.error - one.beside) > _FAR * np.hypot(one.error_se, one.beside_se) for one in scalars]
    count, total = sum(int(one.sum()) for one in far), sum(len(one) for one in far)
    errors = plural(total, "squared error")
    return (
        f"After step {step:,}, on simulations that never trained, {count} of {errors} of denoised parameters "
        f"differed by more than {_FAR:g} standard errors from the variance that the denoiser implies."
    )


def _picture(curves: Sequence[LevelCurve], cell: str) -> Picture:
    return make_picture(
        "noise_levels",
        "Errors of the denoiser by noise level",
        "Squared errors of denoised parameters, beside the variance that the denoiser's own gain implies, "
        f"and of a {cell} given true parameters, beside the guide's; all as shares of what noise alone would "
        "leave of the prior. Bars are standard errors.",
        "the two curves of a parameter on each other. An error above what is implied means draws that are "
        "too narrow or displaced, one below it draws that are too wide.",
        lambda layout: noise_level_plot(curves, layout),
    )
