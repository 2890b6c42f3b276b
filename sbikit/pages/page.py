"""report.html: one self-contained page about a run, made from its folder and nothing else.

The page needs no script, no font and no network: figures are embedded, and a content security policy
forbids every request. The same figures lie in figures/*.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sbikit import __version__
from sbikit.pages.pictures import Picture
from sbikit.pages.run_files import RunFiles, read_run
from sbikit.pages.sections.alarms import false_alarms
from sbikit.pages.sections.asked import asked
from sbikit.pages.sections.calibration import calibration
from sbikit.pages.sections.citations import references
from sbikit.pages.sections.closeness import closeness
from sbikit.pages.sections.fields import fields
from sbikit.pages.sections.held_out import held_out_recovery
from sbikit.pages.sections.kept import simulations
from sbikit.pages.sections.observation import observation
from sbikit.pages.sections.parameters import parameters
from sbikit.pages.sections.provenance import provenance
from sbikit.pages.sections.training import training
from sbikit.pages.sections.verdict import verdict
from sbikit.storage.files import write_bytes, write_text


def write_report(folder: Path) -> Path:
    """Write report.html and figures/*.png into a run folder.

    Args:
        folder: holds run.yaml, provenance.json, posterior.nc and, where they were made,
            reference.safetensors, metrics.json and training.jsonl.

    Returns:
        The path of report.html.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    page = page_content(read_run(folder))
    figures, path = folder / "figures", folder / "report.html"
    figures.mkdir(exist_ok=True)
    for name, picture in named(page["pictures"]).items():
        write_bytes(figures / f"{name}.png", picture.wide)
    write_text(path, render(page))
    return path


def page_content(files: RunFiles) -> dict[str, Any]:
    """Everything that the template shows."""
    posterior = files.posterior
    calibrating = [report for report in files.reports if report.validator not in files.compared]
    page: dict[str, Any] = {
        "sbikit": __version__,
        "asked": asked(files),
        "verdict": verdict(calibrating, posterior.spec),
        "false_alarms": false_alarms(files, calibrating),
        "observation": observation(posterior),
        "parameters": parameters(posterior),
        "fields": fields(posterior),
        "calibration": calibration(calibrating, posterior.spec),
        "recovery": held_out_recovery(posterior),
        "reference": closeness(files),
        "simulations": simulations(files),
        "training": training(files),
        "provenance": provenance(files),
        "references": references(files.reports),
        "doubts": posterior.held_out.doubts if posterior.held_out else "",
        "has_truth": posterior.truth is not None,
        "has_reference": posterior.reference is not None,
    }
    return {**page, "pictures": _pictures(page), "navigation": _navigation(page)}


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("sbikit.pages"),
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
        "simulations": "Simulations",
        "training": "Training",
        "provenance": "How it was made",
        "references": "References",
    }
    return [(anchor, title) for anchor, title in sections.items() if page[anchor]]


def named(pictures: Sequence[Picture]) -> dict[str, Picture]:
    """A file name, without its ending, for each: its own, or that with a number where one before has it."""
    found: dict[str, Picture] = {}
    for picture in pictures:
        name, number = picture.name, 1
        while name.casefold() in (other.casefold() for other in found):
            number += 1
            name = f"{picture.name}-{number}"
        found[name] = picture
    return found


def _pictures(page: Mapping[str, Any]) -> list[Picture]:
    found = [*page["observation"]]
    found += [picture for one in page["fields"] for picture in (one.maps, one.statistics)]
    found += [one.curves for one in page["calibration"]]
    found += page["recovery"].pictures if page["recovery"] else []
    compared = page["reference"].comparisons if page["reference"] else []
    found += [picture for one in compared for picture in one.pictures]
    found += [page["parameters"].corner] if page["parameters"] else []
    found += [one.picture for one in page["simulations"].failures] if page["simulations"] else []
    found += [page["training"].picture, page["training"].levels] if page["training"] else []
    return [picture for picture in found if picture is not None]
