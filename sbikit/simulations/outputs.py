"""What a simulator returns, numpy or torch, as a tensor of real numbers; what would be cut is refused."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sbikit.problem.errors import SimulationError


def real_tensor(raw: object, name: str, where: str) -> Tensor:
    """An output as a tensor of real numbers, in its own precision and detached.

    Args:
        raw: a tensor, an array or nested lists of numbers.
        name: the output's name.
        where: the call that it comes from.

    Raises:
        SimulationError: it is complex, has masked entries, or holds something else than numbers.
    """
    if isinstance(raw, Tensor):
        if raw.is_complex():
            raise _refused(name, where, "complex", str(raw.dtype), _PARTS)
        return raw.detach().to_dense() if raw.is_sparse else raw.detach()
    return torch.from_numpy(_real_array(raw, name, where))


_PARTS = "return the real part, or the real and the imaginary part as two channels"


def _real_array(raw: object, name: str, where: str) -> np.ndarray:
    """The same of anything that numpy reads, as an array of its own in the machine's byte order."""
    if np.ma.is_masked(raw):
        fix = "fill masked entries with numbers, and declare the mask in the problem"
        raise _refused(name, where, "partly masked", "a masked array", fix)
    try:
        array = np.asarray(raw)
    except (TypeError, ValueError) as error:
        raise _refused(name, where, "no array of numbers", f"{type(raw).__name__}: {error}") from error
    if array.dtype.kind == "c":
        raise _refused(name, where, "complex", str(array.dtype), _PARTS)
    if array.dtype.kind not in "biuf":
        raise _refused(name, where, "no array of numbers", f"dtype {array.dtype}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.array(array, dtype=np.float32 if single else np.float64)


def _refused(name: str, where: str, what: str, got: str, fix: str = "") -> SimulationError:
    return SimulationError(
        f"The output {name!r} is {what}.",
        where=where,
        expected="real numbers, as a numpy array or a torch tensor",
        got=got,
        fix=fix or "return real numbers",
    )
