"""How the result was made, on the report's page: the question, training, provenance and references."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from sbikit.problem.variables import Variable, Vector
from sbikit.report import figures
from sbikit.report.parts import (
    Array,
    Picture,
    RunFiles,
    duration,
    make_picture,
    name_html,
    number,
    plural,
    title,
)
from sbikit.report.trust import Worst, convergence
from sbikit.roles.validator import Report

# --- what was asked --------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The problem and how it was solved."""

    simulator: str
    estimator: str
    reference: str
    validators: str
    inferred: Markup
    observed: Markup
    simulations: str
    shown_draws: str
    held_out: str
    options: list[tuple[str, str]]


def asked(files: RunFiles) -> Asked:
    """The configuration in words and as a table."""
    run, posterior, count = files.run, files.posterior, files.provenance.get("simulations")
    held_out = ""
    if posterior.held_out is not None:
        first = next(iter(posterior.held_out.draws.values()))
        held_out = (
            f"{plural(first.shape[0], 'draw')} for each of {plural(first.shape[1], 'held-out simulation')}"
        )
    return Asked(
        simulator=str(run["simulator"]["name"]),
        estimator=str(run["estimator"]["name"]),
        reference=str(run["reference"]["name"]) if run.get("reference") else "",
        validators=", ".join(str(one["name"]) for one in run.get("validators") or ()),
        inferred=_listed(posterior.spec.latents),
        observed=_listed(posterior.spec.observables),
        simulations=plural(int(count), "simulation") if count is not None else "simulations",
        shown_draws=plural(len(next(iter(posterior.posterior.values()))), "draw"),
        held_out=held_out,
        options=list(_flat(run)),
    )


def _listed(variables: Iterable[Variable]) -> Markup:
    """Variables with their sizes: `the field κ (32 × 32 pixels, 10 × 10 deg)`."""
    return Markup(" and ").join(_described(variable) for variable in variables)


def _described(variable: Variable) -> Markup:
    if isinstance(variable, Vector):
        count = len(variable.labels)
        noun = "the parameter" if count == 1 else f"the {count} parameters"
        return Markup("{} {}").format(noun, name_html(variable))
    pixels, extent = (" × ".join(f"{n:g}" for n in sizes) for sizes in (variable.grid, variable.extent))
    channels = f"{variable.channels} channels, " if variable.channels > 1 else ""
    size = f"{channels}{pixels} pixels"
    if variable.extent_unit != "pixel":
        size += f", {extent} {variable.extent_unit}"
    return Markup("the field {} ({})").format(name_html(variable), size)


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, str]]:
    """Every leaf of the configuration with its dotted path."""
    for key, value in tree.items():
        here = f"{path}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{here}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for one in value:
                yield from _flat(one, f"{here}.{one.get('name', '')}.")
        else:
            yield here, _leaf(value)


def _leaf(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_leaf(one) for one in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """The training curve in words and as a figure."""

    picture: Picture | None
    words: list[str] = field(default_factory=list)


def training(files: RunFiles) -> Training | None:
    """The loss against simulations seen, or against steps; None where nothing was logged."""
    records = [record for record in files.training if "step" in record]
    names = sorted({key for record in records for key in record if _is_loss(key)}, key=_loss_order)
    if not names:
        return None
    by = _abscissa(records)
    curves, words = {}, []
    for name in names:
        at, values = _series(records, by, name)
        bad = ~np.isfinite(values)
        if bad.any():
            words.append(
                f"The {title(name)} is not finite in {plural(int(bad.sum()), 'record')}: training diverged."
            )
        if (~bad).sum() >= 2:
            curves[name] = (at[~bad], values[~bad])
    if files.unread:
        words.append(f"{plural(files.unread, 'line')} of training.jsonl could not be read and is left out.")
    last = [f"last {title(name)} {number(float(values[-1]))}" for name, (_, values) in curves.items()]
    if last:
        words.append(", ".join(last).capitalize() + ".")
    if not curves:
        return Training(None, words)
    x = np.array([min(at[0] for at, _ in curves.values()), max(at[-1] for at, _ in curves.values())])
    label = "training simulations seen" if by == "simulations" else "training step"
    picture = make_picture(
        "training",
        "Training curve",
        f"Loss against {label}; faint as logged, solid a running mean.",
        "a curve that has flattened. A validation loss that rises while the other falls means overfitting.",
        lambda layout: figures.training_plot(x, label, curves, layout),
    )
    return Training(picture, words)


def _abscissa(records: Sequence[Mapping[str, Any]]) -> str:
    """ "simulations" where training drew new ones all along, "step" where it went over the same again."""
    seen = [record.get("simulations", 0) for record in records]
    return "simulations" if all(b > a for a, b in itertools.pairwise([0, *seen])) else "step"


def _is_loss(key: str) -> bool:
    return "loss" in key.split("_")


def _loss_order(key: str) -> tuple[int, str]:
    return ({"loss": 0, "validation_loss": 1}.get(key, 2), key)


def _series(records: Iterable[Mapping[str, Any]], by: str, name: str) -> tuple[Array, Array]:
    rows = np.array([[float(r[by]), float(r[name])] for r in records if name in r]).reshape(-1, 2)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0], rows[:, 1]


# --- provenance and references ---------------------------------------------------------------


@dataclass(frozen=True)
class Provenance:
    """How the result was made."""

    command: str
    facts: list[tuple[str, str]]
    timings: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    reference: list[Worst]


def provenance(files: RunFiles) -> Provenance:
    """Command, machine, time, versions, and what the reference sampler says of itself."""
    made = files.provenance
    memory, count = made.get("peak_memory_mb"), made.get("simulations")
    facts = {
        "Training simulations": f"{int(count):,}" if count is not None else None,
        "Seed": made.get("seed"),
        "Device": made.get("device"),
        "Platform": made.get("platform"),
        "Python": made.get("python"),
        "sbikit": made.get("sbikit"),
        "Revision": made.get("git"),
        "Started": str(made.get("started") or "").replace("T", " "),
        "Peak memory": f"{memory:,.0f} MB" if memory else None,
    }
    timings = made.get("timings") or {}
    rows = [(str(stage), duration(float(seconds))) for stage, seconds in timings.items()]
    if len(rows) > 1:
        rows.append(("total", duration(float(sum(timings.values())))))
    return Provenance(
        command=str(made.get("command") or ""),
        facts=[(key, str(value)) for key, value in facts.items() if value not in (None, "")],
        timings=rows,
        versions=[(str(key), str(value)) for key, value in (made.get("versions") or {}).items()],
        reference=convergence(made.get("reference") or ()),
    )


_LINKS = re.compile(r"(?P<arxiv>arXiv:\s?(\d{4}\.\d{4,5}))|(?P<doi>doi:\s?(10\.\S+?))(?=[\s,;)]|\.?$)")


def references(reports: Iterable[Report]) -> list[Markup]:
    """Every citation once, in order, with links for arXiv numbers and DOIs."""
    unique = dict.fromkeys(text for report in reports for text in report.references)
    return [_linked(text) for text in unique]


def _linked(text: str) -> Markup:
    html, end = Markup(""), 0
    for match in _LINKS.finditer(text):
        number_ = match[2] or match[4]
        site = "https://arxiv.org/abs/" if match["arxiv"] else "https://doi.org/"
        html += text[end : match.start()] + Markup('<a href="{}{}">{}</a>').format(site, number_, match[0])
        end = match.end()
    return html + text[end:]
