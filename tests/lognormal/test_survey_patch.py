"""The survey's noise, mask and depth against the numbers they are asked for, and files that do not fit."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from sbikit import OptionError, draw_seeds, normals
from sbikit_lognormal.options import DepthFile, MaskFile, StarMask, VaryingDepth
from sbikit_lognormal.survey import (
    LEAST_USABLE,
    Survey,
    cut,
    embed,
    make_survey,
    relative_density,
    usable_fraction,
)

SIZE = 16
EXTENT = 4.0
N_GAL = [6.0, 3.0]
SIGMA_E = [0.26, 0.3]
STARS = StarMask(density=6.0, radius=4.0, seed=3)
DEPTH = VaryingDepth(scatter=0.25, scale=40.0, seed=1)


def survey() -> Survey:
    """A masked survey of varying depth in two bins."""
    return make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=STARS, depth=DEPTH)


def white(count: int) -> Tensor:
    """Standard normal numbers (count, bins, 2, N, N), float64."""
    return normals(draw_seeds(1, "white", 0, count), (2, 2, SIZE, SIZE)).double()


def digest(made: Survey) -> str:
    """A fingerprint of a survey's arrays."""
    return hashlib.sha256(made.mask.numpy().tobytes() + made.noise.numpy().tobytes()).hexdigest()


def shape_noise(sigma_e: float, n_gal: float) -> float:
    """sigma_e over the root of the galaxies in a pixel."""
    return sigma_e / math.sqrt(n_gal) / (EXTENT * 60.0 / SIZE)


def test_noise_of_the_reference_survey() -> None:
    # 0.26 / sqrt(27) on a pixel of one square arcminute; ten times less on a hundred of them.
    for extent, expected in ((1.0, 0.050037), (10.0, 0.0050037)):
        noise = make_survey(60, extent, [27.0], [0.26]).noise
        assert float(noise[0, 3, 5]) == pytest.approx(expected, rel=1e-4)


def test_a_uniform_survey_is_the_shape_noise_alone() -> None:
    made = make_survey(SIZE, EXTENT, N_GAL, SIGMA_E)
    expected = [shape_noise(s, n) for s, n in zip(SIGMA_E, N_GAL, strict=True)]
    assert made.uniform
    assert bool(made.mask.all())
    assert made.noise.amax((-2, -1)).tolist() == pytest.approx(expected, rel=1e-14)
    assert made.noise.amin((-2, -1)).tolist() == pytest.approx(expected, rel=1e-14)
    shear, numbers = white(3), white(3).flip(0)
    by_hand = shear + torch.tensor(expected, dtype=torch.float64)[:, None, None, None] * numbers
    torch.testing.assert_close(made.observe(shear, numbers), by_hand, rtol=1e-13, atol=1e-15)


def test_noise_follows_usable_area_and_depth(tmp_path: Path) -> None:
    usable, density = np.ones((SIZE, SIZE)), np.ones((SIZE, SIZE))
    usable[2, 5], density[7, 1], density[7, 2] = 0.5, 1.75, 0.25
    np.save(tmp_path / "mask.npy", usable)
    np.savez(tmp_path / "depth.npz", density=12.0 * density)
    mask, depth = MaskFile(path=str(tmp_path / "mask.npy")), DepthFile(path=str(tmp_path / "depth.npz"))
    noise = make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=mask, depth=depth).noise
    plain = shape_noise(SIGMA_E[1], N_GAL[1])
    assert float(noise[1, 0, 0]) == pytest.approx(plain, rel=1e-14)
    assert float(noise[1, 2, 5]) == pytest.approx(plain * math.sqrt(2.0), rel=1e-14)
    assert float(noise[1, 7, 1]) == pytest.approx(plain / math.sqrt(1.75), rel=1e-14)
    assert float(noise[1, 7, 2]) == pytest.approx(plain * 2.0, rel=1e-14)


def test_realisations_have_the_noise_of_each_pixel_and_bin() -> None:
    made, count = survey(), 1000
    shear = white(1)
    observed = made.observe(shear.expand(count, -1, -1, -1, -1), white(count))
    squares = (observed - shear).square().sum((0, 2))[:, made.mask]
    ratio = squares / made.noise[:, made.mask].square()
    low, high = chi2.ppf([0.5e-4 / ratio.numel(), 1 - 0.5e-4 / ratio.numel()], 2 * count)
    assert low < float(ratio.min())
    assert float(ratio.max()) < high
    total = chi2.ppf([1e-4, 1 - 1e-4], 2 * count * ratio.numel())
    assert total[0] < float(ratio.sum()) < total[1]
    assert float(made.noise[0, made.mask].max()) > 1.2 * float(made.noise[0, made.mask].min())


