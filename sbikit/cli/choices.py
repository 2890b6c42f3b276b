"""What several commands are told: the options that choose a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sbikit.cli.whole_numbers import whole_number

if TYPE_CHECKING:
    from sbikit.runs.config import RunConfig

CHOICES = "What to run"
HOW = "How"

Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks.", rich_help_panel=HOW)]
Redo = Annotated[
    bool,
    typer.Option(
        "--redo",
        help="Drop what was made with another configuration than run.yaml has now, and do it again.",
        rich_help_panel=HOW,
    ),
]
OnDevice = Annotated[
    str | None,
    typer.Option(help="Where networks run: cpu, cuda or auto.", metavar="DEVICE", rich_help_panel=HOW),
]
OnDevices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        parser=whole_number(1, 1024),
        metavar="N",
        help="On how many GPUs, or CPU processes, the estimator is fitted.",
        rich_help_panel=HOW,
    ),
]
InPrecision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="WORD",
        help="Of products inside networks: float32, or auto, which is faster where they can be bfloat16.",
        rich_help_panel=HOW,
    ),
]
Kept = Annotated[
    int | None,
    typer.Option(
        "--simulations",
        parser=whole_number(2, 1_000_000_000),
        metavar="N",
        help="Keep N training simulations and train on them; new ones at every step if left out.",
        rich_help_panel=CHOICES,
    ),
]
InStore = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="Where they are kept, shared with other runs; DIR/simulations.zarr if left out.",
        rich_help_panel=CHOICES,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        parser=whole_number(1, 4096),
        metavar="N",
        help="Processes that simulate and draw posteriors.",
        rich_help_panel=HOW,
    ),
]
OnCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="WHERE",
        help="Simulate on dask: local:N, slurm:FILE.yaml or tcp://HOST:PORT.",
        rich_help_panel=HOW,
    ),
]
Sim = Annotated[str | None, typer.Option("--sim", metavar="NAME", help="Simulator.", rich_help_panel=CHOICES)]
EstimatorName = Annotated[
    str | None, typer.Option("--estimator", metavar="NAME", help="Estimator.", rich_help_panel=CHOICES)
]
Validators = Annotated[
    list[str] | None,
    typer.Option(
        "--validator", metavar="NAME", help="Validator; repeat for several.", rich_help_panel=CHOICES
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="NAME",
        help="Sampler of the exact posterior to compare with.",
        rich_help_panel=CHOICES,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file laid over the preset.", rich_help_panel=CHOICES),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One option, for example simulator.size=64; repeat for several.",
        rich_help_panel=CHOICES,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset", metavar="NAME", help="Options that all others are laid over.", rich_help_panel=CHOICES
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        parser=whole_number(),
        metavar="N",
        help="Fixes every random number of the run.",
        rich_help_panel=CHOICES,
    ),
]


@dataclass(frozen=True)
class Wanted:
    """What the command line says of the configuration, and where networks shall run now."""

    preset: str
    file: Path | None
    device: str | None
    devices: int | None
    sim: str | None
    estimator: str | None
    validators: tuple[str, ...]
    reference: str | None
    seed: int | None
    simulations: int | None
    store: Path | None
    workers: int | None
    cluster: str | None
    assignments: tuple[str, ...]

    def load(self) -> RunConfig:
        """The whole configuration, checked."""
        from sbikit.runs.config import load_config
        from sbikit.runs.draft import Overrides

        overrides = Overrides(
            simulator=self.sim,
            estimator=self.estimator,
            validators=self.validators,
            reference=self.reference,
            seed=self.seed,
            device=self.device,
            devices=self.devices,
            simulations=self.simulations,
            store=absolute(self.store),
            workers=self.workers,
            cluster=self.cluster,
            assignments=self.assignments,
        )
        return load_config(self.preset, self.file, overrides)


def absolute(path: Path | None) -> str | None:
    """A path that means the same in every folder."""
    return None if path is None else str(path.absolute())


def _wanted(  # noqa: PLR0917 - the options, in the order of the help page
    sim: Sim = None,
    estimator: EstimatorName = None,
    validator: Validators = None,
    reference: Reference = None,
    config: Config = None,
    assignments: Set = None,
    preset: Preset = "quick",
    seed: Seed = None,
    simulations: Kept = None,
    store: InStore = None,
    workers: Workers = None,
    cluster: OnCluster = None,
    device: OnDevice = None,
    devices: OnDevices = None,
) -> Wanted:
    return Wanted(
        preset,
        config,
        device,
        devices,
        sim,
        estimator,
        tuple(validator or ()),
        reference,
        seed,
        simulations,
        store,
        workers,
        cluster,
        tuple(assignments or ()),
    )


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a configuration; they come as its first argument, `Wanted`."""
    shared = inspect.signature(_wanted, eval_str=True).parameters
    own = dict(list(inspect.signature(command, eval_str=True).parameters.items())[1:])

    @wraps(command)
    def told(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in shared}
        command(_wanted(**chosen), **given)

    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in sorted([*own.values(), *shared.values()], key=lambda one: one.default is not one.empty)
    ]
    told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return told
