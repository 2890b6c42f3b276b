"""The command line. A command imports what it needs when it runs, so that asking for help costs nothing."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sbikit import __version__
from sbikit.cli.choices import (
    HOW,
    Debug,
    InPrecision,
    InStore,
    OnCluster,
    OnDevice,
    OnDevices,
    Redo,
    Wanted,
    Workers,
    absolute,
    configured,
)
from sbikit.cli.new_data import NewData
from sbikit.cli.plugin_commands import plugins_app
from sbikit.cli.pretrained import checked_weights, sample_pretrained
from sbikit.cli.streams import flushed, steady_streams
from sbikit.cli.terminal import NOBODY_READS, console, guarded, put, tell
from sbikit.cli.verdicts import show_verdicts
from sbikit.cli.whole_numbers import whole_number

if TYPE_CHECKING:
    from sbikit.runs.config import RunConfig
    from sbikit.runs.folder import RunFolder
    from sbikit.runs.job import Run

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
_NEW_DRAWS = 1000  # of new data's posterior

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder: one with a run.yaml.")]


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
@configured
def run(
    wanted: Wanted,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run folder; runs/SIM-ESTIMATOR-seedN if left out.",
            rich_help_panel=HOW,
        ),
    ] = None,
    redo: Redo = False,
    debug: Debug = False,
) -> None:
    """From a simulator to a validated posterior and a report.

    Stages that are done are skipped, so the same command goes on after an interrupt or a crash.

    [dim]sbikit run --sim lognormal --estimator diffusion-transformer[/dim]
    """
    with guarded(debug) as session:
        from sbikit.runs.folder import RunFolder, default_folder
        from sbikit.runs.stages import run_stages

        config = wanted.load()
        folder = RunFolder.create(out or default_folder(config), config)
        session.log, session.resumes = folder.log, True
        run_stages(_job(folder, config), redo=redo)
        show_verdicts(folder.metrics)
        put(f"report: {folder.path / 'report.html'}")


# --- one stage at a time --------------------------------------------------------------------


@app.command(rich_help_panel=_STAGES)
@configured
def init(
    wanted: Wanted,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    debug: Debug = False,
) -> None:
    """Make a run folder without running anything.

    [dim]sbikit init DIR --sim lognormal --reference hmc[/dim]
    """
    with guarded(debug):
        from sbikit.runs.folder import RunFolder

        RunFolder.create(folder, wanted.load())
        put(f"run folder: {folder}")


def _stage(
    path: Path,
    names: tuple[str, ...],
    device: str | None,
    devices: int | None = None,
    *,
    precision: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    redo: bool,
    debug: bool,
) -> None:
    with guarded(debug) as session:
        from sbikit.runs.folder import RunFolder
        from sbikit.runs.stages import run_stages

        folder = RunFolder.open(path)
        session.log, session.resumes = folder.log, True
        job = _job(
            folder, device=device, devices=devices, precision=precision, workers=workers, cluster=cluster
        )
        run_stages(job, names, redo=redo)


@app.command(rich_help_panel=_STAGES)
def simulate(  # noqa: PLR0917
    folder: Folder,
    simulations: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(2, 1_000_000_000),
            metavar="N",
            help="How many training simulations to keep from now on; none is drawn twice.",
        ),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help="Training simulations that were made elsewhere: named arrays, .npz, .zarr, .h5 or .nc.",
        ),
    ] = None,
    store: InStore = None,
    workers: Workers = None,
    cluster: OnCluster = None,
    redo: Redo = False,
    debug: Debug = False,
) -> None:
    """Draw the held-out truths and observations, and the training simulations of a run that keeps them.

    What is kept already is compared with its digests; what is damaged is drawn again.

    [dim]sbikit simulate DIR --simulations 20000 --workers 8[/dim]
    """
    with guarded(debug) as session:
        from sbikit.runs.folder import RunFolder
        from sbikit.runs.stages import run_stages

        opened = RunFolder.open(folder)
        session.log, session.resumes = opened.log, True
        if given is not None:
            from sbikit.runs.own_store import importing

            opened, simulations = importing(opened, given.absolute(), simulations)
        if simulations is not None or store is not None:
            opened = opened.keeping(simulations, absolute(store))
        job = _job(opened, workers=workers, cluster=cluster)
        run_stages(job, ("simulate", "keep"), redo=redo, growing=True)


@app.command(rich_help_panel=_STAGES)
def fit(
    folder: Folder,
    device: OnDevice = None,
    devices: OnDevices = None,
    redo: Redo = False,
    debug: Debug = False,
) -> None:
    """Train the estimator; goes on from its last checkpoint."""
    _stage(folder, ("fit",), device, devices, redo=redo, debug=debug)


@app.command(rich_help_panel=_STAGES)
def sample(  # noqa: PLR0917
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="A run folder: one with a run.yaml.", show_default=False),
    ] = None,
    observation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="netCDF or .npy file with new data, instead of the held-out observations.",
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--pretrained",
            metavar="NAME",
            help="Draw the new data's posterior with installed weights, without a run folder; "
            "`sbikit plugins` lists them.",
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference", help="Draw the new data's posterior with the run's reference; needs no fit."
        ),
    ] = False,
    draws: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1, 10_000_000),
            metavar="N",
            help=f"Draws for the new data; {_NEW_DRAWS} if left out.",
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Latents that the file holds, too, such as theta: the posterior of the others given these.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where draws for the new data go; DIR/OBSERVATION-posterior.nc if left out, "
            "or DIR/OBSERVATION-SAMPLER.nc of a reference; without DIR in the working directory.",
        ),
    ] = None,
    workers: Workers = None,
    cluster: OnCluster = None,
    device: OnDevice = None,
    precision: InPrecision = None,
    redo: Redo = False,
    debug: Debug = False,
) -> None:
    """Draw the posterior of the held-out observations, or of new data.

    [dim]sbikit sample DIR --observation obs.nc --draws 1000[/dim]

    [dim]sbikit sample --pretrained quick --observation obs.nc[/dim]
    """
    if folder is None or pretrained is not None:
        of_folders = {"--reference": reference, "--workers": workers, "--cluster": cluster, "--redo": redo}
        with guarded(debug):
            name, data = checked_weights(pretrained, folder, observation, of_folders)
            asked = NewData(data, draws or _NEW_DRAWS, out, given)
            sample_pretrained(name, asked, device=device, precision=precision)
        return
    of_new_data = {"--reference": reference, "--draws": draws, "--out": out, "--given": given}
    if observation is None and not any(of_new_data.values()):
        _stage(
            folder,
            ("reference", "sample"),
            device,
            precision=precision,
            workers=workers,
            cluster=cluster,
            redo=redo,
            debug=debug,
        )
        return
    with guarded(debug) as session:
        from sbikit.problem.errors import OptionError
        from sbikit.runs.folder import RunFolder

        if observation is None:
            raise OptionError(
                "That is of the posterior of new data, and none are given.",
                where=", ".join(option for option, given in of_new_data.items() if given),
                expected="--observation FILE beside it",
                fix=f"for the held-out observations and their reference: sbikit sample {folder}",
            )
        if workers is not None or cluster is not None:
            raise OptionError(
                "One observation is drawn in this process.",
                where="--workers" if workers is not None else "--cluster",
                expected="the held-out observations, without --observation",
                fix="leave it out",
            )
        if redo:
            raise OptionError(
                "Draws for new data drop nothing of the run.",
                where="--redo",
                expected="a stage of the run, without --observation",
                fix=f"sbikit fit {folder} --redo, then the same command without --redo",
            )
        opened = RunFolder.open(folder)
        session.log = opened.log
        job = _job(opened, device=device, precision=precision)
        asked = NewData(observation, draws or _NEW_DRAWS, out, given)
        (_sample_reference if reference else _sample_fitted)(job, asked)


def _sample_fitted(job: Run, asked: NewData) -> None:
    """Draw new data's posterior with the fitted sampler, and say where it was never trained."""
    from sbikit.roles.trust import distrust
    from sbikit.runs.new_data import fitted

    target = asked.target(job.folder.path, "posterior")
    name = job.config.estimator.name
    trust = asked.sample(job, fitted(job), name, target)
    for line in distrust(trust):
        _warn(job, line)
    put(f"posterior: {target}")


