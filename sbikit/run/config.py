"""The configuration of a run: sections from several sources become one checked, complete whole.

Sources, later ones win: a preset, a file, the flags that name plug-ins, `--set key=value`. Naming
another plug-in in a section drops what earlier sources set for the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from sbikit.plugins import registry
from sbikit.plugins.registry import Kind
from sbikit.problem.errors import OptionError, PluginError
from sbikit.problem.option_errors import Path as Keys
from sbikit.problem.option_errors import check_options, dotted, nearest
from sbikit.run.yaml_files import Located, parse_value, read_yaml

if TYPE_CHECKING:
    from sbikit.roles.validator import Validator

PRESET = "quick"
AGREEMENT = "agreement"
"""The validator that compares with a reference: choosing a reference brings it along."""


class Choice(BaseModel):
    """A plug-in by name; all other keys are its options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1, description="name of the plug-in, as `sbikit plugins` lists it")

    @property
    def options(self) -> dict[str, Any]:
        """Option -> value."""
        return dict(self.model_extra or {})


class Sampling(BaseModel):
    """How much is drawn once the estimator is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(default=64, ge=2, description="posterior draws for each held-out observation")
    observations: int = Field(default=256, ge=2, description="held-out observations to judge on")
    shown_draws: int = Field(
        default=1000, ge=2, description="posterior draws for the one that the report shows"
    )
    reference_draws: int = Field(
        default=1000,
        ge=4,
        description="draws of the reference for each of its observations; half as many of the estimator "
        "are compared with them",
    )
    reference_observations: int = Field(
        default=16,
        ge=1,
        description="how many of the held-out observations the reference is run on, the shown one first",
    )


class RunConfig(BaseModel):
    """A run, every option given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    simulator: Choice = Field(description="what makes parameters, fields and data")
    estimator: Choice = Field(description="what learns the posterior")
    validators: tuple[Choice, ...] = Field(default=(), description="what judges the draws")
    reference: Choice | None = Field(
        default=None,
        description="an exact sampler to compare with, which brings the validator agreement along",
    )
    sampling: Sampling = Field(default=Sampling(), description="how much is drawn")
    seed: int = Field(default=0, ge=0, lt=2**63, description="fixes every random number of the run")
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="auto", description="where networks run; auto takes a GPU where there is one"
    )

    def tree(self) -> dict[str, Any]:
        """Plain mappings, lists and scalars."""
        return self.model_dump(mode="json")


SECTIONS: dict[str, Kind] = {"simulator": "simulator", "estimator": "estimator", "reference": "sampler"}
"""Sections that choose one plug-in, and its kind."""


@dataclass(frozen=True)
class Overrides:
    """What the command line says; None and () leave the configuration as it is."""

    simulator: str | None = None
    estimator: str | None = None
    validators: tuple[str, ...] = ()
    reference: str | None = None
    seed: int | None = None
    device: str | None = None
    assignments: tuple[str, ...] = field(default=())


def presets() -> dict[str, Path]:
    """Name -> file of every preset."""
    folder = resources.files("sbikit") / "presets"
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if str(f).endswith(".yaml")}


def read_preset(name: str) -> Located:
    """Read a preset.

    Raises:
        OptionError: there is none of this name.
    """
    known = presets()
    if name not in known:
        close = nearest(name, known)
        raise OptionError(
            f"There is no preset {name!r}.",
            where="--preset",
            expected=", ".join(sorted(known)),
            got=name,
            fix=f"did you mean {close!r}?" if close else "",
        )
    return read_yaml(known[name], f"preset {name}")


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


