"""What simulations teach, by several processes: each a share, together what one would."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from sbikit import Alone, QuietMonitor, Simulations, Workspace
from sbikit.testing import GaussianField, GaussianFieldOptions
from sbikit_transformer import preparation
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.preparation import Preparation, Reading
from sbikit_transformer.teaching import numbers_of_law


@dataclasses.dataclass(frozen=True)
class Apart(Alone):
    """One process of three that never hears of the others."""

    rank: int = 0  # type: ignore[misc]
    size: int = 3  # type: ignore[misc]

    def join(self, part: Tensor) -> Tensor:
        return part


@pytest.fixture
def denoiser() -> Denoiser:
    simulator = GaussianField(GaussianFieldOptions(size=4))
    made = Denoiser(simulator, simulator.spec, patch=2, width=16, depth=1, heads=2, nodes=16)
    fit_constants(made, [Simulations(simulator, 0).training(0, 64)])
    return made


def taught(denoiser: Denoiser, team: Alone, count: int, what: str = "teaching") -> dict[str, Tensor]:
    read = Reading(denoiser, Simulations(denoiser.simulator, 0), QuietMonitor(), team)
    return dict(getattr(Preparation(denoiser, read, "x", Workspace(team=team)), what)(64, count))


@pytest.mark.parametrize(("what", "off"), [("teaching", 1e-5), ("teaching_shapes", 1e-3)])
def test_each_of_three_processes_teaches_its_share(denoiser: Denoiser, what: str, off: float) -> None:
    """With the noise that one process would give these simulations; one without a share knows the sizes."""
    whole = taught(denoiser, Alone(), 100, what)
    parts = [taught(denoiser, Apart(rank), 100, what) for rank in range(3)]
    empty = taught(denoiser, Apart(2), 2, what)
    assert whole.keys() == empty.keys()
    for name, value in whole.items():
        assert [len(part[name]) for part in parts] == [34, 33, 33]
        assert empty[name].shape == (0, *value.shape[1:])
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value, rtol=off, atol=off)


def test_what_would_need_too_much_memory_is_kept_in_half_precision(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taught(denoiser, Alone(), 100)
    monkeypatch.setattr(preparation, "_WHOLE_NUMBERS", 99 * numbers_of_law(denoiser))
    half = taught(denoiser, Alone(), 100)
    assert {name: value.dtype for name, value in half.items()} == {
        name: torch.float16 if name == "told" else value.dtype for name, value in whole.items()
    }
    for name, value in whole.items():
        torch.testing.assert_close(half[name].to(value.dtype), value, rtol=2**-11, atol=1e-7)
