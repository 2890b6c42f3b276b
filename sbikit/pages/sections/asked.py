"""What was asked: the problem and how it was solved, in words and as a table of options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sbikit.pages.figures.cells import cells
from sbikit.pages.names import name_html
from sbikit.pages.numbers import plural
from sbikit.pages.run_files import RunFiles
from sbikit.problem.variables import Variable, Vector


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
    facts: list[tuple[str, str]]
    options: list[tuple[str, str]]


def asked(files: RunFiles) -> Asked:
    """The configuration in words and as a table."""
    run, posterior, count = files.run, files.posterior, files.provenance.get("simulations")
    held_out = ""
    if posterior.held_out is not None:
        n, observations, *_ = next(iter(posterior.held_out.draws.shapes.values()))
        held_out = f"{plural(n, 'draw')} for each of {plural(observations, 'held-out simulation')}"
    return Asked(
        simulator=str(run["simulator"]["name"]),
        estimator=str(run["estimator"]["name"]),
        reference=str(run["reference"]["name"]) if run.get("reference") else "",
        validators=", ".join(str(one["name"]) for one in run.get("validators") or ()),
        inferred=_listed(posterior.spec.latents, "parameter"),
        observed=_listed(posterior.spec.measured, "number"),
        simulations=plural(int(count), "simulation") if count is not None else "simulations",
        shown_draws=plural(len(next(iter(posterior.posterior.values()))), "draw"),
        held_out=held_out,
        facts=_facts(files.provenance.get("facts")),
        options=list(_flat(run)),
    )


def _facts(noted: Any) -> list[tuple[str, str]]:
    """What the simulator says of its options."""
    return [(str(key), str(value)) for key, value in noted.items()] if isinstance(noted, Mapping) else []


def _listed(variables: Iterable[Variable], noun: str) -> Markup:
    """Variables with their sizes: `the field κ (32 × 32 pixels, 10 × 10 deg)`, `the 2 numbers x, y`."""
    return Markup(" and ").join(_described(variable, noun) for variable in variables)


def _counted(count: int, noun: str) -> str:
    return f"the {noun}" if count == 1 else f"the {count} {noun}s"


def _described(variable: Variable, noun: str) -> Markup:
    if isinstance(variable, Vector):
        return Markup("{} {}").format(_counted(len(variable.labels), noun), name_html(variable))
    grid, extent = (" × ".join(f"{n:g}" for n in sizes) for sizes in (variable.grid, variable.extent))
    channels = f"{variable.channels} channels, " if variable.channels > 1 else ""
    size = f"{channels}{grid} {cells(variable)}"
    if f"{variable.extent_unit}s" != cells(variable):
        over = " over" if len(variable.grid) == 1 else ","
        size += f"{over} {extent} {variable.extent_unit}"
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
