"""Constants and guide fitted in parts, from files, against the same of all simulations at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bump import Bump

from sbikit import Simulations, Simulator, load
from sbikit.learning import Spill
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_transformer import constants as module
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser

PROBLEMS = {
    "vector": GaussianVector,
    "field": lambda: GaussianField(GaussianFieldOptions(size=8)),
    "places": lambda: Bump(latent=True),
    "floor": lambda: load("simulator", "lognormal", size=8),
}


def unfitted(simulator: Simulator) -> Denoiser:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)


@pytest.mark.parametrize("name", PROBLEMS)
def test_constants_of_parts_in_files_are_those_of_all_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = PROBLEMS[name]()
    values = Simulations(simulator, 1).training(0, 700)
    whole, parted = unfitted(simulator), unfitted(simulator)
    fit_constants(whole, [values])
    monkeypatch.setattr(module, "Spill", partial(Spill, held=0, part=1))
    some = [
        {key: value[first : first + 100] for key, value in values.items()} for first in range(0, 700, 100)
    ]
    fit_constants(parted, some, tmp_path)
    assert list(tmp_path.iterdir()) == []
    expected, found = whole.state_dict(), parted.state_dict()
    for key in expected:
        size = max(1.0, float(expected[key].double().abs().max())) if expected[key].numel() else 1.0
        torch.testing.assert_close(found[key], expected[key], rtol=2e-5, atol=2e-5 * size, msg=key)


def test_constants_of_a_field_are_those_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Gaussian field has no bend: one mean, quadratic in the white scalars, and one scale a channel."""
    simulator = GaussianField(GaussianFieldOptions(size=8))
    values = Simulations(simulator, 1).training(0, 600)
    fitted = unfitted(simulator)
    monkeypatch.setattr(module, "Spill", partial(Spill, held=0, part=1))
    fit_constants(
        fitted,
        [{key: value[first : first + 60] for key, value in values.items()} for first in range(0, 600, 60)],
        tmp_path,
    )
    field, data = values["field"].double().numpy(), values["data"].double().numpy()
    a, b = fitted.coordinates.encode(values).double().numpy().T
    features = np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], 1)
    t = (field - field.mean()) / field.std(ddof=1)
    mean = np.linalg.lstsq(features, t.mean((1, 2, 3)), rcond=None)[0]
    left = t - (features @ mean)[:, None, None, None]
    np.testing.assert_allclose(fitted.field_map.mean.flatten(), mean, atol=2e-5)
    np.testing.assert_allclose(fitted.field_map.sd.flatten(), left.std(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(fitted.data_map.maps.mean, data.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(fitted.data_map.maps.sd, data.std((0, 2, 3), ddof=1).ravel()[0], rtol=1e-4)
