"""Draws that fail are left out of the endless stream, and what remains has the law given that it works.

The right values are made by brute force from a toy that never fails: the first good one of each draw's
attempts, and by a conditional law that is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from failing import LIMIT, Crashes, Hangs, Never, NotFinite, Raises, good
from numpy.typing import NDArray

from sbikit import (
    OptionError,
    QuietMonitor,
    SimulationError,
    Simulations,
    Simulator,
    UnsupportedError,
    Values,
    draw_seeds,
)
from sbikit.simulations import attempt, run_simulator, simulating, too_many
from sbikit.simulations.left_out import LeftOut, LeftOutDraw, Ranges
from sbikit.simulations.returned import finite_rows
from sbikit.testing import GaussianVector
from sbikit.workers.pool import Pool
from sbikit.workers.processes import Processes

TOY = GaussianVector()


def plain(stream: str, draw: int, number: int) -> Values:
    """Attempt `number` at a draw of the toy that never fails, each (1, *shape)."""
    name = f"{stream}/attempt {number}" if number else stream
    parameters = TOY.prior.sample(draw_seeds(0, f"{name}/parameters", draw, 1))
    seeds = draw_seeds(0, f"{name}/simulator", draw, 1)
    return {**parameters, **run_simulator(TOY, parameters, seeds)}


def by_brute_force(name: str, stream: str, first: int, count: int) -> tuple[Values, list[tuple[int, int]]]:
    """The first good attempt at each draw, each (count, *shape), and (draw, attempt) of those that fail."""
    found, failed = [], []
    for draw in range(first, first + count):
        number = 0
        while not good(name, one := plain(stream, draw, number)):
            failed.append((draw, number))
            number += 1
        found.append(one)
    return {key: torch.cat([one[key] for one in found]) for key in found[0]}, failed


def pool(simulator: Simulator, workers: int) -> Callable[[], Pool] | None:
    return None if workers == 0 else lambda: Processes(simulating(simulator), workers)


def equal(one: Values, other: Values) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("toy", [Raises, NotFinite])
@pytest.mark.parametrize("sizes", [[64], [1] * 20 + [44], [33, 31]])
def test_a_draw_is_the_first_good_one_of_its_attempts(toy: type[Simulator], sizes: list[int]) -> None:
    stream = Simulations(toy(), 0, max_failures=0.9)
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    parts = [stream.training(start, size) for start, size in zip(starts, sizes, strict=True)]
    expected, failed = by_brute_force(toy.__name__, "training", 0, 64)
    assert equal({key: torch.cat([part[key] for part in parts]) for key in parts[0]}, expected)
    assert [(one.draw, one.attempt) for one in stream.left_out.records] == failed
    assert len(failed) > 5
    assert (stream.left_out.tried, stream.left_out.failed) == (64 + len(failed), len(failed))
    held_out, _ = by_brute_force(toy.__name__, "held-out", 7, 9)
    assert equal(stream.held_out(7, 9), held_out)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_draw_the_same_and_leave_the_same_out(workers: int) -> None:
    stream = Simulations(NotFinite(), 0, max_failures=0.9, workers=pool(NotFinite(), workers))
    try:
        parts = [stream.training(first, 4) for first in range(0, 24, 4)]  # from the third on drawn ahead
        parts += [stream.training(24, 8), stream.held_out(0, 8), stream.training(32, 8)]
        again = stream.training(8, 4)
    finally:
        stream.close()
    expected, failed = by_brute_force("NotFinite", "training", 0, 40)
    held_out, failed_held_out = by_brute_force("NotFinite", "held-out", 0, 8)
    assert equal(parts.pop(-2), held_out)
    assert equal({key: torch.cat([part[key] for part in parts]) for key in parts[0]}, expected)
    assert equal(again, {key: value[8:12] for key, value in expected.items()})
    records = [(one.draw, one.attempt) for one in stream.left_out.records if one.stream == "training"]
    assert records == failed
    assert stream.left_out.tried == 48 + len(failed) + len(failed_held_out)


def test_a_draw_that_takes_its_process_along_fails_and_the_others_do_not() -> None:
    expected, failed = by_brute_force("Crashes", "training", 2, 4)
    assert len(failed) == 1
    stream = Simulations(Crashes(), 0, max_failures=0.9, workers=pool(Crashes(), 1))
    try:
        assert equal(stream.training(2, 4), expected)
    finally:
        stream.close()
    (record,) = stream.left_out.records
    assert ((record.draw, record.attempt), record.kind) == (failed[0], "raised")
    assert record.words == "it ends its process: SIGSEGV"


def test_the_law_is_that_given_that_the_simulator_works() -> None:
    draws = Simulations(Raises(), 0, max_failures=0.9).training(0, 4000)
    a, b = draws["theta"].double().numpy().T
    assert a.max() <= LIMIT
    law = scipy.stats.truncnorm(-np.inf, (LIMIT - 1.0) / 0.5, loc=1.0, scale=0.5)
    assert scipy.stats.kstest(a, law.cdf).pvalue > 0.01
    assert scipy.stats.kstest(b, scipy.stats.norm(-2.0, 1.5).cdf).pvalue > 0.01
    # x = A theta + b + noise, whose distribution given theta is as it was
    residual = (draws["x"].double() - draws["theta"].double() @ TOY.matrix.T - TOY.offset) / TOY.noise_sd
    for column in residual.T.numpy():
        assert scipy.stats.kstest(column, scipy.stats.norm.cdf).pvalue > 0.01


@pytest.mark.parametrize("workers", [0, 2])
def test_a_draw_that_outlasts_its_limit_fails_and_the_others_do_not(workers: int) -> None:
    expected, failed = by_brute_force("Hangs", "training", 2, 4)
    assert len(failed) == 1
    stream = Simulations(Hangs(), 0, max_failures=0.9, timeout=1.0, workers=pool(Hangs(), workers))
    try:
        found = [stream.training(first, 2) for first in (2, 4)]
    finally:
        stream.close()
    assert equal({key: torch.cat([part[key] for part in found]) for key in found[0]}, expected)
    assert [(one.draw, one.attempt) for one in stream.left_out.records] == failed
    assert {(one.kind, one.words) for one in stream.left_out.records} == {("timeout", "longer than 1 s")}


# --- when it is too much --------------------------------------------------------------------


def test_by_default_the_first_failing_draw_is_an_error() -> None:
    _, failed = by_brute_force("Raises", "training", 0, 64)
    with pytest.raises(SimulationError, match=r"Raises.simulate raised ValueError: no solution") as caught:
        Simulations(Raises(), 0).training(0, 64)
    assert caught.value.where.startswith(f"draw {failed[0][0]} (a=")
    with pytest.raises(SimulationError, match="not finite"):
        Simulations(NotFinite(), 0).training(0, 64)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_failures_than_may_be_end_it_with_counts_reasons_and_an_example(workers: int) -> None:
    stream = Simulations(Raises(), 0, max_failures=0.05, workers=pool(Raises(), workers))

    def draw_all() -> None:
        for first in range(0, 4096, 64):
            stream.training(first, 64)

    try:
        with pytest.raises(SimulationError, match=r"Raises.simulate fails in \d+ of \d+ draws") as caught:
            draw_all()
    finally:
        stream.close()
    assert "at most 5 % (simulations.max_failures)" in caught.value.expected
    assert caught.value.got.endswith(" raised")
    assert "ValueError: no solution at a = " in caught.value.where


def test_a_simulator_that_never_works_ends_it_soon() -> None:
    with pytest.raises(SimulationError, match=r"fails in \d+ of \d+ draws") as caught:
        Simulations(Never(), 0, max_failures=0.1).training(0, 40)
    assert "40 raised" in caught.value.got
    with pytest.raises(SimulationError, match=r"fails in \d+ of \d+ draws"):
        Simulations(Never(), 0, max_failures=0.9).training(0, 1)


def test_what_another_draw_would_not_mend_is_an_error_whatever_is_allowed() -> None:
    class Narrow(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> Values:
            return {"x": super().simulate(parameters, seeds=seeds)["x"][:, :2]}

    class Refuses(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> Values:
            raise UnsupportedError("not with these options")

    with pytest.raises(SimulationError, match="wrong shape"):
        Simulations(Narrow(), 0, max_failures=0.9).training(0, 8)
    with pytest.raises(UnsupportedError, match="not with these options"):
        Simulations(Refuses(), 0, max_failures=0.9).training(0, 8)


def test_resolution_is_judged_by_the_good_draws() -> None:
    """Half a gap between float32 numbers is refused though one draw in the batch is not finite."""

    class Offset(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> Values:
            x = super().simulate(parameters, seeds=seeds)["x"].double() + 1e8
            x[3, 1] = float("inf")
            return {"x": x}

    with pytest.raises(SimulationError, match="do not resolve"):
        Simulations(Offset(), 0, max_failures=0.5).training(0, 32)


@pytest.mark.parametrize("share", [-0.1, 0.95, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match="out of range"):
        Simulations(TOY, 0, max_failures=share)


def test_too_many_is_more_than_chance_explains() -> None:
    assert too_many(1, 1000, 0.0)
    assert not too_many(0, 1000, 0.0)
    for n in (32, 100, 1000, 100_000):
        law = scipy.stats.binom(n, 0.1)
        least = next(k for k in range(n) if too_many(k, n, 0.1))
        assert 1e-4 < law.sf(least - 1) < 6e-3
    assert not too_many(3, 3, 0.1)  # of three draws nothing can be said


# --- the record -----------------------------------------------------------------------------


def test_a_draw_counts_once_however_often_it_is_asked_for() -> None:
    stream = Simulations(Raises(), 0, max_failures=0.9)
    for first, count in ((0, 32), (0, 32), (16, 32), (60, 4), (40, 24)):
        stream.training(first, count)
    _, failed = by_brute_force("Raises", "training", 0, 64)
    assert sorted((one.draw, one.attempt) for one in stream.left_out.records) == failed
    assert stream.left_out.tried == 64 + len(failed)
    assert stream.left_out.kinds == {"raised": len(failed)}


def test_the_record_of_an_interrupted_run_counts(tmp_path: Path) -> None:
    path = tmp_path / "left-out.jsonl"
    for first in (0, 32):
        Simulations(Raises(), 0, left_out=LeftOut(0.9, path)).training(first, 32)
    resumed, whole = LeftOut(0.9, path), Simulations(Raises(), 0, max_failures=0.9)
    whole.training(0, 64)
    assert resumed.records == whole.left_out.records
    assert (resumed.tried, resumed.kinds) == (whole.left_out.tried, whole.left_out.kinds)
    path.write_text(path.read_text()[:-40])  # a crash while the last line was written
    assert LeftOut(0.9, path).failed < whole.left_out.failed


def test_ranges_tell_what_is_new_of_them() -> None:
    random = np.random.default_rng(0)
    ranges, seen = Ranges(), set[int]()
    for _ in range(300):
        start = int(random.integers(0, 500))
        end = start + int(random.integers(1, 20))
        new = {i for low, high in ranges.add(start, end) for i in range(low, high)}
        assert new == set(range(start, end)) - seen
        seen |= new
        assert [i for low, high in ranges.parts for i in range(low, high)] == sorted(seen)
        assert all(a[1] < b[0] for a, b in zip(ranges.parts, ranges.parts[1:], strict=False))


def test_all_failures_are_counted_and_the_first_kept() -> None:
    record = LeftOut(0.9)
    many = [LeftOutDraw("training", i, 0, {"a": 1.0}, "raised", "no") for i in range(12_000)]
    record.add("training", 0, [2] * 12_000, many)
    assert (record.failed, len(record.records), record.tried) == (12_000, 10_000, 24_000)


# --- pieces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", [Raises, NotFinite])
def test_an_attempt_tells_good_rows_from_failed_ones(toy: type[Simulator]) -> None:
    found = attempt(toy(), 0, "training", 5, 40)
    for row in range(40):
        one = plain("training", 5 + row, 0)
        assert torch.equal(found.parameters["theta"][row], one["theta"][0])
        assert (row in found.failures) == (not good(toy.__name__, one))
        expected = torch.zeros(3) if row in found.failures else one["x"][0]
        assert torch.equal(found.outputs["x"][row], expected)
    assert found.failures
    assert np.array_equal(found.seeds, draw_seeds(0, "training/simulator", 5, 40))
    assert (found.seconds > 0).all()


def test_the_first_draws_are_checked_with_the_seeds_of_their_attempts() -> None:
    stream = Simulations(Raises(), 0, max_failures=0.9)
    held_out = stream.held_out(0, 32)
    assert any(one.stream == "held-out" for one in stream.left_out.records)
    stream.check(held_out, QuietMonitor())


def test_a_limited_stream_is_checked_within_its_limit() -> None:
    stream = Simulations(NotFinite(), 0, max_failures=0.9, timeout=60.0)
    held_out = stream.held_out(0, 4)
    stream.check(held_out, QuietMonitor())
    stream.close()


TYPES = ["float16", "bfloat16", "float32", "float64", "uint8", "uint16", "int64", "bool"]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(1,), (37,), (3, 33, 5)])
def test_rows_are_finite_where_numpy_finds_all_values_so(name: str, shape: tuple[int, ...]) -> None:
    dtype = getattr(torch, name)
    values = torch.from_numpy(np.random.default_rng(3).normal(0.0, 2.0, (64, *shape))).abs().to(dtype)
    if dtype.is_floating_point:
        rows = values.flatten(1)
        for row, bad in enumerate((np.nan, np.inf, -np.inf) * 8):
            rows[row, (7 * row) % rows.shape[1]] = bad
        rows[24, 0], rows[24, -1] = -np.inf, np.inf
        rows[25] = torch.finfo(dtype).max  # finite, though no sum of them is
    expected = np.isfinite(values.double().numpy()).reshape(64, -1).all(1)
    assert finite_rows({"x": values}).tolist() == expected.tolist()
    assert expected.all() != dtype.is_floating_point
    other = torch.zeros(64, 2).index_fill(0, torch.tensor([40]), np.nan)
    expected[40] = False
    assert finite_rows({"x": values, "y": other}).tolist() == expected.tolist()
