"""What the cells of a field's grid are called: points of a series, pixels of a map, voxels of a volume."""

from __future__ import annotations

from sbikit.problem.variables import Field


def cells(*fields: Field) -> str:
    """Their name: of fields of several kinds it is pixels."""
    nouns = {_noun(len(field.grid)) for field in fields}
    return nouns.pop() if len(nouns) == 1 else "pixels"


def _noun(axes: int) -> str:
    return {1: "points", 3: "voxels"}.get(axes, "pixels")


__all__ = ["cells"]
