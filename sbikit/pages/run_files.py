"""A run folder, read: all that a report is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sbikit.problem.errors import RunFolderError
from sbikit.roles.trust import Trust
from sbikit.roles.validator import Report
from sbikit.storage.draws import read_trust
from sbikit.storage.files import read_json, read_json_lines
from sbikit.storage.metrics import read_compared, read_metrics
from sbikit.storage.posterior import PosteriorFile
from sbikit.storage.read import read_posterior
from sbikit.storage.seals import unsealed
from sbikit.storage.yaml_guard import load_yaml, read_yaml_text

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class RunFiles:
    """A run folder, read.

    Args:
        run: run.yaml.
        provenance: provenance.json.
        posterior: posterior.nc.
        reference_trust: what the reference says of its draws, one a held-out observation; empty where the run
            has no reference, or it has not drawn.
        reports: metrics.json.
        compared: the validators among them that compared with an exact sampler.
        training: records of training.jsonl.
        unread: lines of training.jsonl that are no JSON.
        kept: simulations.json; empty where no simulations are kept.
        failed: failed-draws.json; empty where no draw of them failed.
        left_out: left-out.json; empty where no draw of an endless stream failed.
    """

    run: Mapping[str, Any]
    provenance: Mapping[str, Any]
    posterior: PosteriorFile
    reference_trust: tuple[Trust, ...]
    reports: tuple[Report, ...]
    compared: frozenset[str]
    training: tuple[Mapping[str, Any], ...]
    unread: int
    kept: Mapping[str, Any]
    failed: Mapping[str, Any]
    left_out: Mapping[str, Any]


def read_run(folder: Path) -> RunFiles:
    """Read what a report needs.

    Raises:
        RunFolderError: a file is missing or damaged, or holds too few draws to show their spread.
    """
    run = _read(folder / "run.yaml", _configuration, "a configuration with simulator.name and estimator.name")
    metrics, reference = folder / "metrics.json", folder / "reference.safetensors"
    records, unread = _read(folder / "training.jsonl", read_json_lines, "one JSON object a line")
    keeps = bool((run.get("simulations") or {}).get("count"))
    files = RunFiles(
        run=run,
        provenance=_read(folder / "provenance.json", _provenance, "a JSON object"),
        posterior=read_posterior(folder / "posterior.nc"),
        reference_trust=read_trust(reference) if run.get("reference") and reference.exists() else (),
        reports=read_metrics(metrics) if metrics.exists() else (),
        compared=read_compared(metrics) if metrics.exists() else frozenset(),
        training=tuple(records),
        unread=unread,
        kept=_noted(folder / "simulations.json") if keeps else {},
        failed=_noted(folder / "failed-draws.json") if keeps else {},
        left_out=_noted(folder / "left-out.json"),
    )
    _check_enough_draws(files.posterior)
    return files


def _read(path: Path, reader: Callable[[Path], _Content], expected: str) -> _Content:
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path.name} cannot be read.",
            where=str(path),
            expected=expected,
            got=f"{type(error).__name__}: {error}",
            fix="mend the file, or make the run again with another --out",
        ) from error


def _configuration(path: Path) -> dict[str, Any]:
    found = load_yaml(read_yaml_text(path), "safe")
    for key in ("simulator", "estimator"):
        part = found.get(key) if isinstance(found, dict) else None
        if not isinstance(part, dict) or "name" not in part:
            raise ValueError(f"no {key}.name")
    return dict(found)


def _noted(path: Path) -> dict[str, Any]:
    """What is written of simulations; {} where nothing is."""
    return _read(path, _sealed, "a JSON object with its checksum") if path.exists() else {}


def _sealed(path: Path) -> dict[str, Any]:
    return unsealed(read_json(path))


def _provenance(path: Path) -> dict[str, Any]:
    return unsealed(read_json(path), needed=False)


def _check_enough_draws(posterior: PosteriorFile) -> None:
    """Refuse a posterior of which no spread can be shown."""
    for name, group in (("posterior", posterior.posterior), ("reference", posterior.reference)):
        count = len(next(iter(group.values()))) if group else 2
        if count < 2:
            raise RunFolderError(
                "A report needs at least two draws.",
                where=f"posterior.nc, group {name}",
                expected="2 draws or more",
                got=str(count),
                fix="raise the number of draws under sampling in run.yaml",
            )