def _sample_reference(job: Run, asked: NewData) -> None:
    """Draw new data's posterior with the reference, and say whether it may be called one."""
    from sbikit.roles.trust import doubted, in_words, spans
    from sbikit.runs.new_data import exact

    sampler = exact(job)
    name = job.config.reference.name if job.config.reference else ""
    target = asked.target(job.folder.path, name)
    trust = asked.sample(job, sampler, name, target)
    words, bad = in_words(trust), doubted(trust)
    if words:
        job.monitor.say(f"{name}: {words}")
    if bad:
        which = "these draws" if len(trust) == 1 else f"its draws for observations {spans(bad)}"
        _warn(job, f"NOT A REFERENCE: {name} itself says that {which} cannot be trusted to be exact.")
    put(f"posterior: {target}")


def _warn(job: Run, text: str) -> None:
    tell(text)
    job.monitor.note(text)


@app.command(rich_help_panel=_STAGES)
def validate(folder: Folder, redo: Redo = False, debug: Debug = False) -> None:
    """Judge the draws and print the verdicts."""
    _stage(folder, ("validate",), None, redo=redo, debug=debug)
    with guarded(debug):
        show_verdicts(folder / "metrics.json")


@app.command(rich_help_panel=_STAGES)
def report(folder: Folder, redo: Redo = False, debug: Debug = False) -> None:
    """Write report.html."""
    _stage(folder, ("report",), None, redo=redo, debug=debug)
    put(f"report: {folder / 'report.html'}")


