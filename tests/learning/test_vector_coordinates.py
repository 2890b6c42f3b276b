"""Coordinates of latent vectors: there and back, on the edge of a support, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import constraints

from sbikit import Normal, Prior, Uniform, UnsupportedError, Vector, draw_seeds, generator
from sbikit.learning import Coordinates

PRIOR = Prior({"a": Uniform(1.0, 2.0), "b": Normal(0.0, 1.0)})
HIDDEN = Vector("hidden", ("h1", "h2"), support=constraints.positive)


def test_coordinates_round_trip_and_standardise() -> None:
    theta = PRIOR.sample(draw_seeds(0, "theta", 0, 500))["theta"]
    draws = {"theta": theta, "hidden": torch.exp(theta)}
    coordinates = Coordinates(PRIOR, (PRIOR.variable, HIDDEN))
    coordinates.fit(draws)
    white = coordinates.encode(draws)
    assert torch.allclose(white[:, 2:].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(white[:, 2:].std(0), torch.ones(2), atol=1e-5)
    for name, value in coordinates.decode(white).items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, draws[name], rtol=1e-4)


def test_a_batch_of_any_shape_is_coded() -> None:
    coordinates = Coordinates(PRIOR, (HIDDEN, PRIOR.variable))
    u = torch.randn(3, 5, 4, generator=generator(0))
    values = coordinates.decode(u)
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        "hidden": (3, 5, 2),
        "theta": (3, 5, 2),
    }
    torch.testing.assert_close(coordinates.encode(values), u, rtol=1e-4, atol=1e-4)


def test_the_edge_of_the_support_has_finite_coordinates() -> None:
    prior = Prior({"a": Uniform(0.0, 1.0)})
    coordinates = Coordinates(prior, (prior.variable,))
    assert torch.isfinite(coordinates.encode({"theta": torch.tensor([[0.0], [1.0]])})).all()


def test_what_has_no_edge_is_never_moved() -> None:
    coordinates = Coordinates(PRIOR, (Vector("free", ("x",)),))
    assert coordinates.encode({"free": torch.tensor([[1000.0]])}).item() == 1000.0


def test_a_latent_vector_that_never_varies_comes_back() -> None:
    coordinates = Coordinates(PRIOR, (Vector("free", ("x",)),))
    coordinates.fit({"free": torch.full((50, 1), 3e9)})
    assert coordinates.encode({"free": torch.full((2, 1), 3e9)}).abs().max() == 0.0
    assert coordinates.decode(torch.tensor([[1.7]]))["free"].item() == pytest.approx(3e9)


def test_a_support_of_fewer_dimensions_is_refused() -> None:
    shares = Vector("shares", ("a", "b", "c"), support=constraints.simplex)
    with pytest.raises(UnsupportedError, match="support of 'shares'"):
        Coordinates(PRIOR, (shares,))


def test_a_support_without_a_bijection_is_refused() -> None:
    counted = Vector("n", ("n",), support=constraints.nonnegative_integer)
    with pytest.raises(UnsupportedError, match="support of 'n'"):
        Coordinates(PRIOR, (PRIOR.variable, counted))


def test_bounded_are_the_prior_s_own_laws_of_two_bounds() -> None:
    assert Coordinates(PRIOR, (HIDDEN, PRIOR.variable)).bounded.tolist() == [False, False, True, False]
