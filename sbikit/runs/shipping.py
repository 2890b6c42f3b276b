"""From a finished run to weights that ship, see `sbikit.runs.pretrained`; what should not ship is refused.

What ships has passed: a posterior without verdicts, or with one that fails, is no product, unless who ships
it says which validator it ships despite; users are told how many verdicts pass. It names no place of the
machine that trained it: a store, a cluster or the folder of a command are dropped, and a path that is part of
the problem is refused.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sbikit.plugins.hookspecs import Pretrained
from sbikit.problem.errors import OptionError, RunFolderError, UnsupportedError
from sbikit.runs.config import RunConfig
from sbikit.runs.config_text import render
from sbikit.runs.depends import another_configuration, depends_on, paths_in
from sbikit.runs.folder import RunFolder
from sbikit.runs.ledger import read_sealed_record
from sbikit.runs.pretrained import DIGESTS, PARTS, PROVENANCE, digests, open_shipped
from sbikit.runs.stages import stages
from sbikit.storage.files import PARTIAL, write_json, write_text
from sbikit.storage.metrics import read_metrics
from sbikit.storage.seals import sealed

MOST_BYTES = 2**24
"""What any file of one may hold: a repository and a wheel carry them to everybody."""

_NEEDED = ("fit", "sample", "validate")
_KNOWN = (  # of the provenance of a run; the rest tells of the machine
    "started",
    "finished",
    "seed",
    "device",
    "python",
    "versions",
    "git",
    "timings",
    "simulations",
    "inferred",
    "facts",
)
_AS_WRITTEN = "sbikit run --config run.yaml"  # makes the same, whatever was typed
# From home or the root, two names deep; before it the start of a line, a blank, a quote, a bracket or "=,:".
_PATH = re.compile(
    r"""(?:^|[\s"'`=,:(\[{])(~/[^\s"'`,)\]}\\]+|/[^\s/"'`,)\]}\\]+/[^\s"'`,)\]}\\]+)""", re.MULTILINE
)


def ship(run: Path, target: Path, *, despite: Collection[str] = ()) -> Path:
    """Copy what ships of a finished run.

    Args:
        run: the run folder; it is left as it is.
        target: the new folder, which a plug-in offers by `sbikit_pretrained`.
        despite: validators some of whose verdicts may fail.

    Returns:
        The new folder.

    Raises:
        RunFolderError: a stage is not done, or with another configuration; a verdict fails, or there is none.
        OptionError: there is something at `target`.
        UnsupportedError: the simulator or estimator reads files, it is all too large, or a path remains.
        CheckpointError: what was written cannot be read.
    """
    folder = RunFolder.open(run)
    _refuse_files(folder.config)
    _refuse_unfinished(folder)
    _refuse_failing(folder.metrics, despite)
    if target.exists():
        raise OptionError(
            "There is something of this name already; nothing was written.",
            where=str(target),
            fix="choose another name, or delete it",
        )
    unfinished = target.with_name(f"{target.name}{PARTIAL}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write(folder, unfinished)
        _refuse_large(unfinished)
        _refuse_paths(unfinished)
        open_shipped(Pretrained(target.name, unfinished, ""))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def named_paths(folder: Path) -> list[str]:
    """Paths from the root or from home that the files of a folder name: "run.yaml: /home/me/data"."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [f"{file.relative_to(folder)}: {path}" for file in files for path in _PATH.findall(_text(file))]


def largest_file(folder: Path) -> Path:
    """That of a folder which holds most."""
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def _text(file: Path) -> str:
    """What a file says in words: all of it, or the header of a safetensors file."""
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        length = int.from_bytes(content[:8], "little")
        content = content[8 : 8 + length]
    return content.decode("utf-8", errors="replace")


# --- what is written ------------------------------------------------------------------------


