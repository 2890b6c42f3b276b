"""Checkpoints: tensors in named parts and a JSON header in one file, refused when damaged or not ours.

Nothing is unpickled, and the checksum of `storage` finds a single changed bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sbikit.problem.errors import CheckpointError
from sbikit.storage.tensors import read_tensors, write_tensors

Parts = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Args:
        path: the file.
        parts: name of a part (without "/") -> its tensors by name.
        header: what was written beside them.
    """

    path: Path
    parts: Parts
    header: Mapping[str, Any]

    def restore(self, part: str, module: nn.Module) -> None:
        """Load a module's state, strictly; a part that is not there is one without tensors.

        Raises:
            CheckpointError: names or shapes differ.
        """
        try:
            module.load_state_dict(dict(self.parts.get(part, {})))
        except RuntimeError as error:
            raise CheckpointError(
                "The weights belong to another problem or other options.",
                where=str(self.path),
                got=str(error).splitlines()[-1].strip(),
                fix="use the simulator and options that they were trained with, or fit again",
            ) from error

    def check_identity(self, identity: str) -> None:
        """Refuse what was not made by the very same fit.

        Raises:
            CheckpointError: the identity in the header differs.
        """
        if self.header.get("identity") != identity:
            raise CheckpointError(
                "The checkpoint was made with other options, another seed or another problem.",
                where=str(self.path),
                expected=identity,
                got=str(self.header.get("identity")),
                fix="go back to what it was made with, choose another folder, or delete the file",
            )

    def check_problem(self, problem: Mapping[str, Any]) -> None:
        """Refuse what was fitted to another problem than `describe_problem` tells.

        Raises:
            CheckpointError: it names the first entry that differs.
        """
        found = self.header.get("problem") or {}
        for key, expected in problem.items():
            if found.get(key) != expected:
                raise CheckpointError(
                    f"The fitted sampler belongs to another problem: its {key} differ.",
                    where=str(self.path),
                    expected=json.dumps(expected),
                    got=json.dumps(found.get(key)),
                    fix="use the simulator and options that it was fitted with, or fit again",
                )


def write_checkpoint(path: Path, format_: str, parts: Parts, header: Mapping[str, Any]) -> None:
    """Write a checkpoint, all or nothing.

    Args:
        path: the file.
        format_: who writes it, and a number that rises when its content changes.
        parts: name of a part (without "/") -> its tensors by name.
        header: plain values that JSON can hold.
    """
    tensors = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
    write_tensors(path, tensors, {**header, "format": format_})


def read_checkpoint(path: Path, format_: str) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    try:
        tensors, header = read_tensors(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            "There are no weights.", where=str(path), fix="fit the estimator first"
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if header.get("format") != format_:
        raise CheckpointError(
            "The weights have a format that this version does not know.",
            where=str(path),
            expected=format_,
            got=str(header.get("format")),
            fix="use the version of sbikit that wrote them, or fit again",
        )
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    return Checkpoint(path, parts, header)


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be used."""
    return CheckpointError(
        "The weights cannot be read.",
        where=str(path),
        expected="a safetensors file written by this estimator",
        got=f"{type(error).__name__}: {error}",
        fix="restore it from a copy, or delete it and fit again",
    )
