"""The marginal density of parameters where maps are Gaussian, periodic, and seen everywhere with one noise.

The maps can then be integrated out: p(d | theta) is a product over Fourier modes, and p(kappa | theta, d) is
Gaussian with the Wiener filter's mean (gaussian.py). The E mode of observed shear,

    d = D_1 gamma_1 + D_2 gamma_2 = (1 + m) kappa + n,    n white with the noise of one component,

is all that the likelihood depends on: the B mode is noise alone and independent of n. It has no mean, so at
k = 0 kappa keeps its prior.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sbikit import MarginalDensity, UnsupportedError, Values, one_thread
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.posterior.gaussian import GaussianMaps
from sbikit_lognormal.survey import KaiserSquires


def refuse_without_marginal(options: LogNormalOptions) -> None:
    """Refuse maps that cannot be integrated out mode by mode.

    Raises:
        UnsupportedError: they are not Gaussian, or their modes are not independent given the parameters.
    """
    faults = {
        "field: lognormal": options.field != "gaussian",
        f"padding: {options.padding}": options.padding != 1,
        "a mask": options.mask is not None,
        "a varying depth": options.depth is not None,
    }
    if any(faults.values()):
        raise UnsupportedError(
            "The exact posterior is known only of Gaussian maps, periodic and seen with even noise.",
            where="the marginal density of lognormal",
            expected="field: gaussian, padding: 1, no mask and no depth",
            got=", ".join(name for name, fault in faults.items() if fault),
            fix="set these options, or use --reference hmc",
        )


def marginal_density(
    data: Tensor, noise: Tensor, power: Callable[[Tensor], Tensor], bias: Callable[[Tensor], Tensor | None]
) -> MarginalDensity:
    """The two steps of the posterior.

    Args:
        data: two components of shear, or one of convergence, a bin, (B, bins, components, N, N), float64.
        noise: standard deviation of one component, (bins,), float64.
        power: of the convergence, of parameters (Q, D), as `gaussian.GaussianMaps` takes it.
        bias: m of parameters (Q, D), (Q, bins); None where there is none.
    """
    bins, components, size = data.shape[1:4]

    def gain(theta: Tensor) -> Tensor:
        m = bias(theta)
        alone = (1.0 / noise).expand(len(theta), -1)
        return alone if m is None else alone * (1.0 + m)

    maps = GaussianMaps(size, bins, power, gain, mean_is_seen=components == 1)
    with torch.no_grad(), one_thread():
        seen = _convergence(data) / noise[:, None, None]
        statistics = maps.statistics(seen)

    def log_likelihood(theta: Tensor) -> Tensor:
        with torch.no_grad(), one_thread():
            return maps.log_likelihood(theta.double(), statistics)

    def draw(theta: Tensor, b: int, source: torch.Generator) -> Values:
        with torch.no_grad(), one_thread():
            return {"kappa": maps.draw(theta.double(), seen[b], source)}

    return MarginalDensity(log_likelihood, draw)


def _convergence(data: Tensor) -> Tensor:
    """The E mode of shear, or observed convergence, (B, bins, N, N)."""
    if data.shape[2] == 1:
        return data[:, :, 0]
    lensing = KaiserSquires(data.shape[-1], torch.float64)
    seen = torch.empty_like(data[:, :, 0])
    for row, shear in zip(seen, data, strict=True):  # transforms of many are rounded otherwise
        row.copy_(lensing.convergence(shear))
    return seen
