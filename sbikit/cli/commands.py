"""The command line. A command imports what it needs when it runs, so that asking for help costs nothing."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sbikit import __version__
from sbikit.cli.plugin_commands import plugins_app
from sbikit.cli.terminal import console, guarded, put

if TYPE_CHECKING:
    from rich.text import Text

    from sbikit.roles.validator import Metric, Report
    from sbikit.run.config import Overrides
    from sbikit.run.pipeline import Run

app = typer.Typer(
    name="sbikit",
    help="Joint posteriors of fields and parameters from simulations, with proof of calibration.\n\n"
    "Start with [bold]sbikit run[/bold]; [bold]sbikit plugins[/bold] lists what can be run.",
    epilog="Exit status: 0 done, 2 the input is wrong, 130 interrupted (the same command goes on), "
    "1 anything else.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(
    help="Show the configuration of a run, or its JSON schema.", no_args_is_help=True, rich_markup_mode="rich"
)
app.add_typer(plugins_app, name="plugins", rich_help_panel="Setting up")
app.add_typer(config_app, name="config", rich_help_panel="Setting up")

_STAGES = "One stage at a time"
_CHOICES = "What to run"
_HOW = "How"

_LONG = 20  # figures of a validator beyond which the terminal shows those that fail

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder: one with a run.yaml.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks.", rich_help_panel=_HOW)]
OnDevice = Annotated[
    str | None,
    typer.Option(help="Where networks run: cpu, cuda or auto.", metavar="DEVICE", rich_help_panel=_HOW),
]
Sim = Annotated[
    str | None, typer.Option("--sim", metavar="NAME", help="Simulator.", rich_help_panel=_CHOICES)
]
EstimatorName = Annotated[
    str | None, typer.Option("--estimator", metavar="NAME", help="Estimator.", rich_help_panel=_CHOICES)
]
Validators = Annotated[
    list[str] | None,
    typer.Option(
        "--validator", metavar="NAME", help="Validator; repeat for several.", rich_help_panel=_CHOICES
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="NAME",
        help="Sampler of the exact posterior to compare with, such as hmc.",
        rich_help_panel=_CHOICES,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file laid over the preset.", rich_help_panel=_CHOICES
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One option, for example simulator.size=64; repeat for several.",
        rich_help_panel=_CHOICES,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset", metavar="NAME", help="Options that all others are laid over.", rich_help_panel=_CHOICES
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", help="Fixes every random number of the run.", rich_help_panel=_CHOICES
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        put(f"sbikit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# --- the whole run --------------------------------------------------------------------------


@app.command(rich_help_panel="The main job")
def run(  # noqa: PLR0917
    sim: Sim = None,
    estimator: EstimatorName = None,
    validator: Validators = None,
    reference: Reference = None,
    config: Config = None,
    assignments: Set = None,
    preset: Preset = "quick",
    seed: Seed = None,
    device: OnDevice = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run folder; runs/SIM-ESTIMATOR-seedN if left out.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """From a simulator to a validated posterior and a report.

    Stages that are done are skipped, so the same command goes on after an interrupt or a crash.

    [dim]sbikit run --sim lognormal --estimator diffusion-transformer[/dim]
    """
    with guarded(debug) as session:
        from sbikit.run.config import load_config
        from sbikit.run.pipeline import run_stages
        from sbikit.run.runfolder import RunFolder, default_folder

        overrides = _overrides(
            sim=sim,
            estimator=estimator,
            validator=validator,
            reference=reference,
            seed=seed,
            device=device,
            assignments=assignments,
        )
        wanted = load_config(preset, config, overrides)
        folder = RunFolder.create(out or default_folder(wanted), wanted)
        session.log, session.resumes = folder.log, True
        job = _job(folder.path, device or wanted.device)
        run_stages(job)
        _show_verdicts(folder.metrics)
        put(f"report: {folder.path / 'report.html'}")


# --- one stage at a time --------------------------------------------------------------------


@app.command(rich_help_panel=_STAGES)
def init(  # noqa: PLR0917
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    sim: Sim = None,
    estimator: EstimatorName = None,
    validator: Validators = None,
    reference: Reference = None,
    config: Config = None,
    assignments: Set = None,
    preset: Preset = "quick",
    seed: Seed = None,
    device: OnDevice = None,
    debug: Debug = False,
) -> None:
    """Make a run folder without running anything.

    [dim]sbikit init DIR --sim lognormal --reference hmc[/dim]
    """
    with guarded(debug):
        from sbikit.run.config import load_config
        from sbikit.run.runfolder import RunFolder

        overrides = _overrides(
            sim=sim,
            estimator=estimator,
            validator=validator,
            reference=reference,
            seed=seed,
            device=device,
            assignments=assignments,
        )
        RunFolder.create(folder, load_config(preset, config, overrides))
        put(f"run folder: {folder}")


def _stage(folder: Path, names: tuple[str, ...], device: str | None, debug: bool) -> None:
    with guarded(debug) as session:
        from sbikit.run.pipeline import run_stages

        job = _job(folder, device)
        session.log, session.resumes = job.folder.log, True
        run_stages(job, names)


@app.command(rich_help_panel=_STAGES)
def simulate(folder: Folder, debug: Debug = False) -> None:
    """Draw the held-out truths and observations."""
    _stage(folder, ("simulate",), None, debug)


@app.command(rich_help_panel=_STAGES)
def fit(folder: Folder, device: OnDevice = None, debug: Debug = False) -> None:
    """Train the estimator; goes on from its last checkpoint."""
    _stage(folder, ("fit",), device, debug)


@app.command(rich_help_panel=_STAGES)
def sample(  # noqa: PLR0917
    folder: Folder,
    observation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="netCDF or .npy file with new data, instead of the held-out observations.",
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference", help="Draw the new data's posterior with the run's reference; needs no fit."
        ),
    ] = False,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Draws for the new data.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where draws for the new data go; DIR/OBSERVATION-posterior.nc if left out, "
            "or DIR/OBSERVATION-SAMPLER.nc of a reference.",
        ),
    ] = None,
    device: OnDevice = None,
    debug: Debug = False,
) -> None:
    """Draw the posterior of the held-out observations, or of new data.

    [dim]sbikit sample DIR --observation obs.nc --draws 1000[/dim]
    """
    if observation is None and not reference:
        _stage(folder, ("reference", "sample"), device, debug)
        return
    with guarded(debug) as session:
        from sbikit.problem.errors import OptionError
        from sbikit.run.pipeline import sample_observation

        if observation is None:
            raise OptionError(
                "The reference of the held-out observations is a stage of the run.",
                where="--reference",
                expected="--observation FILE beside it",
                fix=f"sbikit sample {folder}",
            )
        job = _job(folder, device)
        session.log = job.folder.log
        if reference:
            _sample_reference(job, observation, draws, out)
            return
        target = out or folder / f"{observation.stem}-posterior.nc"
        sample_observation(job, observation, draws, target)
        put(f"posterior: {target}")


def _sample_reference(job: Run, observation: Path, draws: int, out: Path | None) -> None:
    """Draw new data's posterior with the reference, and say whether it may be called one."""
    from rich.text import Text

    from sbikit.roles.trust import in_words
    from sbikit.run.pipeline import sample_reference

    name = job.config.reference.name if job.config.reference else ""
    target = out or job.folder.path / f"{observation.stem}-{name}.nc"
    record = sample_reference(job, observation, draws, target)
    words = in_words([record])
    if words:
        job.monitor.say(f"{name}: {words}")
    if not record["trustworthy"]:
        text = f"NOT A REFERENCE: {name} itself says that these draws cannot be trusted to be exact."
        console(stderr=True).print(Text(text, style="bold red"), soft_wrap=True)
        job.monitor.note(text)
    put(f"posterior: {target}")


