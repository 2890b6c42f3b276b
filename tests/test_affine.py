"""The unit and the offset of a variable change nothing: coordinates, what is learned, draws."""

from __future__ import annotations

import pytest
import torch
from affine import ROLES, Affine
from torch import Tensor
from torch.distributions import constraints

from sbikit import Estimator, Prior, QuietMonitor, Simulations, Uniform, Values, Vector, Workspace, draw_seeds
from sbikit.learning import Coordinates, Parts, Standardise
from sbikit_npe.estimator import NPE
from sbikit_npe.options import NPEOptions
from sbikit_transformer.conditions import DataMap
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.grids import Grids
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.transforms import WHITE, FieldMap

SCALES = [1e-30, 1e-9, 1e-3, 1e9, 1e30]
# In spreads. At 1e5 float32 has some 100 numbers in a spread; at 1e6 so few that a run refuses them.
OFFSETS = [0.0, -1e3, 1e5]
PRIOR = Prior({"a": Uniform(0.0, 1.0)})
NPE_SMALL = NPEOptions(
    simulations=200, steps=6, validate_every=3, batch=64, transforms=1, hidden=8, channels=2, context=8
)
TRANSFORMER_SMALL = TransformerOptions(
    steps=4, batch=16, width=16, depth=1, heads=2, guide_simulations=256, guide_nodes=16, evaluations=4
)
ESTIMATORS = {
    "npe": lambda: NPE(NPE_SMALL),
    "diffusion-transformer": lambda: DiffusionTransformer(TRANSFORMER_SMALL),
}


def told_and_back(x: Tensor, scale: float, offset: float) -> tuple[Tensor, Tensor]:
    """Plain values, float64, in another unit with an offset, float32; and the same back in their own unit."""
    told = (scale * (x + offset)).float()
    return told, (told.double() / scale - offset).float()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("shape", [(3,), (3, 4, 2)])
def test_standardised_values(scale: float, offset: float, shape: tuple[int, ...]) -> None:
    told, back = told_and_back(numbers(300, 3, 4, 2), scale, offset)
    one, other = Standardise(*shape), Standardise(*shape)
    one.fit(told)
    other.fit(back)
    torch.testing.assert_close(one(told), other(back), rtol=1e-4, atol=1e-4)
    over = (0,) if len(shape) > 1 else (0, 2, 3)
    plain = back.double()
    expected = (plain - plain.mean(over, keepdim=True)) / plain.std(over, keepdim=True)
    torch.testing.assert_close(one(told).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-30, -3e9])
def test_what_never_varies_is_nearly_zero_in_any_unit(value: float) -> None:
    scale = Standardise(1)
    scale.fit(torch.full((50, 1, 4), value))
    assert float(scale(torch.full((2, 1, 4), value)).abs().max()) < 1e-6
    assert float(scale(torch.full((2, 1, 4), 3.0 * value)).abs().max()) <= 2.001


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("offset", OFFSETS)
def test_coordinates_of_a_latent_vector(scale: float, offset: float) -> None:
    free = Vector("free", ("u", "v"))
    told, back = told_and_back(numbers(300, 2), scale, offset)
    one, other = Coordinates(PRIOR, (free,)), Coordinates(PRIOR, (free,))
    one.fit({"free": told})
    other.fit({"free": back})
    torch.testing.assert_close(one.encode({"free": told}), other.encode({"free": back}), rtol=1e-4, atol=1e-4)
    returned = one.decode(one.encode({"free": told}))["free"]
    torch.testing.assert_close(returned, told, rtol=2e-7, atol=1e-6 * scale)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("edge", ["lower", "upper", "both"])