class Draft:
    """A configuration in the making, with the origin of every value."""

    def __init__(self, start: Located) -> None:
        self.tree = start.tree
        self.origins = start.origins

    def merge(self, layer: Located) -> None:
        """Lay another source on top."""
        for section in SECTIONS:
            self._switch(section, layer.tree.get(section))
        self._merge(self.tree, layer.tree)
        self.origins.update(layer.origins)

    def override(self, overrides: Overrides) -> None:
        """Lay the command line on top."""
        flags: dict[str, Any] = {}
        origins: dict[Keys, str] = {}
        for section, flag, name in (
            ("simulator", "--sim", overrides.simulator),
            ("estimator", "--estimator", overrides.estimator),
            ("reference", "--reference", overrides.reference),
        ):
            if name is not None:
                flags[section] = {"name": name}
                origins[section,] = origins[section, "name"] = flag
        for key, value in (("seed", overrides.seed), ("device", overrides.device)):
            if value is not None:
                flags[key] = value
                origins[key,] = f"--{key}"
        if overrides.validators:
            flags["validators"] = [self._validator(name) for name in overrides.validators]
            origins["validators",] = "--validator"
        agreement = self._validator(AGREEMENT)
        self.merge(Located(flags, origins))
        self.bring_agreement(agreement)
        for assignment in overrides.assignments:
            self.assign(assignment)

    def assign(self, assignment: str) -> None:
        """Lay one `--set key=value` on top.

        Raises:
            OptionError: it is no assignment, or the key leads nowhere.
        """
        label = f"--set {assignment}"
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            raise OptionError(
                "This is no assignment.", where=label, expected="key=value, for example simulator.size=64"
            )
        value = parse_value(text, label)
        if len(keys) == 2 and keys[1] == "name" and keys[0] in SECTIONS:
            self.merge(Located({keys[0]: {"name": value}}, {(keys[0], "name"): label}))
            return
        path = self._put(keys, value, label)
        self._forget(path)
        self.origins[path] = label

    def locate(self, path: Keys) -> str:
        """Where the value at `path`, or the nearest section around it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return f"{self.origins[path[:length]]} ({dotted(path)})"
        return dotted(path)

    def bring_agreement(self, agreement: Mapping[str, Any] | None = None) -> None:
        """Choose the validator that compares with the reference, where there is one and it is installed.

        Args:
            agreement: its name and options; None: all options by default.
        """
        reference, validators = self.tree.get("reference"), self.tree.get("validators", [])
        if not (isinstance(reference, Mapping) and "name" in reference and isinstance(validators, list)):
            return
        names = [one.get("name") for one in validators if isinstance(one, Mapping)]
        offered = {found.offer.name for found in registry.catalogue().of("validator")}
        if AGREEMENT in offered and AGREEMENT not in names:
            origin = self.locate(("reference", "name"))
            self.origins["validators", len(validators)] = f"{origin}, which brings it along"
            self.tree["validators"] = [*validators, dict(agreement or {"name": AGREEMENT})]

    def _validator(self, name: str) -> dict[str, Any]:
        """The options so far of this validator; a flag only chooses it."""
        given = self.tree.get("validators")
        for one in given if isinstance(given, list) else ():
            if isinstance(one, dict) and one.get("name") == name:
                return one
        return {"name": name}

    def _switch(self, section: str, new: Any) -> None:
        """Drop the options of a plug-in that gives way to another."""
        old = self.tree.get(section)
        if not (isinstance(new, Mapping) and isinstance(old, dict)):
            return
        if new.get("name", old.get("name")) != old.get("name"):
            self.tree[section] = {}
            self._forget((section,))

    def _merge(self, base: dict[str, Any], layer: Mapping[str, Any], path: Keys = ()) -> None:
        for key, value in layer.items():
            here = (*path, key)
            if isinstance(value, Mapping) and isinstance(base.get(key), dict):
                self._merge(base[key], value, here)
            else:
                self._forget(here)
                base[key] = value

    def _put(self, keys: list[str], value: Any, label: str) -> Keys:
        """Set the value at `keys`, where a number picks from a list; gives the path."""
        node: Any = self.tree
        path: Keys = ()
        for key in keys[:-1]:
            step = _step(node, key, path, label)
            if isinstance(node, dict) and node.get(step) is None:
                node[step] = {}
            node, path = node[step], (*path, step)
        last = _step(node, keys[-1], path, label)
        node[last] = value
        return (*path, last)

    def _forget(self, path: Keys) -> None:
        for known in [k for k in self.origins if k[: len(path)] == path]:
            del self.origins[known]


def _step(node: Any, key: str, path: Keys, label: str) -> str | int:
    """The key as it indexes this node."""
    if isinstance(node, dict):
        return key
    if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
        return int(key)
    listed = isinstance(node, list)
    raise OptionError(
        f"{dotted((*path, key))} leads nowhere.",
        where=label,
        expected=f"a number below {len(node)} after {dotted(path)}" if listed else f"{dotted(path)} alone",
        got=key,
    )


# --- checking -------------------------------------------------------------------------------


def resolve(draft: Draft) -> RunConfig:
    """Check a draft against the run's own options and those of every plug-in it names.

    Returns:
        The configuration with all defaults filled in.

    Raises:
        OptionError, PluginError: see `load_config`.
    """
    draft.bring_agreement()
    config = check_options(RunConfig, draft.tree, locate=draft.locate)
    changes: dict[str, Any] = {
        section: _complete(kind, choice, (section,), draft)
        for section, kind in SECTIONS.items()
        if (choice := getattr(config, section)) is not None
    }
    _refuse_twins(config.validators, draft)
    changes["validators"] = tuple(
        _complete("validator", choice, ("validators", index), draft)
        for index, choice in enumerate(config.validators)
    )
    complete = config.model_copy(update=changes)
    _refuse_mismatched_reference(complete, draft)
    return complete


def _complete(kind: Kind, choice: Choice, path: Keys, draft: Draft) -> Choice:
    try:
        cls = registry.resolve(kind, choice.name)
    except PluginError as error:
        error.where = ", ".join(part for part in (draft.locate((*path, "name")), error.where) if part)
        raise
    options = check_options(cls.Options, choice.options, prefix=path, locate=draft.locate)
    return Choice.model_validate({"name": choice.name, **options.model_dump(mode="json")})


def _refuse_twins(validators: Sequence[Choice], draft: Draft) -> None:
    names = [choice.name for choice in validators]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise OptionError(
                f"The validator {name!r} is named twice.",
                where=draft.locate(("validators", index, "name")),
                expected="each validator once",
            )


def _refuse_mismatched_reference(config: RunConfig, draft: Draft) -> None:
    """Refuse validators that lack their reference, and a reference beyond the held-out observations."""
    for index, choice in enumerate(config.validators if config.reference is None else ()):
        if cast("type[Validator]", registry.resolve("validator", choice.name)).needs_reference:
            raise OptionError(
                f"The validator {choice.name!r} compares with an exact sampler, and none is chosen.",
                where=draft.locate(("validators", index, "name")),
                expected="a reference",
                got="reference: null",
                fix=f"add one, for example --reference hmc, or leave out {choice.name}",
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


# --- the schema -----------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """JSON schema of a run's configuration, with the options of every plug-in that can be imported."""
    fields: dict[str, Any] = {
        "simulator": (_union("simulator"), ...),
        "estimator": (_union("estimator"), ...),
        "validators": (tuple.__class_getitem__((_union("validator"), ...)), ()),
        "reference": (_union("sampler") | None, None),
    }
    model = create_model("RunConfig", __base__=RunConfig, **fields)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def _union(kind: Kind) -> Any:
    """The type of a section: any installed plug-in of this kind with its options."""
    union: Any = None
    for found in registry.catalogue().of(kind):
        try:
            cls = registry.resolve(kind, found.offer.name)
        except PluginError:
            continue
        fields: dict[str, Any] = {"name": (Literal[found.offer.name], Field(description=found.offer.summary))}
        section = create_model(f"{kind} {found.offer.name}", __base__=cls.Options, **fields)
        union = section if union is None else union | section
    return Choice if union is None else union
