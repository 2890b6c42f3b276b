"""What the options amount to, in words for a reader of a result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbikit_lognormal.chain.model import Model


def facts(model: Model) -> dict[str, str]:
    """Redshifts of the sources that are used, noise, mask, and the convention of the data."""
    sources, survey, options = model.sources, model.survey, model.options
    observed = survey.mask.numpy()
    noise = survey.noise.numpy()[:, observed].mean(-1)
    moved = ", before photo_z_shift" if options.photo_z_shift != 0.0 else ""
    told = {
        f"Mean redshift of the sources{moved}": _by_bin(sources.mean, "%.4f"),
        "Scatter of their redshifts": _by_bin(sources.width, "%.3g"),
        "Pixels": f"{60.0 * options.extent / options.size:.4g} arcmin a side",
        f"Noise of a pixel, one component of the {options.observes}": _by_bin(noise, "%.3g"),
        "Masked pixels": f"{100.0 * (1.0 - observed.mean()):.3g} %",
        "Axes of a map": "x along its last axis, y along the one before; both grow with the index",
    }
    if options.observes == "shear":
        told["Signs of the shear"] = (
            "gamma_1 > 0 stretches along x, gamma_2 > 0 along x = y: tangential around a mass"
        )
    return told


def _by_bin(values: NDArray[np.floating], form: str) -> str:
    """One figure a bin, the number of the bin before it where there are several."""
    if len(values) == 1:
        return form % values[0]
    return ", ".join(f"bin {i}: {form % value}" for i, value in enumerate(values, 1))
