"""The report's section on simulations: how many were kept, which failed, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_run import write_example_run
from fragile import IDENTITY, Fragile, fill
from reading import Text

from sbikit.pages import write_report
from sbikit.pages.figures.failing import shares
from sbikit.pages.run_files import read_run
from sbikit.pages.sections.kept import simulations
from sbikit.problem.errors import RunFolderError
from sbikit.simulations.failing import failing_in_store, failing_in_streams
from sbikit.simulations.left_out import LeftOut
from sbikit.simulations.store import Store
from sbikit.simulations.stream import Simulations
from sbikit.storage.files import write_json
from sbikit.storage.seals import sealed


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """700 kept draws that fail below a = 0.05 and above a = 0.98."""
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    simulator = Fragile(raises=0.05, not_finite=0.98)
    fill(path, 700, simulator)
    return failing_in_store(Store.open(path, simulator, IDENTITY), Fragile.prior, 700)


def test_failures_lie_where_the_simulator_fails(failing: dict[str, Any]) -> None:
    theta = Simulations(Fragile(), 5).training(0, 700)["theta"].double().numpy()
    bad = (theta[:, 0] < 0.05) | (theta[:, 0] > 0.98)
    for i, label in enumerate(("a", "b")):
        where = failing["where"][label]
        edges = np.linspace(0, 1, 13)
        assert where["tried"] == np.histogram(theta[:, i], edges)[0].tolist()
        assert where["failed"] == np.histogram(theta[bad, i], edges)[0].tolist()
        assert np.allclose(where["edges"][1:-1], edges[1:-1])
    assert sum(failing["where"]["a"]["failed"][1:-1]) == 0
    assert {one["kind"] for one in failing["examples"]} == {"not finite", "raised"}


def test_failures_of_a_stream_lie_where_the_simulator_fails() -> None:
    left_out = LeftOut(0.3)
    Simulations(Fragile(raises=0.05), 5, left_out=left_out).training(0, 600)
    found = failing_in_streams(left_out, Fragile.prior)
    assert found["failures"] == {"raised": left_out.failed}
    assert found["where"]["a"]["failed"] == [left_out.failed, *[0] * 11]
    assert sum(found["where"]["b"]["tried"]) == pytest.approx(600 + left_out.failed)


def test_shares_have_binomial_errors() -> None:
    share, error = shares(np.array([100, 100, 100, 0]), np.array([0, 20, 100, 0]))
    assert share.tolist() == [0.0, 0.2, 1.0, 0.0]
    assert np.allclose(error[:3], [np.sqrt(0.01 * 0.99 / 100), 0.04, np.sqrt(0.01 * 0.99 / 100)])


def folder(path: Path, failures: dict[str, int], details: dict[str, Any] | None, keeps: bool = True) -> Path:
    """A run of 700 kept simulations."""
    write_example_run(path, reference=False, calibration=False, summaries=False)
    with (path / "run.yaml").open("a") as file:
        file.write(f"\nsimulations: {{count: {700 if keeps else 'null'}, store: /data/shared.zarr}}\n")
    good = 700 - sum(failures.values())
    kept = {"count": 700, "good": good, "failures": failures, "content": "a1b2"}
    write_json(path / "simulations.json", sealed(kept))
    if details:
        write_json(path / "failed-draws.json", sealed(details))
    return path


def test_kept_simulations_and_failures_are_shown(tmp_path: Path, failing: dict[str, Any]) -> None:
    page = write_report(folder(tmp_path, {"not finite": 14, "raised": 21}, failing))
    words = Text(page.read_text(encoding="utf-8")).text
    assert "Training saw 665 simulations, made once and kept." in words
    assert "665 good of 700" in words
    assert "/data/shared.zarr" in words
    assert "a1b2" in words
    assert "35 of 700 kept simulations failed (5 %)" in words
    assert "returned values that are not finite in 14, raised an error in 21" in words
    assert "given that the simulator works" in words
    assert "no solution below the threshold" in words
    assert (tmp_path / "figures/failed-draws.png").exists()


def test_nothing_is_said_of_failures_where_there_are_none(tmp_path: Path) -> None:
    found = simulations(read_run(folder(tmp_path, {}, None)))
    assert found is not None
    assert ("Simulations", "700 good of 700") in found.facts
    assert found.failures == []


def test_files_of_another_configuration_are_not_shown(tmp_path: Path) -> None:
    assert simulations(read_run(folder(tmp_path, {}, None, keeps=False))) is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, {}, None)
    (tmp_path / "simulations.json").write_text('{"count": 700}')
    with pytest.raises(RunFolderError, match=r"simulations\.json cannot be read"):
        read_run(tmp_path)


def test_no_more_than_all_draws_fail() -> None:
    share, error = shares(np.array([6.1, 6.1, 6.1]), np.array([9.0, 3.05, 0.0]))
    assert share.tolist() == [1.0, 0.5, 0.0]
    assert np.isfinite(error).all()
