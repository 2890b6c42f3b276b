"""Kept simulations are those of the endless stream, to the bit, whatever becomes of who keeps them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from fragile import IDENTITY, Fragile, fill
from interruption import CuttingMonitor

from sbikit import Field, Simulations, draw_seeds
from sbikit.problem.errors import PluginError, SimulationError, StoreError
from sbikit.problem.variables import Vector
from sbikit.simulations.keeping import Asked, mend
from sbikit.simulations.layout import GOOD, rows_of_a_chunk
from sbikit.simulations.store import Store
from sbikit.simulations.stored import Stored
from sbikit.simulations.writer import writing
from sbikit.storage.seals import sealed


def stored(path: Path, count: int, seed: int = 9) -> Stored:
    return Stored(Store.open(path, Fragile(), IDENTITY), Simulations(Fragile(), seed), count)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# --- the draws --------------------------------------------------------------------------------------------


def test_kept_draws_are_those_of_the_endless_stream(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 700)
    kept, endless = stored(tmp_path / "s.zarr", 700), Simulations(Fragile(), 5)
    assert kept.size == 700
    assert kept.seed == 5
    for first, count in ((0, 700), (250, 20), (699, 1)):
        assert_same(kept.training(first, count), endless.training(first, count))
    assert_same(kept.held_out(3, 4), Simulations(Fragile(), 9).held_out(3, 4))


def test_files_hold_the_bytes_of_the_draws(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 300)
    raw = np.fromfile(tmp_path / "s.zarr/values/x/c.1.0", dtype="<f4").reshape(256, 3)
    assert np.array_equal(raw[:44], Simulations(Fragile(), 5).training(256, 44)["x"].numpy())
    seeds = np.fromfile(tmp_path / "s.zarr/seed/c.0", dtype="<i8")[:300]
    assert np.array_equal(seeds, draw_seeds(5, "training/simulator", 0, 300))


def test_zarr_reads_what_is_kept(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 250)
    fill(tmp_path / "s.zarr", 300)
    group, endless = zarr.open_group(tmp_path / "s.zarr", mode="r"), Simulations(Fragile(), 5)
    for name, value in endless.training(0, 300).items():
        assert np.array_equal(np.asarray(group[f"values/{name}"]), value.numpy())
    assert np.array_equal(np.asarray(group["seed"]), draw_seeds(5, "training/simulator", 0, 300))
    assert np.asarray(group["status"]).tolist() == [1] * 300
    assert sorted(name for name, _ in group.members()) == ["digest", "seconds", "seed", "status", "values"]


def test_a_store_grows_and_draws_nothing_twice(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for count in (3, 300, 301, 600, 200):
        fill(tmp_path / "s.zarr", count, Fragile(trace=trace))
    asked_for = Counter(line.split()[0] for line in trace.read_text().splitlines())
    assert sorted(asked_for) == sorted(str(seed) for seed in draw_seeds(5, "training/simulator", 0, 600))
    assert set(asked_for.values()) == {1}
    assert_same(stored(tmp_path / "s.zarr", 600).training(0, 600), Simulations(Fragile(), 5).training(0, 600))
    assert stored(tmp_path / "s.zarr", 200).size == 200


def test_content_depends_on_the_draws_alone(tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole.zarr", 300)
    fill(tmp_path / "grown.zarr", 10)
    assert fill(tmp_path / "grown.zarr", 300, workers=2).content == whole.content
    assert fill(tmp_path / "other.zarr", 300, seed=6).content != whole.content
    assert fill(tmp_path / "grown.zarr", 299).content != whole.content


def test_readers_read_on_while_a_store_grows(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 300)
    kept = stored(tmp_path / "s.zarr", 300)
    fill(tmp_path / "s.zarr", 600)
    assert_same(kept.training(0, 300), Simulations(Fragile(), 5).training(0, 300))


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 20)
    with pytest.raises(PluginError, match="not so many"):
        stored(tmp_path / "s.zarr", 20).training(15, 6)


@pytest.mark.parametrize("seed", [0, 5, 2**62])
def test_a_store_and_a_held_out_stream_share_no_seed_whatever_theirs_are(seed: int) -> None:
    n = 20_000
    for purpose in ("parameters", "simulator"):
        kept = draw_seeds(seed, f"training/{purpose}", 0, n)
        for other in (seed, 0, 5, 7, 2**62):
            assert not np.intersect1d(kept, draw_seeds(other, f"held-out/{purpose}", 0, n)).size


@pytest.mark.parametrize(
    ("grid", "seconds", "rows"),
    [
        ((4,), 0.001, 256),  # many draws are enough
        ((512, 512), 0.001, 3),  # 1,048,588 bytes a draw: three are the last below 4 MiB
        ((4096, 4096), 0.001, 1),
        ((4,), 0.5, 20),
        ((4,), 3600.0, 1),
    ],
)
def test_chunks_hold_some_megabytes_and_some_seconds(
    grid: tuple[int, ...], seconds: float, rows: int
) -> None:
    assert rows_of_a_chunk((Vector("theta", ("a", "b", "c")), Field("map", grid)), seconds) == rows


# --- kills ------------------------------------------------------------------------------------------------

_FILL = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from fragile import Fragile, fill
import sbikit.simulations.layout as layout
layout._MOST_ROWS = 8
fill(Path({store!r}), 400, Fragile(trace=Path({trace!r})), workers={workers})
"""


