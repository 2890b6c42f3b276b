"""Training: the losses as logged, and what the last look at the networks found."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbikit.pages.arrays import Array
from sbikit.pages.figures.losses import training_plot
from sbikit.pages.names import title
from sbikit.pages.numbers import number, plural
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.run_files import RunFiles
from sbikit.pages.sections.noise_levels import noise_levels


@dataclass(frozen=True)
class TrainingSection:
    """The training curve, and errors by noise level, in words and as figures."""

    picture: Picture | None
    levels: Picture | None
    words: list[str]


def training(files: RunFiles) -> TrainingSection | None:
    """The loss against simulations seen, or against steps; None where nothing was logged."""
    records = [one for one in files.training if "step" in one and any(_is_loss(key) for key in one)]
    names = sorted({key for record in records for key in record if _is_loss(key)}, key=_loss_order)
    if not names:
        return None
    by = _abscissa(records)
    curves, words = {}, []
    for name in names:
        at, values = _series(records, by, name)
        known = np.isfinite(values)
        if not known.all():
            count = plural(int((~known).sum()), "record")
            words.append(f"The {title(name)} is not finite in {count}: training diverged.")
        if known.sum() >= 2:
            curves[name] = (at[known], values[known])
    if files.unread:
        words.append(f"{plural(files.unread, 'line')} of training.jsonl could not be read and is left out.")
    last = [f"last {title(name)} {number(float(values[-1]))}" for name, (_, values) in curves.items()]
    if last:
        words.append(", ".join(last).capitalize() + ".")
    levels = noise_levels(files)
    words += [levels.words] if levels and levels.words else []
    picture = _picture(by, curves) if curves else None
    return TrainingSection(picture, levels.picture if levels else None, words)


def _picture(by: str, curves: Mapping[str, tuple[Array, Array]]) -> Picture:
    label = "training simulations seen" if by == "simulations" else "training step"
    return make_picture(
        "training",
        "Training curve",
        f"Loss against {label}; faint as logged, solid a running mean.",
        "a curve that has flattened. A validation loss that rises while the other falls means overfitting.",
        lambda layout: training_plot(label, curves, layout),
    )


def _abscissa(records: Sequence[Mapping[str, Any]]) -> str:
    """ "simulations" where training drew new ones all along, "step" where it went over the same again."""
    seen = [record.get("simulations", 0) for record in records]
    return "simulations" if all(b > a for a, b in itertools.pairwise([0, *seen])) else "step"


def _is_loss(key: str) -> bool:
    return "loss" in key.split("_")


def _loss_order(key: str) -> tuple[int, str]:
    return ({"loss": 0, "validation_loss": 1}.get(key, 2), key)


def _series(records: Iterable[Mapping[str, Any]], by: str, name: str) -> tuple[Array, Array]:
    rows = np.array([[float(r[by]), float(r[name])] for r in records if name in r]).reshape(-1, 2)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0], rows[:, 1]
