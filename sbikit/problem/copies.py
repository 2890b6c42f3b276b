"""Values for code that is not ours: it gets tensors of its own, and changes none of ours."""

from __future__ import annotations

from torch import Tensor

from sbikit.problem.variables import Values


def copied(values: Values) -> dict[str, Tensor]:
    """Every tensor, of any shape, in memory of its own."""
    return {name: tensor.clone() for name, tensor in values.items()}
