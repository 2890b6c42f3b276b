"""Fields of several grids: what becomes of them on the way to the network, and a posterior that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit import (
    Field,
    Normal,
    Prior,
    QuietMonitor,
    Simulations,
    Simulator,
    Spec,
    UnsupportedError,
    Vector,
    Workspace,
    draw_seeds,
)
from sbikit.learning import Parts
from sbikit.testing import GaussianGrids, check_sampler, check_simulator
from sbikit_transformer.conditions import _MOST_NUMBERS, DataMap
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.grids import Grids, common_grid
from sbikit_transformer.map_kinds import MapKinds
from sbikit_transformer.missing import missing
from sbikit_transformer.options import TransformerOptions


def grids(*fields: Field, grid: tuple[int, ...]) -> Grids:
    """The first is the main one, and hidden."""
    return Grids(grid, fields[0], {field.name: field for field in fields[1:]})


def test_a_finer_field_becomes_means_of_blocks_and_what_is_beside_them() -> None:
    """By a loop over blocks; with the pixel left out, which their mean gives, nothing is lost."""
    value = torch.randn(3, 2, 4, 9, generator=torch.Generator().manual_seed(0))
    found = grids(Field("y", (2, 3)), Field("d", (4, 9)), grid=(2, 3)).maps("d", value)
    assert found is not None
    assert found.shape == (3, 2 * 6, 2, 3)
    back = torch.zeros_like(value)
    for i, j in np.ndindex(2, 3):
        block = value[:, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].flatten(2)
        mean = block.mean(-1)
        torch.testing.assert_close(found[:, :2, i, j], mean)
        beside = found[:, 2:, i, j].unflatten(1, (2, 5))
        torch.testing.assert_close(beside, block[..., :5] - mean[..., None])
        pixels = torch.cat([beside, -beside.sum(-1, keepdim=True)], -1) + mean[..., None]
        back[:, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3] = pixels.unflatten(-1, (2, 3))
    torch.testing.assert_close(back, value)


def test_larger_pixels_are_repeated() -> None:
    value = torch.arange(6.0).view(1, 1, 2, 3)
    found = grids(Field("y", (4, 3)), Field("d", (2, 3)), grid=(4, 3)).maps("d", value)
    assert found is not None
    torch.testing.assert_close(found[0, 0], value[0, 0].repeat_interleave(2, 0))
    mixed = torch.randn(1, 1, 2, 6, generator=torch.Generator().manual_seed(0))
    both = grids(Field("y", (4, 3)), Field("d", (2, 6)), grid=(4, 3)).maps("d", mixed)
    assert both is not None
    torch.testing.assert_close(both[0, 0, ::2], mixed[0, 0].unflatten(1, (3, 2)).mean(-1))


@pytest.mark.parametrize(
    "field",
    [
        Field("d", (5, 8)),  # no fraction of a pixel
        Field("d", (16,)),  # of other axes
        Field("d", (8, 8), extent=(10.0, 10.0), extent_unit="deg"),  # of another unit
    ],
)
def test_what_has_no_place_is_told_as_numbers(field: Field) -> None:
    main = Field("y", (4, 4))
    assert grids(main, field, grid=(4, 4)).maps("d", torch.zeros(1, *field.shape)) is None


def test_the_patch_must_be_the_same() -> None:
    main = Field("y", (4, 4), extent=(10.0, 10.0), extent_unit="deg")
    fine = replace(main, name="d", grid=(8, 8))
    value = torch.zeros(1, 1, 8, 8)
    assert grids(main, fine, grid=(4, 4)).maps("d", value) is not None
    other = replace(fine, extent=(10.0, 20.0))
    assert grids(main, other, grid=(4, 4)).maps("d", value) is None


def test_the_grid_is_that_of_what_is_hidden_or_of_the_largest_field() -> None:
    small, large, line = Field("a", (2, 2)), Field("b", (4, 4)), Field("c", (20,))
    theta = Vector("theta", ("t",))
    assert common_grid(Spec((theta, small), (large, line))) == (2, 2)
    assert common_grid(Spec((theta,), (small, line, large))) == (20,)
    assert common_grid(Spec((theta,), (Vector("x", ("x",)),))) == ()
    with pytest.raises(UnsupportedError, match="all latent fields on one grid"):
        common_grid(Spec((theta, small, large), (line,)))


def test_kinds_and_masks_are_those_of_the_field() -> None:
    class Masked(GaussianGrids):
        outputs = (
            Field("hidden", (12, 12)),
            Field("fine", (24, 24), stationary=True, periodic=True),
            Field("spectrum", (20,)),
        )

        def masks(self) -> dict[str, Tensor]:
            fine = torch.ones(1, 24, 24, dtype=torch.bool)
            fine[0, :3, 0] = False
            return {"fine": fine, "spectrum": torch.zeros(1, 20, dtype=torch.bool)}

    toy = Masked()
    found = Grids.of(toy, toy.spec, (12, 12))
    kinds = MapKinds.of(toy, toy.spec, found)
    assert (kinds.stationary, kinds.periodic) == ((True,) * 4, (True,) * 4)
    assert kinds.finer == (False, True, True, True)
    expected = torch.zeros(12, 12)
    expected[0, 0], expected[1, 0] = 0.5, 0.25
    share = missing(toy, found)
    torch.testing.assert_close(share, expected)


class Wide(Simulator):
    """A parameter and a short series, seen in an image of more numbers than are told."""

    prior = Prior({"height": Normal(0.0, 1.0)})
    outputs = (Field("series", (4,)), Field("image", (48, 48)))
    observed = ("image",)


def test_of_many_numbers_the_leading_components_are_told() -> None:
    toy = Wide()
    assert _MOST_NUMBERS < 48 * 48
    told = DataMap(toy, toy.spec, Grids.of(toy, toy.spec, (4,)))
    source = torch.Generator().manual_seed(0)
    height, pattern = torch.randn(300, 1, generator=source), torch.randn(48 * 48, generator=source)
    image = (height * pattern + torch.randn(300, 48 * 48, generator=source)).view(-1, 1, 48, 48)
    seen = told.seen({"image": image})
    told.fit(Parts.held(seen))
    maps, vectors = told.maps_and_vectors(seen)
    assert (maps.shape, vectors.shape) == ((300, 0, 4), (300, 256))
    assert abs(np.corrcoef(vectors[:, 0], height[:, 0])[0, 1]) > 0.99


def test_the_toy_keeps_its_contract_and_its_posterior_covers_truths() -> None:
    toy = GaussianGrids()
    check_simulator(toy)
    values = Simulations(toy, 0).held_out(0, 300)
    exact = toy.exact_sampler()
    data = {name: values[name] for name in toy.observed}
    check_sampler(exact, {name: value[:3] for name, value in data.items()})
    draws = exact.sample(data, 63, seeds=draw_seeds(0, "x", 0, 300)).values
    for name in ("theta", "hidden"):
        share = (draws[name] < values[name]).float().mean(0)
        # Uniform: pixels of a map go together, 300 parameters have a standard error of .017.
        assert float(share.mean()) == pytest.approx(0.5, abs=0.05)
        assert float(share.var() * 12.0) == pytest.approx(1.0, abs=0.15)


def test_a_posterior_of_fields_of_three_grids_is_known() -> None:
    toy = GaussianGrids()
    options = TransformerOptions(
        steps=60, width=16, depth=1, guide_simulations=8192, law_simulations=16384, evaluations=8
    )
    sampler = DiffusionTransformer(options).fit(
        Simulations(toy, 0), seed=1, workspace=Workspace(), monitor=QuietMonitor()
    )
    values = Simulations(toy, 0).held_out(0, 16)
    data = {name: values[name] for name in toy.observed}
    draws = sampler.sample(data, 128, seeds=draw_seeds(3, "draws", 0, 16)).values
    exact = toy.exact_sampler().sample(data, 1024, seeds=draw_seeds(2, "exact", 0, 16)).values
    # Of means of blocks alone the pattern's posterior would be 3.7 times as wide, without the spectrum the
    # mound's 1.5 times; means of 128 exact draws are .09 off.
    for name, most in (("theta", 0.3), ("hidden", 0.4)):
        off = (draws[name].mean(0) - exact[name].mean(0)) / exact[name].std(0)
        assert float(off.square().mean().sqrt()) < most
        assert float((draws[name].std(0) / exact[name].std(0)).mean()) == pytest.approx(1.0, abs=0.1)
