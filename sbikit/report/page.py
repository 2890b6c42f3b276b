"""report.html: one self-contained page about a run, made from its folder and nothing else.

The page needs no script, no font and no network: figures are embedded, and a content security policy
forbids every request. The same figures lie in figures/*.png.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sbikit import __version__
from sbikit.problem.errors import RunFolderError
from sbikit.report.compared import closeness
from sbikit.report.judged import calibration, held_out_recovery, verdict
from sbikit.report.made import asked, provenance, references, training
from sbikit.report.parts import Picture, RunFiles
from sbikit.report.shown import check_enough_draws, fields, observation, parameters
from sbikit.storage.metrics import read_compared, read_metrics, report_from_dict, report_to_dict
from sbikit.storage.read import read_posterior


def write_report(folder: Path) -> Path:
    """Write report.html and figures/*.png into a run folder.

    Args:
        folder: holds run.yaml, provenance.json, posterior.nc and, where they were made,
            metrics.json and training.jsonl.

    Returns:
        The path of report.html.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    page = page_content(read_run(folder))
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for picture in page["pictures"]:
        _replace(figures / f"{picture.name}.png", picture.wide)
    return _replace(folder / "report.html", render(page).encode("utf-8"))


def read_run(folder: Path) -> RunFiles:
    """Read what a report needs.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    metrics = folder / "metrics.json"
    records, unread = _training(folder / "training.jsonl")
    files = RunFiles(
        run=_yaml(folder / "run.yaml"),
        provenance=_json(folder / "provenance.json"),
        posterior=read_posterior(folder / "posterior.nc"),
        reports=read_metrics(metrics) if metrics.exists() else (),
        compared=read_compared(metrics) if metrics.exists() else frozenset(),
        training=records,
        unread=unread,
    )
    check_enough_draws(files.posterior)
    return files


def page_content(files: RunFiles) -> dict[str, Any]:
    """Everything that the template shows."""
    posterior = files.posterior
    calibrating = [report for report in files.reports if report.validator not in files.compared]
    page: dict[str, Any] = {
        "sbikit": __version__,
        "asked": asked(files),
        "verdict": verdict(calibrating, posterior.spec),
        "observation": observation(posterior),
        "parameters": parameters(posterior),
        "fields": fields(posterior),
        "calibration": calibration(calibrating, posterior.spec),
        "recovery": held_out_recovery(posterior),
        "reference": closeness(files),
        "training": training(files),
        "provenance": provenance(files),
        "references": references(files.reports),
        "has_truth": posterior.truth is not None,
        "has_reference": posterior.reference is not None,
    }
    return {**page, "pictures": _pictures(page), "navigation": _navigation(page)}


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("sbikit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page)


def _navigation(page: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchor and title of every section that is there."""
    sections = {
        "asked": "What was asked",
        "observation": "The observation",
        "parameters": "Parameters",
        "fields": "Fields",
        "calibration": "Calibration",
        "recovery": "Held-out recovery",
        "reference": "How close to the exact posterior",
        "training": "Training",
        "provenance": "How it was made",
        "references": "References",
    }
    return [(anchor, title) for anchor, title in sections.items() if page[anchor]]


def _pictures(page: Mapping[str, Any]) -> list[Picture]:
    found = [*page["observation"]]
    found += [picture for one in page["fields"] for picture in (one.maps, one.statistics)]
    found += [one.curves for one in page["calibration"]]
    found += page["recovery"].pictures if page["recovery"] else []
    found += (
        [picture for one in page["reference"].comparisons for picture in one.pictures]
        if page["reference"]
        else []
    )
    found += [page["parameters"].corner] if page["parameters"] else []
    found += [page["training"].picture] if page["training"] else []
    return [picture for picture in found if picture is not None]


# --- reading --------------------------------------------------------------------------------


def _damaged(path: Path, expected: str, got: str) -> RunFolderError:
    return RunFolderError(
        f"{path.name} cannot be read.",
        where=str(path),
        expected=expected,
        got=got,
        fix="mend the file, or make the run again with another --out",
    )


def _text(path: Path, expected: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, expected, f"{type(error).__name__}: {error}") from error


def _yaml(path: Path) -> dict[str, Any]:
    expected = "a configuration with simulator.name and estimator.name"
    try:
        found = YAML(typ="safe").load(_text(path, expected))
    except YAMLError as error:
        raise _damaged(path, expected, str(error)) from error
    for key in ("simulator", "estimator"):
        part = found.get(key) if isinstance(found, dict) else None
        if not isinstance(part, dict) or "name" not in part:
            raise _damaged(path, expected, f"no {key}.name")
    return dict(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path, "a JSON object"))
    except json.JSONDecodeError as error:
        raise _damaged(path, "a JSON object", str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(path, "a JSON object", type(found).__name__)
    return found


def _training(path: Path) -> tuple[tuple[Mapping[str, Any], ...], int]:
    """Records, and the number of lines that are none: a crash while appending leaves half a line."""
    if not path.exists():
        return (), 0
    records, unread = [], 0
    for line in filter(str.strip, _text(path, "one JSON object a line").splitlines()):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            unread += 1
    return tuple(records), unread


def _replace(path: Path, data: bytes) -> Path:
    """Write a file all or nothing."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    return unfinished.replace(path)


__all__ = ["page_content", "read_run", "render", "report_from_dict", "report_to_dict", "write_report"]
