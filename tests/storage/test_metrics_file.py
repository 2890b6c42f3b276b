import json
from dataclasses import replace

import numpy as np
import pytest
from example_run import agreement, problem, reports

from sbikit.problem.errors import PluginError, RunFolderError
from sbikit.roles.validator import Metric, Report
from sbikit.storage.metrics import (
    read_compared,
    read_metrics,
    report_from_dict,
    report_to_dict,
    write_metrics,
)


def test_reports_come_back_exactly(tmp_path):
    given = reports(problem())
    write_metrics(tmp_path / "metrics.json", given)
    assert read_metrics(tmp_path / "metrics.json") == given
    assert json.loads((tmp_path / "metrics.json").read_text())["reports"][0] == report_to_dict(given[0])
    assert report_from_dict(report_to_dict(given[1])) == given[1]


def test_numpy_numbers_are_kept():
    metric = Metric("a", "joint", np.float32(0.5), np.float64(0.1), None, "none", "")
    assert report_to_dict(Report("v", (metric,)))["metrics"][0]["value"] == 0.5


def test_which_reports_compare_is_kept(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, (*reports(problem()), agreement(problem())), ["agreement"])
    assert read_compared(path) == {"agreement"}
    assert read_metrics(path)[-1] == agreement(problem())


def test_reports_from_before_there_were_floors_are_read(tmp_path):
    given = reports(problem())
    records = [report_to_dict(report) for report in given]
    for metric in (metric for record in records for metric in record["metrics"]):
        del metric["floor"], metric["floor_error"]
    (tmp_path / "metrics.json").write_text(json.dumps({"reports": records}))
    assert read_metrics(tmp_path / "metrics.json") == given
    assert read_compared(tmp_path / "metrics.json") == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"value": float("nan")},
        {"error": float("inf")},
        {"verdict": "maybe"},
        {"floor": float("nan"), "floor_error": 0.1},
        {"floor": 0.1, "floor_error": float("inf")},
        {"floor": 0.1},
        {"floor_error": 0.1},
    ],
)
def test_a_metric_that_cannot_be_kept_is_refused(change):
    metric = replace(reports(problem())[0].metrics[0], **change)
    with pytest.raises(PluginError, match="cannot be kept"):
        report_to_dict(Report("mira", (metric,)))


@pytest.mark.parametrize("change", [{"y": (1.0,)}, {"low": (float("nan"),) * 21}])
def test_a_curve_that_cannot_be_kept_is_refused(change):
    curve = replace(reports(problem())[1].curves[0], **change)
    with pytest.raises(PluginError, match="cannot be kept"):
        report_to_dict(Report("coverage", (), (curve,)))


@pytest.mark.parametrize("change", [{"value": None}, {"value": "high"}, {"extra": 1}, {"verdict": "maybe"}])
def test_a_damaged_record_is_refused(change):
    record = report_to_dict(reports(problem())[0])
    record["metrics"][0] |= change
    with pytest.raises(RunFolderError, match="damaged"):
        report_from_dict(record)
