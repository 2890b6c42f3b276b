"""Quadratic forms of the shear: what they tell of parameters, beside Fisher's matrix of all pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbikit import Simulations, draw_seeds
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.survey import KaiserSquires

DOUBLE = torch.float64
STEP = 1e-3
SMALL = {"size": 8, "extent": 5.0, "n_gal": 40.0, "sources": {"bins": 2}, "field": "gaussian"}
HOLES = {"mask": {"density": 0.1, "radius": 20.0, "edge": 0.0}, "depth": {"scatter": 0.3, "scale": 60.0}}
BIASED = {"shear_bias": {"normal": [0.0, 0.1]}}


def made(**options: object) -> LogNormal:
    return LogNormal(LogNormalOptions(**options))  # type: ignore[arg-type]


def covariances(simulator: LogNormal) -> tuple[Tensor, list[Tensor], Tensor]:
    """Of all shear that is seen, (n, n), its slopes in white parameters, and which numbers are seen."""
    bins, size, count = simulator.bins, simulator.size, len(simulator.prior.laws)
    u = torch.zeros(1 + 2 * count, count, dtype=DOUBLE)
    for i in range(count):
        u[1 + 2 * i, i], u[2 + 2 * i, i] = STEP, -STEP
    theta = simulator.prior.from_white(u)
    n = torch.arange(size)
    fold = torch.minimum(n, size - n)
    power = simulator.mode_power(theta)[:, :, fold][..., fold]  # (q, pairs, N, N)
    noise = simulator.survey.noise.to(DOUBLE)
    eye = torch.eye(size**2, dtype=DOUBLE).unflatten(1, (size, size))
    shear = KaiserSquires(size, DOUBLE).shear(eye).flatten(1).T  # (2 N^2, N^2)
    seen = simulator.survey.mask.expand(bins, 2, -1, -1).flatten()
    variance = noise.square()[:, None].expand(bins, 2, size, size).flatten()
    bias = simulator.parameters.shear_bias(theta)
    gain = torch.ones(len(u), bins, dtype=DOUBLE) if bias is None else 1.0 + bias
    found = []
    for at, m in zip(power, gain, strict=True):
        whole = torch.zeros(bins, 2 * size**2, bins, 2 * size**2, dtype=DOUBLE)
        for k, (i, j) in enumerate(torch.tril_indices(bins, bins).T.tolist()):
            of_field = torch.fft.ifft2(torch.fft.fft2(eye) * at[k]).real.flatten(1)
            whole[i, :, j] = whole[j, :, i] = m[i] * m[j] * (shear @ of_field @ shear.T)
        found.append(whole.flatten(2).flatten(0, 1)[seen][:, seen])
    slopes = [(found[1 + 2 * i] - found[2 + 2 * i]) / (2 * STEP) for i in range(count)]
    return found[0] + torch.diag(variance[seen]), slopes, seen


def forms(simulator: LogNormal, seen: Tensor) -> Tensor:
    """The matrices of the forms, (R, n, n), from what they give of pairs of numbers that are not zero."""
    count = int(seen.sum())
    first, second = torch.triu_indices(count, count)
    alone = torch.zeros(len(first), len(seen), dtype=DOUBLE)
    where = seen.nonzero()[:, 0]
    rows = torch.arange(len(first))
    alone[rows, where[first]] = 1.0
    alone[rows, where[second]] = 1.0
    shape = simulator.spec.observables[0].shape
    found = []
    for part in torch.cat([alone, torch.zeros(1, len(seen), dtype=DOUBLE)]).split(4096):
        found.append(simulator.summaries({"shear": part.unflatten(1, shape)})["quadratics"])
    values = torch.cat(found)
    values = values[:-1] - values[-1]
    matrix = torch.zeros(values.shape[1], count, count, dtype=DOUBLE)
    matrix[:, first, second] = matrix[:, second, first] = values.T
    own = matrix.diagonal(dim1=1, dim2=2).clone()
    matrix = 0.5 * (matrix - own[:, :, None] - own[:, None])
    matrix.diagonal(dim1=1, dim2=2).copy_(own)
    return matrix


@pytest.mark.parametrize("more", [{}, HOLES, {**HOLES, **BIASED}], ids=["whole", "holes", "biased"])
def test_twelve_forms_tell_what_all_pixels_do(more: dict[str, object]) -> None:
    """Near the prior's median Fisher's matrix of a few forms is that of all numbers, holes or not."""
    simulator = made(**SMALL, **more, quadratics=12)
    total, slopes, seen = covariances(simulator)
    inverse = torch.linalg.inv(total)
    through = [inverse @ slope for slope in slopes]
    exact = torch.stack([torch.stack([0.5 * (a * b.T).sum() for b in through]) for a in through])
    matrices = forms(simulator, seen)
    times = matrices @ total
    spread = 2.0 * torch.einsum("rij,sji->rs", times, times)
    mean = torch.stack([(matrices * slope).sum((1, 2)) for slope in slopes], 1)
    known = mean.T @ torch.linalg.lstsq(spread, mean).solution
    # Of each parameter alone, and of the best combination of them: nothing tells more than all pixels.
    torch.testing.assert_close(known.diagonal(), exact.diagonal(), rtol=0.01, atol=0.0)
    share = torch.linalg.eigvals(torch.linalg.solve(exact, known)).real
    assert float(share.max()) < 1.0 + 1e-4
    assert float(share.min()) > 0.97


def test_without_a_mask_forms_have_mean_zero_and_variance_one_at_the_median() -> None:
    simulator = made(**SMALL, quadratics=6)
    theta = simulator.prior.from_white(torch.zeros(4000, len(simulator.prior.laws)))
    outputs = simulator.simulate({simulator.prior.name: theta}, seeds=draw_seeds(0, "median", 0, 4000))
    found = simulator.summaries({"shear": torch.as_tensor(outputs["shear"])})["quadratics"].double()
    assert float(found.mean(0).abs().max()) < 4.5 / 4000**0.5
    torch.testing.assert_close(torch.cov(found.T), torch.eye(6, dtype=DOUBLE), rtol=0.0, atol=0.15)


def test_where_spectra_vary_in_fewer_ways_the_last_forms_are_zero() -> None:
    """Of one bin on 8 x 8 pixels power differs in 14 modes: (|k_x|, |k_y|), in either order, but zero."""
    simulator = made(**{**SMALL, "sources": {"bins": 1}}, quadratics=32)
    found = simulator.summaries(Simulations(simulator, 0).training(0, 50))["quadratics"]
    assert bool(torch.isfinite(found).all())
    assert bool((found[:, 14:] == 0.0).all())
    assert bool((found[:, :3].std(0) > 0.5).all())


def test_forms_do_not_depend_on_the_wiener_map_beside_them() -> None:
    alone, both = (made(**SMALL, **HOLES, quadratics=3, wiener=wiener) for wiener in (False, True))
    values = Simulations(alone, 0).training(0, 5)
    one, other = alone.summaries(values), both.summaries(values)
    assert (set(one), set(other)) == ({"kappa_ks", "quadratics"}, {"kappa_ks", "kappa_wiener", "quadratics"})
    torch.testing.assert_close(one["quadratics"], other["quadratics"], rtol=0, atol=0)
    torch.testing.assert_close(
        other["kappa_wiener"], made(**SMALL, **HOLES, wiener=True).summaries(values)["kappa_wiener"]
    )
