"""Posteriors: fitted to simulations, exact, out of a run folder, or shipped with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from sbikit.interface.asking import (
    AnyEstimator,
    AnyReference,
    AnySimulator,
    AnyValidator,
    Chosen,
    Temporary,
    choice_of,
    configuration,
    folder_for,
    job,
    judged_as_before,
    known,
    monitor,
    named,
    place_for,
    simulator_of,
)
from sbikit.interface.kept import KeptSimulations
from sbikit.interface.posterior import Posterior
from sbikit.plugins import registry
from sbikit.roles.sampler import ExactSampler
from sbikit.runs.config import PRESET, RunConfig
from sbikit.runs.devices import choose_device
from sbikit.runs.folder import RunFolder, default_folder
from sbikit.runs.job import Run
from sbikit.runs.new_data import fitted, wary
from sbikit.runs.pretrained import open_pretrained
from sbikit.runs.stages import run_stages


def fit(
    simulations: KeptSimulations | AnySimulator,
    estimator: AnyEstimator = "npe",
    *,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    devices: int = 1,
    precision: str = "float32",
    workers: int = 1,
    cluster: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Posterior:
    """Learn a posterior from simulations.

    Args:
        simulations: of `sbikit.simulate`; or a simulator, of which new draws are made at every step. Those of
            a temporary store are copied into the run folder, if there is one.
        estimator: an object, its class, or the name of one that is installed.
        out: run folder to work in: the same call goes on there after an interrupt, and the command line takes
            it. A temporary one where left out, which ends with the posterior.
        seed: fixes the fit and held-out draws; that of the simulations where left out.
        device, devices, precision: as `sbikit run` has them.
        workers, cluster: where new draws are made.
        progress: whether progress is shown.
        options: of the estimator, where it is named, as `sbikit plugins show NAME` lists them.

    Raises:
        OptionError: an option is unknown, of the wrong type or out of range.
        PluginError: a plug-in cannot be used.
        RunFolderError: the folder holds another run.
        SbikitError: what the estimator refuses.
    """
    kept = simulations if isinstance(simulations, KeptSimulations) else None
    simulator = (
        simulations.simulator if isinstance(simulations, KeptSimulations) else simulator_of(simulations)
    )
    copied = kept is not None and kept.temporary and out is not None
    keeping = None
    if kept is not None:
        keeping = {
            "count": kept.count,
            "store": None if copied else str(kept.store.absolute()),
            "timeout": kept.timeout,
            "max_failures": kept.max_failures,
        }
    if seed is None:
        seed = 0 if kept is None else kept.seed
    values = {
        "simulations": keeping,
        "estimator": {**named("estimator", estimator), **options},
        "seed": seed,
        "device": device,
        "devices": devices,
        "precision": precision,
        "workers": workers,
        "cluster": cluster,
    }
    caller = "sbikit.fit"
    config = configuration(caller, Chosen(simulator=simulator), preset=PRESET, values=values)
    path, temporary = place_for(out)
    config = judged_as_before(path, config)
    folder = folder_for(path, config)
    if kept is not None and copied and not folder.store.exists():
        with folder.locked():
            kept.copy_to(folder.store)
    begun = job(folder, config, caller, progress=progress)
    run_stages(begun, ("keep", "fit"))
    return _of(begun, temporary, kept)


def run(
    simulator: AnySimulator,
    estimator: AnyEstimator | None = None,
    *,
    out: str | Path | None = None,
    preset: str = PRESET,
    reference: AnyReference | None = None,
    validators: Sequence[AnyValidator] | None = None,
    simulations: int | None = None,
    store: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    devices: int | None = None,
    precision: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    settings: Mapping[str, Any] | None = None,
    redo: bool = False,
    progress: bool = True,
) -> Posterior:
    """From a simulator to a validated posterior and a report page: what `sbikit run` does.

    Stages that are done are skipped, so the same call goes on after an interrupt.

    Args:
        simulator, estimator, reference: each an object, its class, or the name of one that is installed; what
            the preset says where left out.
        out: run folder; runs/SIMULATOR-ESTIMATOR-seedN where left out.
        preset: name of a preset, which says all that is not said here.
        validators: what judges the draws.
        simulations: how many training simulations to keep; new ones are drawn at every step where left out.
        store: where they are kept.
        seed: fixes every random number.
        device, devices, precision, workers, cluster: where and how it is computed, as `sbikit run` has them.
        settings: dotted key -> value, as `--set`: `{"estimator.steps": 2000, "sampling.draws": 100}`.
        redo: whether stages that were made with another configuration are done again.
        progress: whether progress is shown.

    Returns:
        The posterior; `sbikit.validate` of it tells what the validators found, `sbikit.report` where the page
        is.

    Raises:
        OptionError: an option is unknown, of the wrong type or out of range.
        PluginError: a plug-in cannot be used.
        RunFolderError: the folder holds another run.
        SbikitError: what a plug-in refuses.
    """
    caller = "sbikit.run"
    keeping = {"count": simulations, "store": None if store is None else str(Path(store).absolute())}
    values = {
        "simulations": {key: value for key, value in keeping.items() if value is not None} or None,
        "seed": seed,
        "device": device,
        "devices": devices,
        "precision": precision,
        "workers": workers,
        "cluster": cluster,
    }
    chosen = Chosen(simulator, estimator, reference, validators)
    config = configuration(caller, chosen, preset=preset, values=values, settings=settings)
    folder = folder_for(Path(out or _default(config)), config, redo=redo)
    begun = job(folder, config, caller, progress=progress)
    run_stages(begun, redo=redo)
    return _of(begun)


def exact(
    simulator: AnySimulator,
    sampler: AnyReference = "hmc",
    *,
    device: str = "auto",
    progress: bool = True,
    **options: Any,
) -> Posterior:
    """The exact posterior of a simulator whose density is known, which needs no training.

    Args:
        simulator: an object, its class, or the name of one that is installed.
        sampler: an object, its class, or the name of one that is installed, such as "hmc".
        device: where it computes.
        progress: whether progress is shown.
        options: of the sampler, where it is named.

    Raises:
        UnsupportedError: it cannot be had of this simulator.
        OptionError: an option is unknown, of the wrong type or out of range.
        PluginError: a plug-in cannot be used.
    """
    choice, made = choice_of("sampler", sampler, options), simulator_of(simulator)
    plugin = cast(ExactSampler, registry.made("sampler", choice.name, choice.options))
    found = plugin.posterior(made, monitor=monitor(progress), device=choose_device(device))
    return Posterior(found, made, name=choice.name)


def open_run(
    folder: str | Path,
    simulator: AnySimulator | None = None,
    *,
    estimator: AnyEstimator | None = None,
    device: Literal["cpu", "cuda", "auto"] = "auto",
    progress: bool = True,
) -> Posterior:
    """The fitted posterior of a run folder, of the command line too.

    Args:
        folder: the run folder.
        simulator: the object, or its class, where the run was made with one that is not installed.
        estimator: the same.
        device: where networks run.
        progress: whether progress is shown.

    Raises:
        RunFolderError: it is none, nothing is fitted there, or it is damaged.
        PluginError: the simulator is not the one that the run was made with.
    """
    known("simulator", simulator)
    known("estimator", estimator)
    opened = RunFolder.open(Path(folder))
    return _of(job(opened, replace(opened.config, device=device), "sbikit.open_run", progress=progress))


def pretrained(name: str, *, device: str = "auto") -> Posterior:
    """A posterior that ships with its weights, as `sbikit plugins` lists them.

    Args:
        name: its name.
        device: where networks run.

    Raises:
        PluginError: there is none of this name.
        CheckpointError: its files are damaged, or the installed plug-ins have other options.
    """
    shipped = open_pretrained(name)
    found = Run(shipped.folder, monitor(False), choose_device(device))
    config = shipped.folder.config
    return Posterior(wary(found), found.simulator, name=config.estimator.name, seed=config.seed)


def _of(run: Run, temporary: Temporary | None = None, source: object = None) -> Posterior:
    """The fitted posterior of a run."""
    return Posterior(
        fitted(run),
        run.simulator,
        name=run.config.estimator.name,
        seed=run.config.seed,
        folder=run.folder.path,
        keep=(temporary, source),
    )


def _default(config: RunConfig) -> Path:
    """The folder of `sbikit run`, where an object's digest stands after a dash."""
    return Path(*(part.replace("@", "-") for part in default_folder(config).parts))
