"""Draws of the trained sampler for held-out observations: a file each, read one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from _calibration.sizes import Sizes, draws_of_fields
from _calibration.trained import identity
from sbikit import Spec, StoredDraws, Values, draw_seeds
from sbikit.problem.memory import check_disk
from sbikit.runs import Run
from sbikit.runs.drawing import bytes_a_draw, draw, observed
from sbikit.storage import object_digest, read_header, read_tensors, write_tensors


@dataclass(frozen=True)
class Kept:
    """Where the draws of observation b lie, how many of them, and what they were made from.

    Of fields every observation has `fields` draws, and those that are compared with hmc have them all.
    """

    folder: Path
    key: str
    draws: int
    fields: int

    def path(self, b: int) -> Path:
        return self.folder / f"{b:05d}.safetensors"

    def there(self, b: int) -> bool:
        """Whether the file is whole, and of these draws."""
        try:
            return bool(read_header(self.path(b))["key"] == self.key)
        except (OSError, ValueError, KeyError):
            return False

    def read(self, b: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Draws of observation b, each (count, *shape)."""
        values, _ = read_tensors(self.path(b))
        return {name: values[name] for name in names}


class OneByOne(StoredDraws):
    """The first `count` draws of the first observations, for validators."""

    def __init__(self, kept: Kept, spec: Spec, observations: int, count: int) -> None:
        self._kept, self._count = kept, count
        self._shapes = {v.name: (count, observations, *v.shape) for v in spec.latents}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """(n, B, *shape) of every variable."""
        return self._shapes

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1`."""
        rows = []
        for b in range(first, last):
            found = self._kept.read(b, names)
            rows.append({name: value[: self._count].clone() for name, value in found.items()})
        return {name: torch.stack([row[name] for row in rows], 1) for name in names}


def draw_all(folder: Path, run: Run, values: Values, sizes: Sizes) -> Kept:
    """Draw for every held-out observation that has no draws yet."""
    fields = draws_of_fields(sizes, bytes_a_draw(run.spec))
    size = [sizes.observations, sizes.draws, fields, sizes.compared]
    kept = Kept(folder, object_digest([identity(run), size]), sizes.draws, fields)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [b for b in range(sizes.observations) if not kept.there(b)]
    check_disk(
        len(missing) * fields * bytes_a_draw(run.spec),
        "the draws",
        folder,
        where="_calibration/sizes.py",
        fix="lower field_bytes, or choose another folder",
    )
    total, done = (count * sizes.draws for count in (sizes.observations, sizes.observations - len(missing)))
    with run.monitor.progress("drawing for held-out observations", total, done) as advance:
        for b in missing:
            most = sizes.draws if b < sizes.compared else fields
            write_tensors(kept.path(b), _draws(run, values, b, sizes.draws, most), {"key": kept.key})
            advance(sizes.draws)
    return kept


def _draws(run: Run, values: Values, b: int, count: int, fields: int) -> dict[str, Tensor]:
    """Draws of observation b, each (count, *shape), of fields (fields, *shape)."""
    seeds = draw_seeds(run.config.seed, "calibration", b, 1)
    found = draw(run.sampler, observed(values, run.spec, b, b + 1), count, seeds).values
    most = {v.name: count for v in run.spec.vectors} | {v.name: fields for v in run.spec.fields}
    return {name: value[: most[name], 0] for name, value in found.items()}
