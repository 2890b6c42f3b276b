"""The configuration of a run: sections from several sources become one checked, complete whole.

Sources, later ones win: a preset, a file, the flags that name plug-ins, `--set key=value`. What is written
is checked once, against the run's own options and those of every plug-in that it names, and stays typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from sbikit.plugins import registry
from sbikit.plugins.installed import Kind
from sbikit.problem.errors import OptionError, PluginError
from sbikit.problem.option_errors import Path as Keys
from sbikit.problem.option_errors import check_options
from sbikit.problem.options import Options
from sbikit.runs.draft import SECTIONS, Draft, Overrides, read_preset
from sbikit.storage.yaml_files import read_yaml

if TYPE_CHECKING:
    from sbikit.roles.validator import Validator

PRESET = "quick"
_MOST_KEPT = 1_000_000_000  # training simulations, which lie on the disk
_MOST = 1_000_000  # of anything drawn; how much memory the whole takes is checked once the problem is known


class Sampling(BaseModel):
    """How much is drawn once the estimator is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(
        default=64, ge=2, le=_MOST, description="posterior draws for each held-out observation"
    )
    observations: int = Field(default=256, ge=2, le=_MOST, description="held-out observations to judge on")
    shown_draws: int = Field(
        default=1000, ge=2, le=_MOST, description="posterior draws for the one that the report shows"
    )
    reference_draws: int = Field(
        default=1000,
        ge=4,
        le=_MOST,
        description="draws of the reference for each of its observations; half as many of the estimator "
        "are compared with them",
    )
    reference_observations: int = Field(
        default=16,
        ge=1,
        le=_MOST,
        description="how many of the held-out observations the reference is run on, the shown one first",
    )


class Keeping(BaseModel):
    """Training simulations: drawn as they are needed, or kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int | None = Field(
        default=None,
        ge=2,
        le=_MOST_KEPT,
        description="how many training simulations are kept and trained on; null draws new ones at every "
        "step and keeps none",
    )
    store: str | None = Field(
        default=None,
        min_length=1,
        description="folder where they are kept, which many runs may share; null is simulations.zarr in the "
        "run folder",
    )
    timeout: float | None = Field(
        default=None, gt=0, description="seconds after which a draw counts as failed; null waits for ever"
    )
    max_failures: float = Field(
        default=0.1, ge=0, le=0.9, description="share of draws that may fail before the run is ended"
    )


class Named(BaseModel):
    """A plug-in as it is written: its name, and options that are yet to be checked."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1, description="name of the plug-in, as `sbikit plugins` lists it")