def test_masked_pixels_are_exactly_zero() -> None:
    made = survey()
    observed = made.observe(white(5), white(5))
    assert 0 < int((~made.mask).sum()) < SIZE**2 // 2
    assert bool((observed[..., ~made.mask] == 0).all())
    assert bool((observed[..., made.mask] != 0).all())
    assert bool((made.noise[:, ~made.mask] == 0).all())
    assert bool((made.weight[:, ~made.mask] == 0).all())
    product = (made.weight * made.noise.square())[:, made.mask]
    torch.testing.assert_close(product, torch.ones_like(product), rtol=1e-14, atol=0.0)


def test_another_precision_is_the_same_survey() -> None:
    single = survey().to(torch.float32, "cpu")
    observed = single.observe(white(2).float(), white(2).float())
    assert observed.dtype == torch.float32
    expected = survey().observe(white(2), white(2))
    torch.testing.assert_close(observed.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_maps_are_the_same_between_calls_and_processes() -> None:
    code = "from test_survey_patch import digest, survey; print(digest(survey()))"
    folder = str(Path(__file__).parent)
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert digest(survey()) == digest(survey()) == other.stdout.strip()
    other_stars, other_depth = (options.model_copy(update={"seed": 7}) for options in (STARS, DEPTH))
    for mask, depth in ((other_stars, DEPTH), (STARS, other_depth)):
        changed = make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=mask, depth=depth)
        assert digest(changed) != digest(survey())


def test_stars_hide_the_area_that_density_and_radius_say() -> None:
    options = [StarMask(density=5.0, radius=3.0, seed=seed) for seed in range(12)]
    free = np.array([usable_fraction(mask, 64, 15.0).mean() for mask in options])
    expected = math.exp(-2.6 * math.pi * 5.0 * (3.0 / 60.0) ** 2)
    error = float(free.std(ddof=1)) / math.sqrt(len(free))
    assert 4 * error < 0.1 * (1 - expected)
    assert abs(free.mean() - expected) < 4 * error


def test_the_stars_do_not_move_with_the_pixels() -> None:
    coarse, fine = usable_fraction(STARS, 16, 4.0), usable_fraction(STARS, 32, 4.0)
    assert ((coarse > 0) & (coarse < 1)).any()
    np.testing.assert_allclose(fine.reshape(16, 2, 16, 2).mean((1, 3)), coarse, atol=0.03)


def test_an_edge_is_masked() -> None:
    usable = usable_fraction(StarMask(density=0.0, edge=7.5), SIZE, EXTENT)
    expected = np.ones((SIZE, SIZE))
    expected[[0, -1], :] *= 0.5
    expected[:, [0, -1]] *= 0.5
    np.testing.assert_array_equal(usable, expected)


def test_pixels_less_than_a_quarter_usable_are_masked(tmp_path: Path) -> None:
    usable = np.full((SIZE, SIZE), LEAST_USABLE)
    usable[0, 0] = LEAST_USABLE - 1e-9
    np.save(tmp_path / "mask.npy", usable)
    made = make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=MaskFile(path=str(tmp_path / "mask.npy")))
    assert not bool(made.mask[0, 0])
    assert int(made.mask.sum()) == SIZE**2 - 1


def test_a_boolean_file_marks_what_is_observed(tmp_path: Path) -> None:
    observed = np.ones((SIZE, SIZE), dtype=bool)
    observed[3, 4] = False
    np.save(tmp_path / "mask.npy", observed)
    made = make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=MaskFile(path=str(tmp_path / "mask.npy")))
    np.testing.assert_array_equal(made.mask.numpy(), observed)


@pytest.mark.parametrize("scale", [5.0, 60.0, 600.0])
def test_depth_has_the_asked_mean_and_scatter(scale: float) -> None:
    density = relative_density(VaryingDepth(scatter=0.4, scale=scale, seed=2), 32, 10.0)
    assert density.min() > 0
    assert density.mean() == pytest.approx(1.0, abs=1e-12)
    assert density.std() == pytest.approx(0.4, abs=1e-9)


