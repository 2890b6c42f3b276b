"""Fields of other grids than the network's: put on it where that is exact, else told as numbers.

The network has one grid, that of the latent fields. An observed field of the same patch whose pixels are
fractions of the grid's goes there as means of blocks, and beside these what its other pixels are above them:
nothing is lost, and the means are what a guide can use. One whose pixels are larger is repeated. All others,
such as a spectrum beside a map, are told as vectors are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit import Field, Simulator, Spec, UnsupportedError
from sbikit.learning import declared_fields

_CELLS = ("point", "pixel", "voxel")  # units of an extent that nobody gave


def common_grid(spec: Spec) -> tuple[int, ...]:
    """The grid of a problem's latent fields; where there are none that of the observed field with the most
    pixels, empty where there is no field.

    Raises:
        UnsupportedError: latent fields have different grids.
    """
    if len({field.grid for field in spec.fields}) > 1:
        raise UnsupportedError(
            "The transformer needs all latent fields on one grid.",
            where=", ".join(f"{f.name} {f.grid}" for f in spec.fields),
            expected="one grid for all fields that are inferred",
            fix="let the simulator put its latent fields on one grid; observed ones may have others",
        )
    if spec.fields:
        return spec.fields[0].grid
    observed = [v.grid for v in spec.observables if isinstance(v, Field)]
    return max(observed, key=math.prod, default=())


@dataclass(frozen=True)
class Grids:
    """What becomes of the fields that networks see.

    Args:
        grid: the network's, empty where there is none.
        main: the field whose grid it is.
        fields: by the names of `seen_by_networks`, as far as they are declared.
    """

    grid: tuple[int, ...]
    main: Field | None
    fields: dict[str, Field]

    @staticmethod
    def of(simulator: Simulator, spec: Spec, grid: tuple[int, ...]) -> Grids:
        """Of a problem."""
        fields = [v for v in (*spec.latents, *spec.observables) if isinstance(v, Field)]
        main = next((field for field in fields if field.grid == grid), None)
        return Grids(grid, main, declared_fields(simulator, spec))

    def maps(self, name: str, value: Tensor) -> Tensor | None:
        """A field (B, C, *its grid) on the network's grid, (B, K, *grid), means of blocks first; None where
        it has no place there.
        """
        own = tuple(value.shape[2:])
        if not self.grid or len(own) != len(self.grid):
            return None
        if own == self.grid:
            return value
        sides = list(zip(own, self.grid, strict=True))
        if not (self._same_patch(name) and all(a % b == 0 or b % a == 0 for a, b in sides)):
            return None
        for axis, (a, b) in enumerate(sides, start=2):
            if b > a:
                value = value.repeat_interleave(b // a, axis)
        return _in_blocks(value, self.grid)

    def _same_patch(self, name: str) -> bool:
        """Whether a field covers what the main one does, as far as that is known."""
        field, main = self.fields.get(name), self.main
        if field is None or main is None:
            return True
        if field.extent_unit != main.extent_unit:
            return False
        return field.extent_unit in _CELLS or all(
            math.isclose(a, b, rel_tol=1e-6) for a, b in zip(field.extent, main.extent, strict=True)
        )


def _in_blocks(value: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Of (B, C, *fine) the means of blocks, and beside these all pixels of a block but the last less their
    mean: (B, C n, *grid), n pixels a block.
    """
    sides = [fine // side for fine, side in zip(value.shape[2:], grid, strict=True)]
    count = math.prod(sides)
    if count == 1:
        return value
    axes = len(grid)
    split = value.reshape(*value.shape[:2], *(n for pair in zip(grid, sides, strict=True) for n in pair))
    inside, outside = [3 + 2 * i for i in range(axes)], [2 + 2 * i for i in range(axes)]
    blocks = split.permute(0, 1, *inside, *outside).flatten(2, 1 + axes)
    mean = blocks.mean(2, keepdim=True)
    return torch.cat([mean.flatten(1, 2), (blocks[:, :, :-1] - mean).flatten(1, 2)], 1)
