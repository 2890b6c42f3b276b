"""`sbikit plugins`: what is installed, its options, whether it keeps its contract, and a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sbikit.cli.pretrained import show_pretrained
from sbikit.cli.terminal import console, guarded, put

if TYPE_CHECKING:
    from sbikit.plugins.installed import Catalogue, Found, Kind

PRETRAINED = "pretrained"  # weights are listed and shown beside plug-ins

plugins_app = typer.Typer(
    help="List, describe, check and start plug-ins.", invoke_without_command=True, rich_markup_mode="rich"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a plug-in.")]
OfKind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="simulator, estimator, sampler or validator, if two share a name; pretrained, to show weights.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks.")]


@plugins_app.callback()
def listing(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed plug-ins; the commands describe, check and start one."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise typer.BadParameter("it is of the list; a command has none.", param_hint="--json")
        return
    with guarded():
        from sbikit.plugins.installed import catalogue

        if as_json:
            put(json.dumps(_as_json(catalogue()), indent=2))
        else:
            _print_catalogue(catalogue())


def _as_json(book: Catalogue) -> dict[str, Any]:
    from sbikit.plugins.extras import missing

    offers = [
        {
            "kind": found.kind,
            "name": found.offer.name,
            "summary": found.offer.summary,
            "target": found.offer.target,
            "extra": found.offer.extra,
            "missing": list(missing(found)),
            "distribution": found.distribution,
            "version": found.version,
        }
        for found in book.found
    ]
    clashes = [{"kind": kind, "name": name} for kind, name in book.clashes()]
    clashes += [{"kind": PRETRAINED, "name": name} for name in book.pretrained_clashes()]
    pretrained = [
        {
            "name": found.pretrained.name,
            "summary": found.pretrained.summary,
            "folder": str(found.pretrained.folder),
            "distribution": found.distribution,
            "version": found.version,
        }
        for found in book.pretrained
    ]
    return {
        "plugins": offers,
        "pretrained": pretrained,
        "clashes": clashes,
        "problems": [vars(p) for p in book.problems],
    }


def _print_catalogue(book: Catalogue) -> None:
    from rich.table import Table
    from rich.text import Text

    from sbikit.plugins.extras import missing
    from sbikit.plugins.installed import KINDS

    out = console()
    table = Table("kind", "name", "what it is", "from", box=None, pad_edge=False, header_style="dim")
    clashes = book.clashes()
    for kind in KINDS:
        for found in book.of(kind):
            clash = (kind, found.offer.name) in clashes
            label = found.offer.name + (" (clash)" if clash else "")
            shown = Text(label, style="bold red" if clash else "bold")
            table.add_row(kind, shown, Text(found.offer.summary), f"{found.distribution} {found.version}")
    twice = book.pretrained_clashes()
    for weights in sorted(book.pretrained, key=lambda weights: weights.pretrained.name):
        name, summary = weights.pretrained.name, weights.pretrained.summary
        shown = Text(f"{name} (clash)", "bold red") if name in twice else Text(name, "bold")
        table.add_row(PRETRAINED, shown, Text(summary), f"{weights.distribution} {weights.version}")
    out.print(table)
    for (clashing, name), offers in clashes.items():
        owners = " and ".join(f"{f.distribution} ({f.offer.target})" for f in offers)
        out.print(Text(f"clash: the {clashing} {name!r} is offered by {owners}; neither can be used", "red"))
    for name, homes in twice.items():
        text = f"clash: the pretrained {name!r} is offered by {' and '.join(homes)}; neither can be used"
        out.print(Text(text, "red"))
    for found in book.found:
        if lacking := missing(found):
            mend = f"pip install '{found.distribution}[{found.offer.extra}]'"
            text = f"the {found.kind} {found.offer.name!r} needs {', '.join(lacking)}: {mend}"
            out.print(Text(text, "yellow"), soft_wrap=True)
    for problem in book.problems:
        text = f"broken: {problem.entry} of {problem.distribution}: {problem.message}"
        out.print(Text(text, "red"), soft_wrap=True)


@plugins_app.command()
def show(name: Name, kind: OfKind = None, debug: Debug = False) -> None:
    """Print the options of a plug-in, or the calibration record of pretrained weights."""
    with guarded(debug):
        if kind == PRETRAINED or (kind is None and _only_pretrained(name)):
            show_pretrained(name)
            return
        from rich.table import Table
        from rich.text import Text

        from sbikit.plugins import registry
        from sbikit.problem.option_errors import expectation
        from sbikit.runs.config_text import inline

        found = _find(name, kind)
        options = registry.options_of(found.kind, name)
        out = console()
        title = f"{found.kind} {name}: {found.offer.summary} ({found.distribution} {found.version})"
        out.print(Text(title, "bold"), soft_wrap=True)
        if not options.model_fields:
            out.print("It has no options.")
            return
        table = Table("option", "default", "allowed", "meaning", box=None, pad_edge=False, header_style="dim")
        for key, field in options.model_fields.items():
            default = "required" if field.is_required() else inline(_plain(options, key))
            table.add_row(
                key, Text(default), Text(expectation(options, (key,))), Text(field.description or "")
            )
        out.print(table)


def _plain(options: Any, key: str) -> Any:
    """The default of an option as JSON would hold it."""
    schema = options.model_json_schema(mode="serialization")
    default = options.model_fields[key].get_default(call_default_factory=True)
    return schema["properties"][key].get("default", default)


@plugins_app.command()
def check(
    name: Name,
    kind: OfKind = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="An option, for example steps=10 for a quick fit."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Check that a plug-in keeps the promises of its interface."""
    with guarded(debug):
        found = _find(name, kind)
        _check(found, _options(assignments or []))
        put(f"{found.kind} {name}: all promises kept")