@pytest.mark.parametrize(
    ("workers", "kills"),
    [(1, 2), pytest.param(1, 20, marks=pytest.mark.slow), pytest.param(2, 10, marks=pytest.mark.slow)],
)
def test_a_kill_loses_no_draw_that_was_kept(tmp_path: Path, workers: int, kills: int) -> None:
    store, trace = tmp_path / "s.zarr", tmp_path / "trace"
    code = _FILL.format(path=sys.path, store=str(store), trace=str(trace), workers=workers)
    endless, random = Simulations(Fragile(), 5).training(0, 400), np.random.default_rng(kills)
    for _ in range(kills):
        before = _lines(trace)
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        wanted = before + int(random.integers(1, 600 // kills))
        while _lines(trace) < wanted and process.poll() is None:
            os.sched_yield()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (store / "zarr.json").exists():
            _check_what_is_there(store, endless)
    kept = fill(store, 400)
    assert kept.content == fill(tmp_path / "quiet.zarr", 400).content
    assert_same(stored(store, 400).training(0, 400), endless)
    assert not [*store.rglob("*.partial*"), *tmp_path.glob("*.partial*")]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _check_what_is_there(path: Path, endless: dict[str, torch.Tensor]) -> None:
    store = Store.open(path, Fragile(), IDENTITY)
    there = np.flatnonzero(store.status(400) == GOOD).tolist()
    for row in there:
        for name, value in store.read(row, row + 1).items():
            assert np.array_equal(value[0], endless[name][row].numpy())


# --- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "cut short", "removed"])
@pytest.mark.parametrize(
    "name", ["values/x/c.1.0", "values/theta/c.0.0", "digest/c.0.0", "status/c.0", "seed/c.0"]
)
def test_damage_is_found_and_drawn_again(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "s.zarr"
    before = fill(path, 300)
    _damage(path / name, how)
    if name.startswith(("values", "digest")) or (how == "cut short" and not name.startswith("seed")):
        with pytest.raises(StoreError, match="damaged") as refusal:
            stored(path, 300).training(0, 300)
        assert str(path) in refusal.value.where
        assert "sbikit simulate" in refusal.value.fix
    lines = CuttingMonitor()
    mend(Asked(path, Fragile(), IDENTITY, 5, 300), lines)
    assert fill(path, 300) == before
    assert_same(stored(path, 300).training(0, 300), Simulations(Fragile(), 5).training(0, 300))
    seeds = Store.open(path, Fragile(), IDENTITY).small("seed", 0, 300)
    assert np.array_equal(seeds, draw_seeds(5, "training/simulator", 0, 300))


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 50] ^= 2
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content if how == "flipped" else content[: len(content) // 2])


def test_a_refusal_names_file_and_draw(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    fill(path, 300)
    content = bytearray((path / "values/x/c.1.0").read_bytes())
    content[12 * 7] ^= 1  # draw 256 + 7
    (path / "values/x/c.1.0").write_bytes(content)
    assert stored(path, 300).training(0, 256)["x"].shape == (256, 3)
    with pytest.raises(StoreError, match="draw 263 is not as it was written") as refusal:
        stored(path, 300).training(256, 44)
    assert str(path / "values/x/c.1.0") in refusal.value.where


# --- what does not belong together ------------------------------------------------------------------------


def test_another_simulator_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 10)
    other = {"simulator": {"name": "fragile", "size": 4}, "offered by": "tests 2.0"}
    with pytest.raises(StoreError, match="something else") as refusal:
        fill(tmp_path / "s.zarr", 20, identity=other)
    assert (
        refusal.value.got
        == 'simulator.size: 3 there, 4 asked for; offered by: "tests 1.0" there, "tests 2.0" asked for'
    )
    assert fill(tmp_path / "s.zarr", 10).good == 10


@pytest.mark.parametrize("change", ["seed", "seal", "format", "none", "text"])
def test_a_description_that_is_not_as_it_was_written_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.zarr"
    fill(path, 10)
    whole = json.loads((path / "zarr.json").read_text())
    content = whole["attributes"]["sbikit"]
    if change == "seed":
        content["seed"] = 6
    elif change == "seal":
        del content["checksum"]
    elif change == "format":
        whole["attributes"]["sbikit"] = sealed({**content, "format": 2})
    else:
        whole["attributes"] = {}
    (path / "zarr.json").write_text("{" if change == "text" else json.dumps(whole))
    for attempt in (lambda: stored(path, 10), lambda: fill(path, 20)):
        with pytest.raises(StoreError) as refusal:
            attempt()
        assert refusal.value.where == str(path / "zarr.json")


@pytest.mark.parametrize("there", ["a file", "a folder of something else"])
def test_a_path_that_holds_something_else_is_refused(tmp_path: Path, there: str) -> None:
    path = tmp_path / "s.zarr"
    if there == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="cannot be kept here"):
        fill(path, 10)
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == [
        "s.zarr" if there == "a file" else "mine.txt"
    ]


def test_one_process_adds_at_a_time(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 10)
    with writing(tmp_path / "s.zarr", Fragile(), IDENTITY):
        with pytest.raises(StoreError, match="Another sbikit process"):
            fill(tmp_path / "s.zarr", 20)
        assert stored(tmp_path / "s.zarr", 10).size == 10
    assert fill(tmp_path / "s.zarr", 20).good == 20


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr", 10)
    (tmp_path / "s.zarr/values/x/c.0.0.0123.partial").write_bytes(b"half")
    (tmp_path / "s.77.partial.zarr/values").mkdir(parents=True)
    fill(tmp_path / "s.zarr", 20)
    assert not [f for f in tmp_path.rglob("*") if "partial" in f.name]


# --- draws that fail --------------------------------------------------------------------------------------


def test_failed_draws_are_kept_apart(tmp_path: Path) -> None:
    path, simulator, monitor = tmp_path / "s.zarr", Fragile(raises=0.03, not_finite=0.98), CuttingMonitor()
    kept = fill(path, 700, simulator, monitor=monitor)
    theta = Fragile.prior.sample(draw_seeds(5, "training/parameters", 0, 700))["theta"][:, 0]
    raised, not_finite = theta < 0.03, theta > 0.98
    good = ~raised & ~not_finite
    assert kept.failures == {"not finite": int(not_finite.sum()), "raised": int(raised.sum())}
    assert kept.good == int(good.sum()) < kept.count == 700
    endless = Simulations(Fragile(), 5).training(0, 700)
    found = stored(path, 700)
    assert_same(found.training(0, kept.good), {name: value[good] for name, value in endless.items()})
    assert_same(found.training(40, 300), {name: value[good][40:340] for name, value in endless.items()})
    store, row = Store.open(path, simulator, IDENTITY), int(raised.nonzero()[0])
    assert "ValueError: no solution below the threshold" in store.reasons.of(row)
    assert np.array_equal(store.values(row, row + 1)["theta"][0], endless["theta"][row].numpy())
    assert any("failed so far" in line for line in monitor.lines)


def test_too_many_failures_end_it_and_lose_nothing(tmp_path: Path) -> None:
    path, trace = tmp_path / "s.zarr", tmp_path / "trace"
    simulator = Fragile(raises=0.3, trace=trace)
    with pytest.raises(SimulationError, match="Too many draws fail") as refusal:
        fill(path, 1000, simulator)
    assert "raised: draw " in refusal.value.got
    assert "no solution below the threshold" in refusal.value.got
    assert "(a=0." in refusal.value.got
    assert "simulations.max_failures" in refusal.value.fix
    before = trace.read_text()
    with pytest.raises(SimulationError, match="Too many draws fail"):
        fill(path, 1000, simulator)
    assert trace.read_text() == before
    kept = fill(path, 1000, simulator, most=0.5)
    drawn = Counter(line.split()[0] for line in trace.read_text().splitlines())
    assert len(drawn) == 1000
    theta = Fragile.prior.sample(draw_seeds(5, "training/parameters", 0, 1000))["theta"][:, 0]
    assert kept.failures == {"raised": int((theta < 0.3).sum())}


def test_one_failure_ends_it_where_none_may_fail(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="Too many draws fail"):
        fill(tmp_path / "s.zarr", 300, Fragile(raises=0.05), most=0.0)


@pytest.mark.slow
def test_a_draw_that_takes_too_long_is_left_out(tmp_path: Path) -> None:
    theta = Fragile.prior.sample(draw_seeds(5, "training/parameters", 0, 40))["theta"][:, 0]
    first, second = theta.sort().values[:2].tolist()
    simulator = Fragile(hangs=0.5 * (first + second))
    kept = fill(tmp_path / "s.zarr", 40, simulator, timeout=0.5)
    assert (kept.good, kept.failures) == (39, {"timeout": 1})
    store = Store.open(tmp_path / "s.zarr", simulator, IDENTITY)
    assert store.reasons.of(int(theta.argmin())) == "longer than 0.5 s"
    good = theta > 0.5 * (first + second)
    endless = Simulations(Fragile(), 5).training(0, 40)
    found = stored(tmp_path / "s.zarr", 40).training(0, 39)
    assert_same(found, {name: value[good] for name, value in endless.items()})


# --- size -------------------------------------------------------------------------------------------------

_BIG = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import numpy as np
from fragile import IDENTITY, Fragile
from sbikit import Field, Simulations
from sbikit.problem.memory import peak_bytes
from sbikit.simulations.layout import draw_digests, GOOD
from sbikit.simulations.store import Store, variables_of
from sbikit.simulations.stored import Stored
from sbikit.simulations.writer import writing

class Big(Fragile):
    outputs = (Field("map", (128, 128), channels=5),)
    observed = ("map",)

path, big, n = Path({store!r}), Big(), 1_000_000
libraries = peak_bytes() / 1e9
Store.create(path, big, IDENTITY, seed=0, seconds=0.0)
zeros = {{v.name: np.zeros((1, *v.shape), np.float32) for v in variables_of(big)}}
digest = draw_digests(zeros, np.array([GOOD], np.uint8), variables_of(big))
with writing(path, big, IDENTITY) as writer:
    writer.grow(n)
    for first in range(0, n, 4096):
        last = min(first + 4096, n)
        writer.store.arrays["digest"].write(first, np.repeat(digest, last - first, 0))
        writer.store.arrays["status"].write(first, np.full(last - first, GOOD))
kept = Stored(Store.open(path, big, IDENTITY), Simulations(big, 0), n)
assert kept.size == n
for first in (0, 500_001, n - 200):
    values = kept.training(first, 200)
    assert values["map"].shape == (200, 5, 128, 128) and not values["map"].any()
print(libraries, peak_bytes() / 1e9)
"""


def test_a_million_large_draws_are_read_in_little_memory(tmp_path: Path) -> None:
    code = _BIG.format(path=sys.path, store=str(tmp_path / "big.zarr"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    libraries, peak = (float(word) for word in done.stdout.split())
    assert peak < 2.0  # GB; the values are 330
    assert peak - libraries < 0.6  # 66 MB are returned, and 1 million draws have 29 bytes beside their values