def test_the_edge_of_a_support_moves_nothing_else(scale: float, edge: str) -> None:
    """Draws on the edge are finite and leave the coordinates of the others where they are without them."""
    supports = {
        "lower": constraints.greater_than_eq(0.0),
        "upper": constraints.less_than(0.0),
        "both": constraints.interval(0.0, scale),
    }
    inner = scale * torch.sigmoid(numbers(300, 1)).float() * (-1 if edge == "upper" else 1)
    vector = Vector("v", ("v",), support=supports[edge])
    edges = torch.tensor([[0.0], [scale]]) if edge == "both" else torch.zeros(2, 1)
    plain, other = Coordinates(PRIOR, (vector,)), Coordinates(PRIOR, (vector,))
    plain.fit({"v": inner})
    other.fit({"v": torch.cat([inner, edges])})
    coded = other.encode({"v": torch.cat([inner, edges])})
    torch.testing.assert_close(coded[:300], plain.encode({"v": inner}))
    assert coded[300:].abs().flatten().tolist() == [7.0, 7.0]
    assert abs(float(coded[:300].mean())) < 1e-5
    assert float(coded[:300].std()) == pytest.approx(1.0, abs=1e-5)


def test_a_far_draw_of_a_real_vector_stays_where_it_is() -> None:
    free = Vector("free", ("u",))
    coordinates = Coordinates(PRIOR, (free,))
    draws = torch.cat([numbers(500, 1), torch.tensor([[60.0]])]).float()
    coordinates.fit({"free": draws})
    returned = coordinates.decode(coordinates.encode({"free": draws}))["free"]
    torch.testing.assert_close(returned, draws)


def changed(role: str, scale: float, offset: float, stationary: bool) -> tuple[Affine, Affine]:
    """A problem in another unit, and the one that it should be equal to."""
    return tuple(  # type: ignore[return-value]
        Affine(role, scale, offset, back=back, stationary=stationary) for back in (False, True)
    )


@pytest.mark.parametrize("stationary", [True, False])
@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("offset", OFFSETS)
def test_fields_in_working_coordinates(scale: float, offset: float, stationary: bool) -> None:
    coded, returned = [], []
    for problem in changed("field", scale, offset, stationary):
        draws = Simulations(problem, 0).training(0, 400)
        u = draws["theta"].float()
        mapped = FieldMap(problem, problem.spec.fields, Quadratic(torch.zeros(1, dtype=torch.bool)))
        mapped.fit(Parts.held({**draws, WHITE: u}))
        coded.append(mapped.encode(draws, u))
        back = mapped.decode(coded[-1], draws, u)["field"]
        returned.append(problem.plain("field", back))
    torch.testing.assert_close(coded[0], coded[1], rtol=1e-3, atol=1e-3)
    step = 0.01 if abs(offset) == 1e5 else 1e-3  # what a float32 of the told value resolves
    torch.testing.assert_close(returned[0], returned[1], rtol=0, atol=step)


@pytest.mark.parametrize("stationary", [True, False])
@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("role", ["x", "data"])
def test_what_the_transformer_is_told(role: str, scale: float, offset: float, stationary: bool) -> None:
    found = []
    for problem in changed(role, scale, offset, stationary):
        draws = Simulations(problem, 0).training(0, 400)
        told = DataMap(problem, problem.spec, Grids.of(problem, problem.spec, (2, 4)))
        seen = told.seen(draws)
        told.fit(Parts.held(seen))
        maps, vectors = told.maps_and_vectors(seen)
        statistics = told.unscaled(maps)
        told.statistics.fit(statistics)
        found.append((maps, vectors, told.statistics(statistics)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("scale", "offset"), [(1e-9, 0.0), (1e9, 0.0), (1e-9, 1e3), (1e9, -1e3)])
def test_draws_in_their_own_unit(name: str, role: str, scale: float, offset: float) -> None:
    drawn = [_draws(ESTIMATORS[name](), problem) for problem in changed(role, scale, offset, False)]
    for variable, one in drawn[0].items():
        torch.testing.assert_close(one, drawn[1][variable], rtol=0, atol=0.002, msg=variable)


def _draws(estimator: Estimator, problem: Affine) -> Values:
    """Draws (16, 3, ...) in plain units."""
    simulations = Simulations(problem, 0)
    sampler = estimator.fit(simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor())
    held_out = simulations.held_out(0, 3)
    observation = {name: held_out[name] for name in problem.observed}
    values = sampler.sample(observation, 16, seeds=draw_seeds(0, "affine", 0, 3)).values
    return {name: problem.plain(name, value) for name, value in values.items()}