def test_depth_has_the_asked_correlation_length() -> None:
    found = []
    for seed in range(64):
        g = np.log(relative_density(VaryingDepth(scatter=0.1, scale=37.5, seed=seed), 64, 20.0))
        g = (g - g.mean()) / g.std()
        found.append([(g[:, :-2] * g[:, 2:]).mean(), (g[:-4] * g[4:]).mean()])
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    deviation = np.abs(np.mean(found, axis=0) - np.exp([-0.5, -2.0]))
    mean_taken_out = 2 * math.pi * (37.5 / 1200.0) ** 2
    assert (error < 0.01).all()
    assert (deviation < 4 * error + mean_taken_out).all()


def test_cut_and_embed() -> None:
    patch = white(2)
    box = embed(patch, 2 * SIZE)
    assert box.shape == (2, 2, 2, 2 * SIZE, 2 * SIZE)
    assert torch.equal(cut(box, SIZE), patch)
    assert float(box.abs().sum()) == pytest.approx(float(patch.abs().sum()), rel=1e-12)
    assert torch.equal(cut(patch, SIZE), patch)
    assert torch.equal(embed(patch, SIZE), patch)


def spoiled(kind: str) -> np.ndarray:
    """A mask that must be refused."""
    mask = np.ones((SIZE, SIZE))
    if kind == "shape":
        return mask[1:]
    if kind == "text":
        return mask.astype(str)
    mask[1, 2] = {"nan": np.nan, "infinite": np.inf, "negative": -0.1, "above one": 1.1}.get(kind, 1.0)
    return mask if kind != "all masked" else np.zeros_like(mask)


@pytest.mark.parametrize("kind", ["shape", "text", "nan", "infinite", "negative", "above one", "all masked"])
def test_a_map_that_does_not_fit_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    np.save(path, spoiled(kind))
    with pytest.raises(OptionError) as caught:
        make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=MaskFile(path=str(path)))
    error = caught.value
    assert error.where == "simulator.mask.path"
    assert all((error.expected, error.got, error.fix))
    if kind != "above one":
        with pytest.raises(OptionError):
            make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, depth=DepthFile(path=str(path)))


@pytest.mark.parametrize("kind", ["missing", "suffix", "empty", "garbage", "pickle", "two arrays", "bad zip"])
def test_a_file_that_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / {"suffix": "mask.txt", "two arrays": "mask.npz", "bad zip": "mask.npz"}.get(
        kind, "mask.npy"
    )
    ones = np.ones((SIZE, SIZE))
    if kind == "pickle":
        np.save(path, ones.astype(object), allow_pickle=True)
    elif kind == "two arrays":
        np.savez(path, a=ones, b=ones)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "bad zip": b"PK\x03\x04nothing"}.get(kind, b"not an array"))
    with pytest.raises(OptionError, match="No map can be read") as caught:
        make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=MaskFile(path=str(path)))
    assert all((caught.value.where, caught.value.expected, caught.value.got, caught.value.fix))


def test_stars_that_hide_everything_are_refused() -> None:
    with pytest.raises(OptionError, match="whole patch"):
        make_survey(SIZE, EXTENT, N_GAL, SIGMA_E, mask=StarMask(density=200.0, radius=60.0))


@pytest.mark.parametrize(
    ("n_gal", "sigma_e"), [([6.0], SIGMA_E), ([], []), ([6.0, 0.0], SIGMA_E), ([6.0, 3.0], [0.3, math.inf])]
)
def test_bins_that_do_not_fit_are_refused(n_gal: list[float], sigma_e: list[float]) -> None:
    with pytest.raises(OptionError):
        make_survey(SIZE, EXTENT, n_gal, sigma_e)


@pytest.mark.parametrize(("n_gal", "sigma_e"), [(1e-80, 0.26), (10.0, 1e-300), (10.0, 1e-17), (1e300, 0.26)])
def test_noise_that_single_precision_cannot_hold_is_refused(n_gal: float, sigma_e: float) -> None:
    with pytest.raises(OptionError, match="out of range") as caught:
        make_survey(SIZE, EXTENT, [10.0, n_gal], [0.26, sigma_e])
    assert all((caught.value.where, caught.value.expected, caught.value.got, caught.value.fix))


def test_unknown_or_impossible_options_are_refused() -> None:
    for model, values in (
        (StarMask, {"radius": 0.0}),
        (StarMask, {"colour": 1}),
        (VaryingDepth, {"scatter": 0.0}),
        (MaskFile, {}),
    ):
        with pytest.raises(pydantic.ValidationError):
            model(**values)
