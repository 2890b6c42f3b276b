"""Tensors on disk: safetensors with a JSON header, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sbikit import CheckpointError


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write, then rename, so that an interruption leaves the former file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        partial,
        metadata={"sbikit": json.dumps(header)},
    )
    os.replace(partial, path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header.

    Raises:
        CheckpointError: the file is missing, truncated or not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["sbikit"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(
            "There are no weights.", where=str(path), fix="fit the estimator first"
        ) from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(
            "The weights cannot be read.",
            where=str(path),
            expected="a safetensors file written by this estimator",
            got=f"{type(error).__name__}: {error}",
            fix="delete the file and fit again",
        ) from error


def restore(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load a state, strictly.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(
            "The weights belong to another problem or other options.",
            where=str(where),
            got=str(error).splitlines()[-1].strip(),
            fix="use the simulator and options that they were trained with, or fit again",
        ) from error
