"""What is asked for in Python as the configuration of a run, and a run folder for it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from rich.console import Console

from sbikit.plugins.installed import Kind
from sbikit.plugins.registry import load
from sbikit.plugins.registry import resolve as resolve_plugin
from sbikit.plugins.session import name_of, plugin_of
from sbikit.problem.option_errors import Path as Keys
from sbikit.problem.option_errors import check_options
from sbikit.problem.options import Options
from sbikit.roles.estimator import Estimator
from sbikit.roles.plugin import Plugin
from sbikit.roles.sampler import ExactSampler
from sbikit.roles.simulator import Simulator
from sbikit.roles.validator import Validator
from sbikit.runs.config import Choice, RunConfig, resolve
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import Devices, choose_device
from sbikit.runs.draft import SECTIONS, Draft, read_preset
from sbikit.runs.folder import AnotherRunError, RunFolder
from sbikit.runs.job import Run
from sbikit.storage.yaml_files import Located
from sbikit.workers.places import read_place

AnySimulator: TypeAlias = Simulator | type[Simulator] | str
AnyEstimator: TypeAlias = Estimator | type[Estimator] | str
AnyReference: TypeAlias = ExactSampler | type[ExactSampler] | str
AnyValidator: TypeAlias = Validator | type[Validator] | str


@dataclass(frozen=True)
class Chosen:
    """Plug-ins, each an object, its class, or the name of one that is installed; None: what a preset says."""

    simulator: AnySimulator | None = None
    estimator: AnyEstimator | None = None
    reference: AnyReference | None = None
    validators: Sequence[AnyValidator] | None = None


def configuration(
    caller: str,
    chosen: Chosen,
    *,
    preset: str,
    values: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A configuration of a preset and of what was asked for.

    Args:
        caller: the function that was called, for messages.
        chosen: the plug-ins.
        preset: name of the preset.
        values: section or option -> value; None leaves what the preset says.
        settings: dotted key -> value, as `--set` of the command line.

    Raises:
        OptionError: an option is unknown, of the wrong type or out of range.
        PluginError: a plug-in cannot be used.
    """
    draft = Draft(read_preset(preset))
    tree: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    for section, kind in SECTIONS.items():
        if (plugin := getattr(chosen, section)) is not None:
            tree[section] = {**named(kind, plugin), **tree.get(section, {})}
    if chosen.validators is not None:
        tree["validators"] = [named("validator", one) for one in chosen.validators]
    origins: dict[Keys, str] = {(key,): f"{caller}({key}=...)" for key in tree}
    draft.merge(Located(tree, origins))
    draft.bring_along()
    for key, value in (settings or {}).items():
        draft.put(key.split("."), value, f"{caller}(settings={{{key!r}: ...}})")
    return resolve(draft)


def named(kind: Kind, plugin: Plugin | type[Plugin] | str) -> dict[str, Any]:
    """Name and options of a plug-in, as a configuration writes them."""
    if isinstance(plugin, str):
        return {"name": plugin}
    made = plugin_of(kind, plugin)
    name = name_of(made)
    options = getattr(
        made, "options", None
    )  # an `__init__` of somebody may leave it out, or make it something else
    return {"name": name, **(options.model_dump(mode="json") if isinstance(options, Options) else {})}


def choice_of(
    kind: Kind, plugin: Plugin | type[Plugin] | str, given: Mapping[str, Any] | None = None
) -> Choice:
    """A plug-in by name with all its options.

    Args:
        kind: of which kind.
        plugin: an object, its class, or the name of one that is installed.
        given: options that are to be others.

    Raises:
        OptionError: an option is unknown, of the wrong type or out of range.
        PluginError: the plug-in cannot be used.
    """
    written = {**named(kind, plugin), **(given or {})}
    name = written.pop("name")
    return Choice(name, check_options(resolve_plugin(kind, name).Options, written, prefix=(kind,)))


def known(kind: Kind, plugin: Plugin | type[Plugin] | str | None) -> None:
    """See to it that this session knows a plug-in by its name."""
    if plugin is not None and not isinstance(plugin, str):
        name_of(plugin_of(kind, plugin))


def monitor(progress: bool, folder: RunFolder | None = None) -> ConsoleMonitor:
    """Bars and lines for a terminal or a notebook, or none; the log of a run folder either way."""
    console = Console(stderr=True, quiet=not progress, highlight=False)
    return ConsoleMonitor(console) if folder is None else ConsoleMonitor(console, folder.log, folder.training)


def job(folder: RunFolder, asked: RunConfig, caller: str, *, progress: bool) -> Run:
    """The run in a folder, where networks and simulations run as `asked` says."""
    return Run(
        folder,
        monitor(progress, folder),
        choose_device(asked.device),
        f"{caller}(...)",
        read_place(asked.workers, asked.cluster or "", where="cluster"),
        devices=Devices(asked.devices, asked.device_batch, asked.precision),
    )


class Temporary:
    """A folder that is there as long as this object is, and no longer than the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sbikit-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def place_for(out: str | Path | None) -> tuple[Path, Temporary | None]:
    """The folder of this name, or a temporary one and what keeps it there."""
    if out is not None:
        return Path(out), None
    temporary = Temporary()
    return temporary.path / "run", temporary


def folder_for(path: Path, config: RunConfig, *, redo: bool = False) -> RunFolder:
    """The run folder of a configuration, made or taken up.

    Args:
        path: the folder.
        config: what it is to hold.
        redo: whether a run of another configuration is gone on with, in this one.

    Raises:
        RunFolderError: it holds another run or something else.
    """
    if not (path / "run.yaml").is_file():
        return RunFolder.create(path, config)
    if redo:
        return RunFolder.open(path).with_config(config)
    try:
        return RunFolder.create(path, config)
    except AnotherRunError as error:
        error.fix = (
            "choose another `out`; or take what is there: sbikit.open_run(folder); or, to drop what was made "
            "with another configuration: sbikit.run(..., redo=True)"
        )
        raise


def judged_as_before(path: Path, config: RunConfig) -> RunConfig:
    """A configuration with what a run folder, if there is one, says of how draws are judged."""
    if not (path / "run.yaml").is_file():
        return config
    there = RunFolder.open(path).config
    return replace(config, validators=there.validators, reference=there.reference, sampling=there.sampling)


def simulator_of(simulator: AnySimulator) -> Simulator:
    """The simulator itself."""
    if isinstance(simulator, str):
        return load("simulator", simulator)
    return cast(Simulator, plugin_of("simulator", simulator))
