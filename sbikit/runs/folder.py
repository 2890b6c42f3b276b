"""The folder of one run: its configuration, where everything lies, and a lock for one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sbikit.problem.errors import OptionError, RunFolderError
from sbikit.runs.config import RunConfig, read_whole_config
from sbikit.runs.config_text import render
from sbikit.runs.depends import ELSEWHERE
from sbikit.runs.inspection import inspect, remove_leftovers
from sbikit.runs.ledger import Ledger
from sbikit.storage.differing import differences
from sbikit.storage.files import PARTIAL, create_text, write_text


def default_folder(config: RunConfig) -> Path:
    """`runs/<simulator>-<estimator>-seed<seed>`."""
    return Path("runs") / f"{config.simulator.name}-{config.estimator.name}-seed{config.seed}"


class AnotherRunError(RunFolderError):
    """A run folder holds a run of another configuration than the one that is asked for."""


class RunFolder:
    """A run folder that exists and holds a configuration; made by `create` or `open`.

    Args:
        path: the folder.
        config: what its run.yaml holds.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config
        self.held_out = path / "heldout.safetensors"
        self.reference = path / "reference.safetensors"
        self.compared = path / "compared.safetensors"
        self.posterior = path / "posterior.nc"
        self.metrics = path / "metrics.json"
        self.store = Path(config.simulations.store or path / "simulations.zarr")
        self.kept = path / "simulations.json"
        self.failed_draws = path / "failed-draws.json"
        self.left_out = path / "left-out.jsonl"
        self.left_out_noted = path / "left-out.json"
        self.first_draws = path / "first-draws.safetensors"
        self.first_draws_noted = path / "first-draws.json"
        self.training = path / "training.jsonl"
        self.provenance = path / "provenance.json"
        self.log = path / "run.log"
        self.estimator = path / "checkpoints" / "estimator"
        self.unfinished = path / "checkpoints" / "unfinished"
        self.parts = path / "parts"
        self.imports: Path | None = None
        self.ledger = Ledger(path)

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Make the folder, or take up the one that is there.

        Raises:
            RunFolderError: the path holds another configuration or something else, is damaged, or
                cannot be written.
        """
        if os.path.lexists(path / "run.yaml"):
            return cls._taken_up(path, config)
        _refuse_stranger(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            create_text(path / "run.yaml", render(config))
        except FileExistsError:  # another process was faster
            return cls._taken_up(path, config)
        except OSError as error:
            raise RunFolderError(
                f"The run folder cannot be written: {error.strerror}.",
                where=str(path),
                fix="choose another --out",
            ) from None
        return cls(path, config)

    @classmethod
    def _taken_up(cls, path: Path, config: RunConfig) -> RunFolder:
        folder = cls.open(path)
        folder._refuse_another(config)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a folder that has a run.yaml.

        Raises:
            RunFolderError: there is none, it is damaged, or the folder holds links, see `inspect`.
        """
        file = path / "run.yaml"
        if path.is_dir():
            inspect(path)
        if not file.is_file():
            raise RunFolderError(
                "This is no run folder: it has no run.yaml.",
                where=str(path),
                fix="make one with `sbikit init DIR`, or with `sbikit run --out DIR`",
            )
        try:
            config = read_whole_config(file)
        except OptionError as error:
            raise RunFolderError(
                f"The configuration of this run folder is damaged. {error.message}",
                where=error.where,
                expected=error.expected,
                got=error.got,
                fix=error.fix or "mend run.yaml, or choose another --out",
            ) from None
        return cls(path, config)

    def keeping(self, count: int | None, store: str | None) -> RunFolder:
        """The same folder, whose run.yaml says how many simulations are kept and where; None: as before.

        Raises:
            RunFolderError: see `locked`.
        """
        given = {"count": count, "store": store}
        changed = {key: value for key, value in given.items() if value is not None}
        config = replace(self.config, simulations=self.config.simulations.model_copy(update=changed))
        folder = self.with_config(config)
        folder.imports = self.imports
        return folder

    def with_config(self, config: RunConfig) -> RunFolder:
        """The same folder with another run.yaml.

        Raises:
            RunFolderError: see `locked`.
        """
        if config != self.config:
            with self.locked():
                write_text(self.path / "run.yaml", render(config))
        return RunFolder(self.path, config)

    def importing_from(self, file: Path) -> RunFolder:
        """The same folder, whose store is to begin with the draws of a file."""
        folder = RunFolder(self.path, self.config)
        folder.imports = file
        return folder

    def _refuse_another(self, config: RunConfig) -> None:
        there, asked = self.config.tree(), config.tree()
        for key in ELSEWHERE:
            there.pop(key)
            asked.pop(key)
        wrong = differences(there, asked)
        if wrong:
            raise AnotherRunError(
                "This run folder holds another configuration; nothing was changed.",
                where=str(self.path),
                got="; ".join(wrong),
                fix="choose another --out, or go on with the one there: "
                f"sbikit run --config {self.path / 'run.yaml'} --out {self.path}",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder.

        Raises:
            RunFolderError: another process works in it, or it cannot be written.
        """
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.fdopen(os.open(self.path / ".lock", flags, 0o666), "w")
        except OSError as error:
            raise RunFolderError(
                f"The run folder cannot be written: {error.strerror}.",
                where=str(self.path),
                fix="check who may write there, or choose another --out",
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunFolderError(
                    "Another sbikit process is at work in this run folder.",
                    where=str(self.path),
                    fix="wait for it, or choose another --out",
                ) from None
            remove_leftovers(self.path)
            yield


def _refuse_stranger(path: Path) -> None:
    """Refuse a path that holds something that is no run."""
    if path.exists() and not path.is_dir():
        raise RunFolderError("The run folder is a file.", where=str(path), fix="choose another --out")
    others = [f.name for f in path.iterdir() if PARTIAL not in f.name] if path.is_dir() else []
    if others:
        raise RunFolderError(
            "This folder is not empty and is no run folder; nothing was changed.",
            where=str(path),
            expected="a new or empty folder, or one with a run.yaml",
            got=", ".join(sorted(others)[:5]) + (", ..." if len(others) > 5 else ""),
            fix="choose another --out",
        )