def _check(found: Found, options: dict[str, Any]) -> None:
    from sbikit.plugins.registry import load
    from sbikit.runs.console_monitor import ConsoleMonitor
    from sbikit.testing import check_plugin

    check_plugin(load(found.kind, found.offer.name, **options), monitor=ConsoleMonitor(console(stderr=True)))


def _options(assignments: list[str]) -> dict[str, Any]:
    """Option -> value of `option=value` texts."""
    from sbikit.runs.draft import Draft
    from sbikit.storage.yaml_files import Located

    draft = Draft(Located({}))
    for assignment in assignments:
        draft.assign(assignment)
    return draft.tree


@plugins_app.command()
def new(
    name: Name,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="simulator, estimator, sampler or validator.")
    ] = "simulator",
    into: Annotated[Path, typer.Option(metavar="DIR", help="Folder that it goes into.")] = Path("."),
    debug: Debug = False,
) -> None:
    """Start a plug-in: a distribution of its own with one small part, of the kind asked for, and a test."""
    with guarded(debug):
        from sbikit.plugins.scaffold import write_scaffold

        for file in write_scaffold(name, into, kind):
            put(str(file))
        put(f"next: pip install -e {into / f'sbikit-{name}'} && sbikit plugins check {name}")


def _only_pretrained(name: str) -> bool:
    """Whether pretrained weights have this name, and no plug-in has."""
    from sbikit.plugins.installed import catalogue

    book = catalogue()
    return bool(book.pretrained_as(name)) and all(found.offer.name != name for found in book.found)


def _find(name: str, kind: str | None) -> Found:
    """The one offer of this name, of any kind where none is given.

    Raises:
        PluginError: there is none, or there are two kinds of it and none is given.
    """
    from sbikit.plugins import registry
    from sbikit.plugins.installed import catalogue
    from sbikit.problem.errors import PluginError

    if kind is not None:
        return registry.find(cast("Kind", kind), name)
    book = catalogue()
    kinds = sorted({found.kind for found in book.found if found.offer.name == name})
    if len(kinds) > 1:
        raise PluginError(
            f"{name!r} names a {' and a '.join(kinds)}.", got=name, fix=f"say which: --kind {kinds[0]}"
        )
    if not kinds:
        raise registry.not_found(book, None, name)
    return registry.find(kinds[0], name)