def _write(folder: RunFolder, target: Path) -> None:
    for name in PARTS:
        source, copy = folder.path / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, copy_function=shutil.copyfile)  # a weights file is private
        else:
            shutil.copyfile(source, copy)
    write_text(target / "run.yaml", render(_anywhere(folder.config)))
    made = read_sealed_record(folder.provenance)
    known = {key: made[key] for key in _KNOWN if key in made}
    write_json(target / PROVENANCE, sealed({**known, "command": _command(made), DIGESTS: digests(target)}))


def _anywhere(config: RunConfig) -> RunConfig:
    """The same on no machine in particular."""
    simulations = config.simulations.model_copy(update={"store": None})
    return replace(config, simulations=simulations, cluster=None, workers=1, device="auto")


def _command(made: Mapping[str, Any]) -> str:
    """The command of the whole run, with the last part alone of an absolute path."""
    words = shlex.split(str(made.get("command", "")))
    if words[1:2] != ["run"]:  # the last stage of several commands says little of how it was made
        return _AS_WRITTEN
    parts = (word.rpartition("=") for word in words)
    short = (
        key + equals + (Path(value).name if Path(value).is_absolute() else value)
        for key, equals, value in parts
    )
    return shlex.join(short)


# --- what is refused ------------------------------------------------------------------------


def _refuse_unfinished(folder: RunFolder) -> None:
    for stage in stages(folder.config):
        if stage.name not in _NEEDED:
            continue
        wrong = folder.ledger.differs(stage.name, depends_on(folder.config, stage.name))
        if wrong:
            raise another_configuration(folder.path, stage.name, wrong)
        if not folder.ledger.done(stage.name, stage.after):
            raise RunFolderError(
                f"The stage {stage.name!r} of this run is not done.",
                where=str(folder.path),
                expected="a finished run",
                got=folder.ledger.fault(stage.name, stage.after),
                fix=f"sbikit run --config {folder.path / 'run.yaml'} --out {folder.path}",
            )


def _refuse_failing(metrics: Path, despite: Collection[str]) -> None:
    verdicts = [
        (one.verdict, f"{report.validator}: {one.name} of {one.variable}")
        for report in read_metrics(metrics)
        if report.validator not in despite
        for one in report.metrics
        if one.verdict != "none"
    ]
    bad = [words for verdict, words in verdicts if verdict == "fail"]
    if bad or not verdicts:
        raise RunFolderError(
            "Weights ship with verdicts that all pass.",
            where=str(metrics),
            expected="at least one verdict, and none that fails",
            got=f"{len(bad)} of {len(verdicts)} fail: {', '.join(bad[:5])}" if bad else "no verdict",
            fix="find out why, and train again",
        )


def _refuse_files(config: RunConfig) -> None:
    chosen = {"simulator": config.simulator, "estimator": config.estimator}
    for kind, choice in chosen.items():
        for option, path in paths_in(choice.options.model_dump(), kind):
            raise UnsupportedError(
                f"The {kind} reads a file that does not ship.",
                where=option,
                expected="options that name no file",
                got=path.name,
                fix="put the file into the plug-in, and let an option choose it by a name",
            )


def _refuse_large(folder: Path) -> None:
    largest = largest_file(folder)
    if (size := largest.stat().st_size) >= MOST_BYTES:
        raise UnsupportedError(
            "The weights are too large to ship.",
            where=str(Path(folder.name.removesuffix(PARTIAL)) / largest.relative_to(folder)),
            expected=f"files below {MOST_BYTES / 2**20:g} MiB each",
            got=f"{size / 2**20:.1f} MiB",
            fix="train a smaller network",
        )


def _refuse_paths(folder: Path) -> None:
    found = named_paths(folder)
    if found:
        raise UnsupportedError(
            "What ships would name a path of this machine.",
            where=folder.name.removesuffix(PARTIAL),
            expected="no absolute path in any file",
            got="; ".join(found[:5]),
            fix="take it out of the run's options",
        )
