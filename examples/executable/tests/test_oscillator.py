"""The program against the closed form and normal noise, its errors, its folders, and the exact posterior."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from sbikit import PluginError, Simulations, draw_seeds
from sbikit.testing import check_simulator
from sbikit_oscillator import program
from sbikit_oscillator.exact import displacement, moments
from sbikit_oscillator.program import ProgramError, called, interpreter
from sbikit_oscillator.simulator import DURATION, Oscillator, OscillatorOptions

GIVEN = {
    "frequency": 0.5,
    "damping": 0.3,
    "noise": 0.0,
    "steps": 200,
    "times": 20,
    "spacing": DURATION / 20,
    "seed_1": 1,
    "seed_2": 2,
}
TIMES = DURATION / 20 * np.arange(1, 21)


def test_contract() -> None:
    check_simulator(Oscillator(OscillatorOptions(steps=2)))


@pytest.mark.parametrize(("frequency", "damping"), [(0.3, 0.05), (0.3, 0.8), (0.7, 0.05), (0.7, 0.8)])
def test_without_noise_it_is_the_closed_form(frequency: float, damping: float) -> None:
    found = called(interpreter(), {**GIVEN, "frequency": frequency, "damping": damping}, seconds=60)
    expected = displacement(TIMES, np.array(frequency), np.array(damping))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_noise_is_normal_and_independent_between_times_and_seeds() -> None:
    count, simulator = 300, Oscillator(OscillatorOptions(noise=0.5, steps=1))
    theta = np.broadcast_to(np.float32([0.5, 0.3]), (count, 2))
    clean = called(interpreter(), {**GIVEN, "steps": 1}, seconds=60)
    for seeds in (np.arange(count), draw_seeds(0, "noise", 0, count)):  # close seeds and far ones
        noise = (simulator.simulate({"theta": theta}, seeds=seeds)["displacement"][:, 0] - clean) / 0.5
        assert kstest(noise.ravel(), "norm").pvalue > 1e-3
        assert kstest(noise[:, 0], "norm").pvalue > 1e-3
        for pairs in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1]):
            assert abs(pairs.mean()) < 4 / pairs.size**0.5


WRONG = {
    'BEGIN { print "no such star" > "/dev/stderr"; exit 3 }': "status 3: no such star",
    "BEGIN { exit 0 }": "cannot be read",
    'BEGIN { print "1 two" > ARGV[2] }': "cannot be read",
    'BEGIN { print "1 2" > ARGV[2] }': r"shape \(1, 2\)",
    "BEGIN { while (1) x++ }": "did not end within 0.5 s",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_goes_wrong_is_said(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "wrong.awk"
    script.write_text(text)
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(program, "_SCRIPT", script)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    with pytest.raises(ProgramError, match=WRONG[text]):
        called(interpreter(), GIVEN, seconds=0.5)
    assert not list((tmp_path / "work").iterdir())


def test_a_parameter_that_is_missing_is_named_by_the_program() -> None:
    with pytest.raises(ProgramError, match="status 1: oscillator: no number: damping"):
        called(interpreter(), {**GIVEN, "damping": float("nan")}, seconds=60)


def test_without_awk_the_simulator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PluginError, match="needs the program awk"):
        Oscillator()


def test_many_at_once_are_the_same_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    simulator = Oscillator(OscillatorOptions(steps=1))
    drawn = simulator.prior.sample(draw_seeds(0, "parameters", 0, 64))["theta"]
    seeds = draw_seeds(0, "seeds", 0, 64)
    expected = simulator.simulate({"theta": drawn}, seeds=seeds)["displacement"]

    def one(row: int) -> np.ndarray:
        rows = slice(row, row + 1)
        return simulator.simulate({"theta": drawn[rows]}, seeds=seeds[rows])["displacement"][0]

    with ThreadPoolExecutor(16) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(one, range(64)))), expected)
    assert not list(tmp_path.iterdir())


def test_the_exact_posterior_is_calibrated_and_does_not_depend_on_the_grid() -> None:
    simulator = Oscillator(OscillatorOptions(steps=20))
    held_out = Simulations(simulator, 3).held_out(0, 100)
    data = held_out["displacement"][:, 0].numpy()
    mean, sd = moments(simulator, data)
    z = ((held_out["theta"].numpy() - mean) / sd).ravel()
    assert abs(z.mean()) < 4 / 200**0.5
    assert abs((z**2).mean() - 1) < 4 * (2 / 200) ** 0.5
    coarse, wide = moments(simulator, data[:5], nodes=200)
    np.testing.assert_allclose(coarse, mean[:5], atol=0.01 * sd[:5].min())
    np.testing.assert_allclose(wide, sd[:5], rtol=0.01)
