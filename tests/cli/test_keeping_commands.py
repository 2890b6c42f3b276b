"""Kept simulations from the command line: what is typed, what is printed, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import CHOSEN, SMALL, call, quick  # noqa: F401 - a fixture

from sbikit.runs.config import read_config

RUN = [*CHOSEN, *SMALL, "--set=estimator.steps=1"]


def good(folder: str) -> int:
    found: int = json.loads(Path(folder, "simulations.json").read_text())["good"]
    return found


@pytest.mark.usefixtures("quick")
def test_a_run_keeps_simulations_and_more_are_added() -> None:
    status, out, err = call("run", *RUN, "--simulations", "6e2", "--out", "a")
    assert status == 0, err
    assert "keep: 600 simulations in a/simulations.zarr" in err
    assert out.splitlines()[-1] == "report: a/report.html"
    status, _, err = call("simulate", "a", "--simulations", 700)
    assert status == 0, err
    assert "600 simulations were kept, and 700 are asked for" in err
    assert (good("a"), read_config(Path("a/run.yaml")).simulations.count) == (700, 700)
    status, _, err = call("fit", "a")
    assert (status, "simulations.count: 600 when it was made, 700 now" in err) == (2, True)
    status, _, err = call("run", *RUN, "--simulations", 600, "--out", "a")
    assert (status, "simulations.count: 700 there, 600 asked for" in err) == (2, True)
    assert call("fit", "a", "--redo")[0] == 0
    status, _, err = call("simulate", "a")
    assert (status, "keep: done before" in err) == (0, True)


@pytest.mark.usefixtures("quick")
def test_a_store_elsewhere_is_named_in_full() -> None:
    assert call("init", "a", *RUN, "--simulations", 600, "--store", "shared.zarr", "--workers", 2)[0] == 0
    config = read_config(Path("a/run.yaml"))
    assert config.simulations.store == str(Path.cwd() / "shared.zarr")
    assert (config.workers, config.cluster) == (2, None)
    status, _, err = call("simulate", "a", "--workers", 1)
    assert status == 0, err
    assert Path("shared.zarr/zarr.json").exists()
    assert call("run", *RUN, "--simulations", 600, "--store", "shared.zarr", "--out", "a")[0] == 0
    status, _, err = call("run", *RUN, "--simulations", 600, "--out", "a")
    assert (status, "simulations.store" in err) == (2, True)


@pytest.mark.usefixtures("quick")
def test_workers_make_the_same_simulations() -> None:
    assert call("run", *RUN, "--simulations", 600, "--out", "a")[0] == 0
    assert call("run", *RUN, "--simulations", 600, "--workers", 2, "--out", "b")[0] == 0
    assert Path("a/simulations.json").read_bytes() == Path("b/simulations.json").read_bytes()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--simulations", "1"], "is not between"),
        (["--workers", "0"], "is not between"),
        (["--simulations", "600", "--store", "."], "something else is there"),
        (["--set", "simulations.max_failures=0.95"], "at most 0.9"),
        (["--set", "simulations.timeout=0"], "above 0"),
        (["--set", "simulations.kept=3"], "one of count, store, timeout, max_failures"),
        (["--cluster", "moon"], "names no cluster"),
        (["--cluster", "local:2", "--workers", "3"], "at the same time"),
        (
            ["--simulations", "600", "--set=simulator.mode=raises", "--set=simulations.max_failures=0.02"],
            "fail",
        ),
    ],
)
def test_a_mistake_ends_with_2(words: list[str], text: str) -> None:
    status, _, err = call("run", *RUN, *words, "--out", "a")
    assert status == 2, err
    assert text in " ".join(err.split())
