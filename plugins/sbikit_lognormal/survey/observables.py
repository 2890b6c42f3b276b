"""What a survey sees of the convergence, and the maps that are made back from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.masked_kaiser_squires import MaskedKaiserSquires
from sbikit_lognormal.survey.quadratics import Quadratics
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


class Summaries:
    """What is made back of shear, by name.

    Args:
        kaiser_squires: makes the first map.
        by_weight: weights shear by the inverse of its covariance; None: there is no more than that map.
        quadratics: the quadratic forms that are wanted.
        wiener: whether the Wiener map is.
    """

    def __init__(
        self,
        kaiser_squires: MaskedKaiserSquires,
        by_weight: WienerFilter | None,
        quadratics: Quadratics | None,
        *,
        wiener: bool,
    ) -> None:
        self._kaiser_squires, self._by_weight = kaiser_squires, by_weight
        self._quadratics, self._wiener = quadratics, wiener

    def __call__(self, shear: Tensor) -> dict[str, Tensor]:
        """Of shear (B, bins, 2, N, N) maps (B, bins, N, N), and forms (B, R)."""
        made = {"kappa_ks": self._kaiser_squires.convergence(shear)}
        if self._by_weight is None:
            return made
        if self._quadratics is None:
            return made | {"kappa_wiener": self._by_weight.convergence(shear)}
        wiener, weighted = self._by_weight.with_weighted(shear)
        if self._wiener:
            made["kappa_wiener"] = wiener
        return made | {"quadratics": self._quadratics(weighted)}
