"""Problems that leave matrices singular: they are fitted, and what is known is drawn as it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sbikit import Field, Normal, Prior, QuietMonitor, Simulator, Vector, Workspace, draw_seeds, normals
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit.simulations import Simulations
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.guide import Guide
from sbikit_transformer.linear_model import fit_model
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.polynomials import Quadratic

SMALL = TransformerOptions(
    steps=2, width=16, depth=1, heads=2, guide_simulations=256, guide_nodes=16, batch=8
)


def _spread(per_draw: Tensor, grid: tuple[int, ...]) -> Tensor:
    return per_draw[(..., *[None] * len(grid))]


class Odd(Simulator):
    """A field f of log amplitude .3 a, data d of it, and one oddity."""

    prior = Prior({"a": Normal(0.0, 1.0), "b": Normal(0.0, 1.0)})

    def __init__(self, oddity: str) -> None:
        self.oddity = oddity
        self.grid = {"a pixel": (1, 1), "a pixel on a line": (1,), "a line": (7,)}.get(oddity, (4, 4))
        two = "channel" in oddity
        f = Field("f", self.grid, channels=2 if two else 1)
        d = Field("d", self.grid, channels=2 if oddity == "data channel" else 1)
        self.outputs = (f, d, Vector("v", ("p", "q")))
        self.observed = ("v",) if oddity == "no map" else ("d", "v")

    def simulate(self, parameters, *, seeds):
        theta, z = parameters["theta"], normals(seeds, (2, *self.grid))
        f = _spread((0.3 * theta[:, 0]).exp(), self.grid) * z[:, 0]
        axes = tuple(range(1, f.ndim))
        if self.oddity == "blocky":
            f = f[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
        elif self.oddity == "flat":
            f = f.mean(axes, keepdim=True).expand_as(f)
        elif self.oddity == "no mean":
            f = f - f.mean(axes, keepdim=True)
        elif self.oddity == "one wave":
            f = f[:, :1, :1] * torch.tensor([1.0, 0.0, -1.0, 0.0]).expand(4, 4)
        elif self.oddity == "constant":
            f = torch.full_like(f, 7.0)
        d = f + (0.0 if self.oddity == "no noise" else 0.5) * z[:, 1]
        f, d = f[:, None], (torch.full_like(d, 2.0) if self.oddity == "constant data" else d)[:, None]
        if "channel" in self.oddity:
            constant = {"channel of 0": 0.0, "channel of 1e5": 1e5, "channel of 1e-9": 1e-9}.get(
                self.oddity, 3.0
            )
            f = torch.cat([f, torch.full_like(f, constant)], 1)
        if self.oddity == "data channel":
            d = torch.cat([d, torch.full_like(d, 2.0)], 1)
        return {"f": f, "d": d, "v": self._vector(theta, z)}

    def _vector(self, theta: Tensor, z: Tensor) -> Tensor:
        noisy = theta[:, 0] + 0.3 * z.flatten(1)[:, 0]
        pairs = {
            "copy": (noisy, 2.0 * noisy + 1.0),
            "known": (theta[:, 0], theta[:, 1]),
            "sum": (theta.sum(1), theta.sum(1)),
            "constant number": (noisy, torch.ones_like(noisy)),
        }
        return torch.stack(pairs.get(self.oddity, (noisy, noisy.square())), 1)


ODDITIES = [
    *(
        "a pixel",
        "a pixel on a line",
        "a line",
        "blocky",
        "flat",
        "no mean",
        "one wave",
        "no noise",
        "no map",
    ),
    *("constant", "constant data", "channel of 0", "channel of 3", "channel of 1e5", "channel of 1e-9"),
    *("data channel", "copy", "known", "sum", "constant number"),
]


@pytest.mark.parametrize("oddity", ODDITIES)
def test_odd_problems_are_fitted_and_drawn(oddity: str) -> None:
    simulator = Odd(oddity)
    simulations = Simulations(simulator, 0)
    sampler = DiffusionTransformer(SMALL).fit(
        simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor()
    )
    held_out = simulations.held_out(0, 4)
    observation = {name: held_out[name] for name in simulator.observed}
    drawn = sampler.sample(observation, 16, seeds=draw_seeds(0, "t", 0, 4)).values
    assert all(bool(value.isfinite().all()) for value in drawn.values())
    if oddity == "constant":
        assert drawn["f"].unique().tolist() == [7.0]
    if oddity.startswith("channel"):
        assert torch.equal(drawn["f"][:, :, 1], held_out["f"][:, 1].expand(16, -1, -1, -1))
    if oddity == "known":
        torch.testing.assert_close(drawn["theta"], held_out["theta"].expand(16, -1, -1), rtol=0, atol=0.01)
    if oddity == "sum":
        # a + b is known, a - b is not: N(0, 2)
        total = held_out["theta"].sum(-1).expand(16, -1)
        # The law that is linear in the data, which is where learning starts, has .009.
        assert float((drawn["theta"].sum(-1) - total).square().mean().sqrt()) < 0.005
        assert float((drawn["theta"][..., 0] - drawn["theta"][..., 1]).std()) == pytest.approx(
            math.sqrt(2), abs=0.5
        )


def test_scalars_that_the_data_tie_to_each_other_have_their_exact_moments() -> None:
    """u ~ N(0, 1)^2 with their sum observed: mean v / 2 each, variance 1/2 each, correlation -1."""
    u = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
    v = u.sum(1, keepdim=True) / math.sqrt(2.0)
    field = torch.randn(4096, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    vectors = torch.cat([v, v], 1)  # the second is a copy of the first
    law = LinearLaw(2, 2)
    law.fit(u, vectors)
    guide = Guide(Quadratic(torch.zeros(2, dtype=torch.bool)), 1, (4, 4), nodes=256)
    guide.fit(Parts.held({"u": u, "field": field, "data": field, "vectors": vectors}), law)
    found = guide.posterior(law(vectors[:8]), guide.told(field[:8]))
    torch.testing.assert_close(found.mean.sum(1), math.sqrt(2.0) * v[:8, 0], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.sd, torch.full((8, 2), math.sqrt(0.5)), rtol=0.15, atol=0)
    torch.testing.assert_close(found.correlations(), torch.full((8, 1), -1.0), rtol=0, atol=1e-4)


def test_rings_without_power_say_nothing_of_the_data() -> None:
    """d = 2 y + n where y has power, and d = n where it has none but rounding."""
    rings = Rings.shells((8,))
    source = torch.Generator().manual_seed(0)
    y, n = torch.randn(2, 4000, 8, generator=source)
    low = rings.transform(y)
    empty = rings.index >= 2
    low[:, empty] *= 1e-9
    d = 2.0 * low + 0.5 * rings.transform(n)
    u = torch.randn(4000, 1, generator=source)
    modes = Parts.held({"u": u, "y": low[:, None], "d": d[:, None]})
    (log_power, log_noise), (slope,) = fit_model(modes, rings, Quadratic(torch.zeros(1, dtype=torch.bool)))
    torch.testing.assert_close(slope[0, :2], torch.full((2,), 2.0, dtype=torch.float64), rtol=0, atol=0.05)
    assert float(slope[0, 2:].abs().max()) < 1.0  # the ratio of the two roundings is 10^7
    torch.testing.assert_close(
        log_noise[0].exp(), torch.full((5,), 0.25, dtype=torch.float64), rtol=0.1, atol=0
    )
    assert float(log_power[0, 2:].max()) < math.log(1e-5)


def test_a_field_of_zeros_leaves_the_law_as_it_was() -> None:
    u = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(512, 1, 4)
    law = LinearLaw(2, 0)
    law.fit(u, torch.zeros(512, 0))
    guide = Guide(Quadratic(torch.zeros(2, dtype=torch.bool)), 1, (4,), nodes=64)
    guide.fit(Parts.held({"u": u, "field": zeros, "data": zeros, "vectors": torch.zeros(512, 0)}), law)
    first = law(torch.zeros(4, 0))
    found = guide.posterior(first, guide.told(zeros[:4]))
    torch.testing.assert_close(found.mean, first.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(found.sd, first.sd, rtol=0.1, atol=0)
    level = torch.full((4,), 1e-2)
    guess = guide(zeros[:4], u[:4], guide.told(zeros[:4]), torch.zeros(4, 0), level)
    assert float(guess.field.abs().max()) == 0.0