@app.command(rich_help_panel=_STAGES)
def validate(folder: Folder, debug: Debug = False) -> None:
    """Judge the draws and print the verdicts."""
    _stage(folder, ("validate",), None, debug)
    _show_verdicts(folder / "metrics.json")


@app.command(rich_help_panel=_STAGES)
def report(folder: Folder, debug: Debug = False) -> None:
    """Write report.html."""
    _stage(folder, ("report",), None, debug)
    put(f"report: {folder / 'report.html'}")


# --- the configuration ----------------------------------------------------------------------


@config_app.command("show")
def config_show(  # noqa: PLR0917
    sim: Sim = None,
    estimator: EstimatorName = None,
    validator: Validators = None,
    reference: Reference = None,
    config: Config = None,
    assignments: Set = None,
    preset: Preset = "quick",
    seed: Seed = None,
    device: OnDevice = None,
    debug: Debug = False,
) -> None:
    """Print the whole configuration as commented YAML, without running it.

    [dim]sbikit config show --preset quick > run.yaml[/dim]
    """
    with guarded(debug):
        from sbikit.run.config import load_config
        from sbikit.run.config_text import render

        overrides = _overrides(
            sim=sim,
            estimator=estimator,
            validator=validator,
            reference=reference,
            seed=seed,
            device=device,
            assignments=assignments,
        )
        put(render(load_config(preset, config, overrides)))