class Written(BaseModel):
    """A run as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    simulator: Named = Field(description="what makes parameters, fields and data")
    estimator: Named = Field(description="what learns the posterior")
    validators: tuple[Named, ...] = Field(default=(), description="what judges the draws")
    reference: Named | None = Field(
        default=None,
        description="an exact sampler to compare with, which brings the validators that do so along",
    )
    simulations: Keeping = Field(default=Keeping(), description="where training simulations come from")
    sampling: Sampling = Field(default=Sampling(), description="how much is drawn")
    seed: int = Field(default=0, ge=0, lt=2**63, description="fixes every random number of the run")
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="auto", description="where networks run; auto takes a GPU where there is one"
    )
    devices: int = Field(
        default=1, ge=1, le=1024, description="GPUs, or CPU processes, that the estimator is fitted on"
    )
    device_batch: int | None = Field(
        default=None,
        ge=1,
        le=_MOST,
        description="most simulations of a step at once on a device, to fit its memory; all where left out",
    )
    precision: Literal["float32", "auto"] = Field(
        default="float32",
        description="of products inside networks; auto is bfloat16 where device and estimator have it",
    )
    workers: int = Field(
        default=1, ge=1, le=100_000, description="processes that simulate and draw posteriors"
    )
    cluster: str | None = Field(
        default=None,
        min_length=1,
        description="dask cluster that simulates: local:N, slurm:FILE.yaml or tcp://HOST:PORT; null is this "
        "machine",
    )


@dataclass(frozen=True)
class Choice:
    """A plug-in by name, with all its options."""

    name: str
    options: Options

    def tree(self) -> dict[str, Any]:
        """Plain mappings, lists and scalars."""
        return {"name": self.name, **self.options.model_dump(mode="json")}


@dataclass(frozen=True)
class RunConfig:
    """A run, every option given and checked; `Written` says what each part means."""

    simulator: Choice
    estimator: Choice
    validators: tuple[Choice, ...]
    reference: Choice | None
    simulations: Keeping
    sampling: Sampling
    seed: int
    device: Literal["cpu", "cuda", "auto"]
    devices: int
    device_batch: int | None
    precision: Literal["float32", "auto"]
    workers: int
    cluster: str | None

    def chosen(self) -> tuple[tuple[Kind, str], ...]:
        """Kind and name of every plug-in."""
        reference = () if self.reference is None else (("sampler", self.reference.name),)
        judges = tuple(("validator", choice.name) for choice in self.validators)
        found = (("simulator", self.simulator.name), ("estimator", self.estimator.name), *reference, *judges)
        return cast("tuple[tuple[Kind, str], ...]", found)

    def tree(self) -> dict[str, Any]:
        """Plain mappings, lists and scalars."""
        return {
            "simulator": self.simulator.tree(),
            "estimator": self.estimator.tree(),
            "validators": [choice.tree() for choice in self.validators],
            "reference": None if self.reference is None else self.reference.tree(),
            "simulations": self.simulations.model_dump(mode="json"),
            "sampling": self.sampling.model_dump(mode="json"),
            "seed": self.seed,
            "device": self.device,
            "devices": self.devices,
            "device_batch": self.device_batch,
            "precision": self.precision,
            "workers": self.workers,
            "cluster": self.cluster,
        }


def load_config(
    preset: str = PRESET, file: Path | None = None, overrides: Overrides | None = None
) -> RunConfig:
    """Put the sources together and check the whole.

    Raises:
        OptionError: an option is unknown, missing, of the wrong type or out of range.
        PluginError: a plug-in cannot be used.
    """
    draft = Draft(read_preset(preset))
    if file is not None:
        draft.merge(read_yaml(file))
    if overrides is not None:
        draft.override(overrides)
    return resolve(draft)


def read_config(file: Path) -> RunConfig:
    """Read a file that stands on its own, such as the `run.yaml` of a run folder.

    Raises:
        OptionError: as `load_config`.
        PluginError: as `load_config`.
    """
    return resolve(Draft(read_yaml(file)))


def read_whole_config(file: Path) -> RunConfig:
    """Read the `run.yaml` of a run folder, which gives every section: a file that was cut short does not.

    Raises:
        OptionError: a section is missing, or as `load_config`.
        PluginError: as `load_config`.
    """
    found = read_yaml(file)
    missing = [name for name in Written.model_fields if name not in found.tree]
    if missing:
        raise OptionError(
            f"The file was cut short, or sections were taken out: {', '.join(missing)} missing.",
            where=found.end,
            expected=f"the sections {', '.join(Written.model_fields)}, as `sbikit config show` prints them",
            got=", ".join(found.tree) or "an empty file",
            fix="put them back, or choose another --out",
        )
    return resolve(Draft(found))


# --- checking -------------------------------------------------------------------------------


def resolve(draft: Draft) -> RunConfig:
    """Check a draft against the run's own options and those of every plug-in it names.

    Returns:
        The configuration with all defaults filled in.

    Raises:
        OptionError, PluginError: see `load_config`.
    """
    draft.bring_along()
    written = check_options(Written, draft.tree, locate=draft.locate)
    chosen = {
        section: None if named is None else _choice(kind, named, (section,), draft)
        for section, kind in SECTIONS.items()
        for named in (getattr(written, section),)
    }
    _refuse_twins(written.validators, draft)
    config = RunConfig(
        simulator=cast(Choice, chosen["simulator"]),
        estimator=cast(Choice, chosen["estimator"]),
        validators=tuple(
            _choice("validator", named, ("validators", index), draft)
            for index, named in enumerate(written.validators)
        ),
        reference=chosen["reference"],
        simulations=written.simulations,
        sampling=written.sampling,
        seed=written.seed,
        device=written.device,
        devices=written.devices,
        device_batch=written.device_batch,
        precision=written.precision,
        workers=written.workers,
        cluster=written.cluster,
    )
    _refuse_mismatched_reference(config, draft)
    return config


def _choice(kind: Kind, named: Named, path: Keys, draft: Draft) -> Choice:
    try:
        model = registry.options_of(kind, named.name)
    except PluginError as error:
        error.where = ", ".join(part for part in (draft.locate((*path, "name")), error.where) if part)
        raise
    options: Mapping[str, Any] = named.model_extra or {}
    return Choice(named.name, check_options(model, options, prefix=path, locate=draft.locate))


def _refuse_twins(validators: Sequence[Named], draft: Draft) -> None:
    names = [named.name for named in validators]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise OptionError(
                f"The validator {name!r} is named twice.",
                where=draft.locate(("validators", index, "name")),
                expected="each validator once",
            )


def _needs_reference(validator: str) -> bool:
    """Whether a validator compares with a reference; where its offer leads to its options alone, it is not
    imported to tell.
    """
    offer = registry.find("validator", validator).offer
    if offer.options:
        return offer.with_reference
    return cast("type[Validator]", registry.resolve("validator", validator)).needs_reference


def _refuse_mismatched_reference(config: RunConfig, draft: Draft) -> None:
    """Refuse validators that lack their reference, and a reference beyond the held-out observations."""
    for index, choice in enumerate(config.validators if config.reference is None else ()):
        if _needs_reference(choice.name):
            raise OptionError(
                f"The validator {choice.name!r} compares with an exact sampler, and none is chosen.",
                where=draft.locate(("validators", index, "name")),
                expected="a reference",
                got="reference: null",
                fix=f"add one with --reference NAME, or leave out {choice.name}",
            )
    most, asked = config.sampling.observations, config.sampling.reference_observations
    if config.reference is not None and asked > most:
        raise OptionError(
            "The reference is to be run on more observations than are held out.",
            where=draft.locate(("sampling", "reference_observations")),
            expected=f"at most sampling.observations, {most}",
            got=str(asked),
            fix=f"--set sampling.reference_observations={most}, or raise sampling.observations",
        )
