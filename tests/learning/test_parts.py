"""What is fitted in parts against the same of all rows at once, by numpy; and rows that lie in files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit import CheckpointError, Normal, Prior, QuietMonitor, Vector, generator
from sbikit.learning import (
    Coordinates,
    Leading,
    LeastSquares,
    Mean,
    Moments,
    Parts,
    PrincipalComponents,
    Spill,
    Standardise,
    leading,
)


def rows(count: int = 500, *shape: int, offset: float = 1e4) -> Tensor:
    return offset + torch.randn(count, *shape, generator=generator(0))


def in_parts(x: Tensor, *sizes: int) -> list[Tensor]:
    return list(x.split([*sizes, len(x) - sum(sizes)]))


@pytest.mark.parametrize("sizes", [(), (1,), (499,), (100, 1, 1, 250)])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_moments_are_those_of_numpy(sizes: tuple[int, ...], kept: int) -> None:
    x = rows(500, 3, 2)
    found = Moments(kept)
    for part in in_parts(x, *sizes):
        found.add(part)
    values, over = x.double().numpy(), (0, *range(1 + kept, 3))
    np.testing.assert_allclose(found.mean, values.mean(over), rtol=1e-14)
    np.testing.assert_allclose(found.variance, values.var(over, ddof=1), rtol=1e-10)
    np.testing.assert_array_equal(found.largest, np.abs(values).max(over))


def test_one_part_is_what_torch_makes_of_it_to_the_bit() -> None:
    x, moments, mean = rows(300, 4), Moments(1), Mean()
    moments.add(x)
    variance, expected = torch.var_mean(x.double(), 0)
    assert torch.equal(moments.variance, variance)
    assert torch.equal(moments.mean, expected)
    mean.add(x.mean(0), 300)
    assert torch.equal(mean.value, x.mean(0))


def test_the_mean_of_means() -> None:
    x, found = rows(500, 3, offset=2.0).double(), Mean()
    for part in in_parts(x, 3, 200):
        found.add(part.mean(0), len(part))
    np.testing.assert_allclose(found.value, x.numpy().mean(0), rtol=1e-12)


def test_least_squares_are_those_of_numpy() -> None:
    features, noise = rows(500, 4, offset=0.0).double(), rows(500, 2, offset=0.0).double()
    target = features @ torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]).double() + noise
    found = LeastSquares(0.0)
    for part in (slice(0, 7), slice(7, 300), slice(300, 500)):
        found.add(features[part], target[part])
    expected = np.linalg.lstsq(features.numpy(), target.numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.solution(), expected, rtol=1e-10)


def test_ridges_are_chosen_by_generalised_cross_validation() -> None:
    """N |(1 - H) y|^2 / tr(1 - H)^2 of the hat matrix H itself: of one target that the features tell, which
    takes the least ridge, and one that they do not, which takes the largest.
    """
    features, noise = rows(60, 20, offset=0.0).double(), rows(60, 2, offset=0.0).double()
    slopes = torch.zeros(20, 2).double()
    slopes[:, 0] = torch.linspace(-1.0, 1.0, 20)
    target = features @ slopes + noise.flip(0)
    ridges = [torch.tensor([first, *[most] * 19]) for first, most in ((1e-6, 1e3), (1e-6, 0.3), (0.1, 1e-3))]
    found = LeastSquares(0.0)
    for part in (slice(0, 7), slice(7, 60)):
        found.add(features[part], target[part])
    coefficients, share = found.cross_validated(ridges)
    x, y = features.numpy(), target.numpy()
    errors, solutions, shares = [], [], []
    for ridge in ridges:
        inverse = np.linalg.inv(x.T @ x + 60 * np.diag(ridge.double().numpy()))
        left = np.eye(60) - x @ inverse @ x.T
        errors.append(60 * np.square(left @ y).sum(0) / np.trace(left) ** 2)
        solutions.append(inverse @ x.T @ y)
        shares.append((np.trace(left) / 60) ** 2)
    best = np.argmin(errors, 0)
    assert best.tolist() == [2, 0]
    for i, chosen in enumerate(best):
        np.testing.assert_allclose(coefficients[:, i], solutions[chosen][:, i], rtol=1e-8)
        np.testing.assert_allclose(share[i], shares[chosen], rtol=1e-8)


def test_scales_and_coordinates_come_from_parts() -> None:
    x = rows(500, 2, 3)
    one, other = Standardise(2, 3), Standardise(2, 3)
    one.fit(x)
    other.fit_parts(in_parts(x, 50, 300))
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(one.sd, other.sd, rtol=1e-9, atol=0)
    prior = Prior({"a": Normal(0.0, 1.0)})
    free = Vector("free", ("x", "y"))
    plain, parted = Coordinates(prior, (free,)), Coordinates(prior, (free,))
    draws = rows(500, 2)
    plain.fit({"free": draws})
    parted.fit_parts({"free": part} for part in in_parts(draws, 3, 77))
    np.testing.assert_allclose(parted.mean, draws.double().numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(parted.sd, draws.double().numpy().std(0, ddof=1), rtol=1e-9)
    torch.testing.assert_close(plain.sd, parted.sd, rtol=1e-9, atol=0)


@pytest.mark.parametrize("sizes", [(), (60, 1, 100)])
def test_components_of_parts_that_are_held_are_exact(sizes: tuple[int, ...]) -> None:
    x = rows(300, 8, offset=3.0) * torch.arange(1.0, 9.0)
    found = Leading(3)
    for part in in_parts(x, *sizes):
        found.add(part)
    variance, directions = found.result()
    values, vectors = np.linalg.eigh(np.cov(x.double().numpy().T))
    np.testing.assert_allclose(variance, values[::-1][:3], rtol=1e-10)
    np.testing.assert_allclose(np.abs(np.sum(directions.numpy() * vectors[:, ::-1][:, :3], 0)), 1.0)


def test_components_of_more_than_is_held_find_what_stands_out() -> None:
    """Four directions above white noise, of which no more than 2 x 6 components are remembered."""
    signal = rows(400, 4, offset=0.0) * torch.tensor([9.0, 7.0, 5.0, 4.0])
    basis = torch.linalg.qr(rows(200, 4, offset=0.0))[0]
    x = 5.0 + signal @ basis.T + 0.3 * torch.randn(400, 200, generator=generator(1))
    found, centred = Leading(6, held=40 * 200), x.double() - x.double().mean(0)
    for part in x.split(25):
        found.add(part)
    variance, directions = found.result()
    exact, along = leading(centred, 4)
    torch.testing.assert_close(found.mean, x.double().mean(0))
    torch.testing.assert_close(variance[:4], exact, rtol=1e-3, atol=0)
    overlap = torch.linalg.svdvals(directions[:, :4].T @ along)
    assert float(overlap.min()) > 0.9999


def test_components_read_no_more_parts_than_they_need() -> None:
    read = []

    def parts() -> object:
        for i in range(10):
            read.append(i)
            yield rows(1024, 5)

    PrincipalComponents(5, 3).fit_parts(parts())
    assert read == [0, 1]


# --- rows that are gone through several times -------------------------------------------------


def filled(spill: Spill) -> dict[str, Tensor]:
    values = {"map/1": rows(90, 4, 5), "label": torch.arange(90)}
    for first in range(0, 90, 20):
        spill.add({name: value[first : first + 20] for name, value in values.items()})
    return values


@pytest.mark.parametrize("held", [90 * 21, 90 * 21 - 1, 0])
def test_what_does_not_fit_lies_in_files_and_comes_back(tmp_path: Path, held: int) -> None:
    with Spill(tmp_path, held=held, part=30 * 21) as spill:
        values = filled(spill)
        for _ in range(2):
            parts = list(spill.parts())
            assert len(parts) == (1 if held >= 90 * 21 else 3)
            for name, value in values.items():
                assert torch.equal(torch.cat([part[name] for part in parts]), value)
        assert all(set(part) == {"label"} for part in spill.parts("label"))
        assert bool(list(tmp_path.iterdir())) == (held < 90 * 21)
        some = spill.parts().up_to(50).through(lambda part: {"twice": 2 * part["label"]}).joined()
        assert torch.equal(some["twice"], 2 * torch.arange(50))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [90 * 21, 0])
def test_each_pass_through_files_is_told(tmp_path: Path, held: int) -> None:
    told: dict[str, list[int]] = {}

    class Listening(QuietMonitor):
        def progress(
            self, title: str, total: int, start: int = 0
        ) -> AbstractContextManager[Callable[[int], None]]:
            assert (total, start) == (90, 0)
            return nullcontext(told.setdefault(title, []).append)

    with Spill(tmp_path, held=held, part=30 * 21, monitor=Listening(), title="fitting") as spill:
        filled(spill)
        for names in ((), ("label",)):
            assert len(spill.parts(*names).joined()["label"]) == 90
    if held:
        assert told == {}  # of what is in memory nothing
    else:
        assert list(told) == ["fitting, pass 1", "fitting, pass 2"]
        assert all(sum(counts) == 90 and len(counts) == 3 for counts in told.values())


def test_files_are_gone_after_an_error_and_damage_is_seen(tmp_path: Path) -> None:
    def damage() -> None:
        with Spill(tmp_path, held=0, part=1) as spill:
            filled(spill)
            path = next(tmp_path.rglob("*.safetensors"))
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            spill.parts().joined()

    with pytest.raises(CheckpointError, match="cannot be read"):
        damage()
    assert list(tmp_path.iterdir()) == []


def test_a_part_in_memory_is_itself() -> None:
    x = rows(5, 2)
    assert Parts.held({"x": x}).joined()["x"] is x


@pytest.mark.parametrize("sizes", [(), (1,), (0, 3), (100, 1, 1, 250)])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_joined_rows_are_all_rows_in_order(sizes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = rows(500, *shape)
    parts = in_parts(x, *sizes)
    before = [part.clone() for part in parts]
    found = Parts(lambda: iter({"x": part, "n": part.long()} for part in parts)).joined()
    torch.testing.assert_close(found["x"], x, rtol=0, atol=0)
    torch.testing.assert_close(found["n"], x.long(), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(parts, before, strict=True))


LARGE_PARTS = """
import resource
import torch
from sbikit.learning import Parts

def go():
    for _ in range(60):
        yield {"x": torch.zeros(25, 15, 64, 128)}

def small(part):
    x = part["x"]
    modes, wide = torch.fft.fft2(x), (x - x.mean()).double()
    found = [modes.abs().mean((-1, -2)), wide.square().mean((-1, -2)).float(), x.flatten(2).mean(-1)]
    return {"s": torch.cat(found, 1)}

torch.fft.fft2(torch.zeros(2, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = Parts(go).through(small).joined()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_small_results_of_large_parts_take_little_memory() -> None:
    """Megabytes beside the few that a part takes; kept as they come they make the heap grow by 570."""
    found = subprocess.run([sys.executable, "-c", LARGE_PARTS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 300
