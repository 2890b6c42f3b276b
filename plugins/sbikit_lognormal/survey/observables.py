"""What a survey sees of the convergence, and the maps that are made back from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.masked_kaiser_squires import MaskedKaiserSquires
from sbikit_lognormal.survey.survey import Survey
from sbikit_lognormal.survey.wiener import WienerFilter

Maps = Callable[[Tensor], Tensor]
"""From maps to maps."""


@dataclass(frozen=True)
class Observable:
    """What a survey sees.

    Args:
        name: of the variable.
        latex: its name in LaTeX.
        components: of each bin.
    """

    name: str
    latex: str
    components: int


OBSERVABLES = {
    "shear": Observable("shear", r"\gamma", 2),
    "convergence": Observable("kappa_obs", r"\kappa_{\rm obs}", 1),
}
"""By the option `observes`."""

SUMMARIES = {"kappa_ks": r"\kappa^{\rm KS}", "kappa_wiener": r"\kappa^{\rm W}"}
"""Names of the maps made back from shear, with their LaTeX."""


def signal(observable: Observable, lensing: KaiserSquires) -> Maps:
    """Data without noise (..., bins, components, M, M) of convergence (..., bins, M, M) on the box."""
    return lensing.shear if observable.components == 2 else partial(torch.unsqueeze, dim=-3)


def inversions(survey: Survey, lensing: KaiserSquires, power: Tensor | None) -> dict[str, Maps]:
    """What makes maps (..., bins, N, N) of shear (..., bins, 2, N, N), by the name of the summary.

    Args:
        survey: its mask and noise.
        lensing: of the periodic box.
        power: of the maps on the box, as `WienerFilter` takes it; None: no Wiener map.
    """
    made: dict[str, Maps] = {"kappa_ks": MaskedKaiserSquires(lensing, survey.mask).convergence}
    if power is not None:
        made["kappa_wiener"] = WienerFilter(lensing, power, survey.weight).convergence
    return made
