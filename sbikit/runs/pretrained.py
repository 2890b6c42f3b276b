"""Weights that ship with a plug-in: of a finished run what drawing needs, and what it is known by.

    run.yaml                the resolved configuration
    checkpoints/estimator   what the estimator has saved
    first-draws.json        what the training data looked like
    metrics.json            what the validators found: figures with errors, ideal values and verdicts
    provenance.json         command, date, seed and versions; digests of all the others; its own checksum

`sbikit.runs.ship` makes such a folder. Nothing is written to it afterwards: it may lie in an installed wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sbikit.plugins.hookspecs import Pretrained
from sbikit.plugins.installed import Kind
from sbikit.plugins.registry import find, find_pretrained
from sbikit.problem.errors import CheckpointError, OptionError
from sbikit.runs.config import RunConfig, resolve
from sbikit.runs.draft import Draft
from sbikit.runs.folder import RunFolder
from sbikit.storage.differing import differences
from sbikit.storage.files import read_json
from sbikit.storage.metrics import read_metrics
from sbikit.storage.seals import file_digest, unsealed
from sbikit.storage.yaml_files import Located, read_yaml

PARTS = ("run.yaml", "checkpoints/estimator", "first-draws.json", "metrics.json")
"""What is copied from a run folder."""

PROVENANCE, DIGESTS = "provenance.json", "digests"
_LEARNED: tuple[Kind, ...] = ("simulator", "estimator")  # what weights depend on


@dataclass(frozen=True)
class Shipped:
    """Weights whose files are whole, and which the installed plug-ins fit.

    Args:
        name: what they are asked for by.
        folder: where they lie, with the configuration that they were trained with.
        provenance: what they were made with.
    """

    name: str
    folder: RunFolder
    provenance: Mapping[str, Any]

    def origin(self) -> str:
        """What they were made with, in words."""
        made, config = self.provenance, self.folder.config
        return (
            f"{self.name}: {config.simulator.name} by {config.estimator.name}, trained "
            f"{str(made['started'])[:10]} by `{made['command']}` {_with_versions(config, made['versions'])}"
        )

    def verdicts(self) -> str:
        """How they were judged, in words."""
        metrics = read_metrics(self.folder.metrics)
        shown = dict.fromkeys(one for report in metrics for one in report.metrics)  # validators share some
        judged = [one for one in shown if one.verdict != "none"]
        passed = sum(one.verdict == "pass" for one in judged)
        by = ", ".join(report.validator for report in metrics)
        count = self.folder.config.sampling.observations
        return f"{self.name}: {passed} of {len(judged)} verdicts pass ({by}; {count} held-out observations)"


def open_pretrained(name: str) -> Shipped:
    """The weights that an installed plug-in offers by this name.

    Raises:
        PluginError: there are none or two, or their simulator or estimator is not installed.
        CheckpointError: a file is damaged or missing, or the installed plug-ins have other options.
    """
    return open_shipped(find_pretrained(name).pretrained)


def open_shipped(pretrained: Pretrained) -> Shipped:
    """The same of an offer."""
    provenance = _provenance(pretrained.folder)
    _refuse_damaged(pretrained.folder, provenance[DIGESTS])
    config = _config(pretrained.folder / "run.yaml", provenance["versions"])
    return Shipped(pretrained.name, RunFolder(pretrained.folder, config), provenance)


def digests(folder: Path) -> dict[str, str]:
    """File of a shipped folder -> its digest, but for the file that holds them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    found = {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
    found.pop(PROVENANCE, None)
    return found


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        found = unsealed(read_json(folder / PROVENANCE))
        missing = [key for key in ("command", "started", "seed", "versions", DIGESTS) if key not in found]
        problem = f"it lacks {', '.join(missing)}" if missing else ""
    except (OSError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise _damaged(folder / PROVENANCE, problem)
    return found


def _refuse_damaged(folder: Path, wanted: Mapping[str, str]) -> None:
    for name, digest in wanted.items():
        found = file_digest(folder / name)
        if found != digest:
            raise _damaged(folder / name, "it has changed" if found else "it is missing")


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        "The pretrained weights, or what is known of them, are damaged.",
        where=str(path),
        expected="the files as they were shipped",
        got=problem,
        fix="reinstall the distribution that they came with, see `sbikit plugins`",
    )


def _config(file: Path, versions: Mapping[str, str]) -> RunConfig:
    """The configuration of the run but for who judged it: to draw needs neither validators nor their extras.

    Options that came since then have values that the weights know nothing of, so they are refused, too.
    """
    found = read_yaml(file)
    try:
        config = resolve(Draft(Located({**found.tree, "validators": [], "reference": None}, found.origins)))
        there, now = ({str(kind): tree[kind] for kind in _LEARNED} for tree in (found.tree, config.tree()))
        wrong = "; ".join(differences(there, now, words=("in training", "now")))
        where = str(file)
    except OptionError as error:
        wrong, where = f"{error.message} {error.got}".strip(), error.where
    if wrong:
        homes = sorted({find(kind, found.tree[kind]["name"]).distribution for kind in _LEARNED})
        trained = " and ".join(f"{home} {versions.get(home, '')}".strip() for home in homes)
        raise CheckpointError(
            "The installed simulator or estimator has other options than these weights were trained with.",
            where=where,
            expected="the options of the training",
            got=wrong,
            fix=f"install what they were trained with, {trained}, or train anew: `sbikit run`",
        )
    return config


def _with_versions(config: RunConfig, versions: Mapping[str, str]) -> str:
    """Which versions of the plug-ins trained, and which are here if they are others: "with sbikit 0.1.0"."""
    homes = {find(kind, getattr(config, kind).name) for kind in _LEARNED}
    words = {
        home.distribution: f"{home.distribution} {versions.get(home.distribution, 'of unknown version')}"
        + ("" if versions.get(home.distribution) == home.version else f" (here {home.version})")
        for home in homes
    }
    return "with " + " and ".join(words[name] for name in sorted(words))