@config_app.command("schema")
def config_schema(debug: Debug = False) -> None:
    """Print the JSON schema of a configuration, with the options of every installed plug-in."""
    with guarded(debug):
        from sbikit.run.config import schema

        put(json.dumps(schema(), indent=2))


# --- pieces ---------------------------------------------------------------------------------


def _overrides(
    *,
    sim: str | None,
    estimator: str | None,
    validator: list[str] | None,
    reference: str | None,
    seed: int | None,
    device: str | None,
    assignments: list[str] | None,
) -> Overrides:
    from sbikit.run.config import Overrides

    return Overrides(
        simulator=sim,
        estimator=estimator,
        validators=tuple(validator or ()),
        reference=reference,
        seed=seed,
        device=device,
        assignments=tuple(assignments or ()),
    )


def _job(path: Path, device: str | None) -> Run:
    """The run in a folder that exists."""
    from sbikit.run.pipeline import Run, choose_device
    from sbikit.run.progress import ConsoleMonitor
    from sbikit.run.runfolder import RunFolder

    folder = RunFolder.open(path)
    monitor = ConsoleMonitor(
        console(stderr=True), choose_device(device or folder.config.device), folder.log, folder.training
    )
    return Run(folder, monitor, shlex.join(["sbikit", *sys.argv[1:]]))


def _show_verdicts(metrics: Path) -> None:
    """A table of the figures in metrics.json; of a validator with many, those that fail."""
    from rich.table import Table

    from sbikit.storage.metrics import read_metrics

    colours = {"pass": "green", "fail": "bold red", "none": ""}
    reports = read_metrics(metrics)
    floors = any(metric.floor is not None for report in reports for metric in report.metrics)
    heads = ("validator", "figure", "of", "value", *(["floor"] if floors else []), "ideal", "verdict")
    table = Table(*heads, box=None, pad_edge=False)
    shown: list[Metric] = []  # validators share some figures
    for found in reports:
        for metric in _worth_showing(found):
            if metric in shown:
                continue
            shown.append(metric)
            ideal = "" if metric.ideal is None else f"{metric.ideal:.4g}"
            value = f"{metric.value:.4g} ± {metric.error:.2g}"
            has_floor = metric.floor is not None and metric.floor_error is not None
            floor = f"{metric.floor:.4g} ± {metric.floor_error:.2g}" if has_floor else ""
            verdict = "" if metric.verdict == "none" else metric.verdict
            row = (found.validator, metric.name, metric.variable, value, *([floor] if floors else []))
            table.add_row(*row, ideal, verdict, style=colours[metric.verdict])
    out = console()
    out.print(table)
    for found in reports:
        if len(found.metrics) > _LONG:
            out.print(_summary(found), soft_wrap=True)


def _worth_showing(report: Report) -> list[Metric]:
    """All figures of a validator, or those that fail where there are many."""
    if len(report.metrics) <= _LONG:
        return list(report.metrics)
    return [metric for metric in report.metrics if metric.verdict == "fail"]


def _summary(report: Report) -> Text:
    """How a validator with many figures went, on one line."""
    from rich.text import Text

    judged = [metric for metric in report.metrics if metric.verdict != "none"]
    failed = sum(metric.verdict == "fail" for metric in judged)
    text = f"{report.validator}: {len(judged) - failed} of {len(judged)} figures pass; "
    more = f"{'the one' if failed == 1 else f'those {failed}'} above failed, " if failed else ""
    return Text(f"{text}{more}all {len(report.metrics)} are in the report", "bold red" if failed else "green")


def main() -> None:
    """Entry point of the `sbikit` command."""
    app(prog_name="sbikit")