# --- the configuration ----------------------------------------------------------------------


@config_app.command("show")
@configured
def config_show(wanted: Wanted, debug: Debug = False) -> None:
    """Print the whole configuration as commented YAML, without running it.

    [dim]sbikit config show --preset quick > run.yaml[/dim]
    """
    with guarded(debug):
        from sbikit.runs.config_text import render

        put(render(wanted.load()))


@config_app.command("schema")
def config_schema(debug: Debug = False) -> None:
    """Print the JSON schema of a configuration, with the options of every installed plug-in."""
    with guarded(debug):
        from sbikit.runs.schema import schema

        put(json.dumps(schema(), indent=2))


def _job(
    folder: RunFolder,
    asked: RunConfig | None = None,
    *,
    device: str | None = None,
    devices: int | None = None,
    precision: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Run:
    """The run in a folder.

    Args:
        folder: the run folder.
        asked: what says where things are run, as far as the others do not; run.yaml where left out.
        device: where networks run.
        devices: on how many of them the estimator is fitted.
        precision: of products inside networks.
        workers, cluster: where simulations are run.
    """
    from sbikit.runs.console_monitor import ConsoleMonitor
    from sbikit.runs.devices import Devices, choose_device
    from sbikit.runs.job import Run
    from sbikit.workers.places import read_place

    config = asked or folder.config
    told = workers is not None or cluster is not None
    place = (
        read_place(workers or 1, cluster or "") if told else read_place(config.workers, config.cluster or "")
    )
    monitor = ConsoleMonitor(console(stderr=True), folder.log, folder.training)
    command = shlex.join(["sbikit", *sys.argv[1:]])
    count, products = devices or config.devices, precision or config.precision
    return Run(
        folder,
        monitor,
        choose_device(device or config.device),
        command,
        place,
        devices=Devices(count, config.device_batch, products),
    )


def main() -> None:
    """Entry point of the `sbikit` command."""
    steady_streams()
    status: str | int | None = 0
    try:
        app(prog_name="sbikit")
    except SystemExit as end:
        status = end.code
    except BrokenPipeError:
        status = NOBODY_READS
    except OSError as error:  # help or a version that cannot be printed
        tell(f"failed: {error}")
        status = 1
    lost = flushed(sys.stdout)
    if isinstance(lost, BrokenPipeError):
        status = status or NOBODY_READS
    elif lost is not None and not status:
        tell(f"failed: the output cannot be written: {lost.strerror}")
        status = 1
    flushed(sys.stderr)
    sys.exit(status)
