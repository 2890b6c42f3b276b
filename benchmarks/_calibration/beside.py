"""Draws of hmc for the first observations, and how far those of the trained sampler are from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _metrics import tell_metric
from numpy.typing import NDArray
from torch import Tensor

from _calibration.drawn import Kept
from _calibration.measures import (
    QUANTILES,
    Measured,
    coherence_rms,
    coherence_shift,
    log_variance_ratios,
    offset_beyond_floor,
    quantile_shift,
    quantile_shifts,
    ratio_of_variances,
)
from _calibration.sizes import Sizes
from sbikit import (
    Comparison,
    Draws,
    Sampler,
    Simulator,
    UnsupportedError,
    Values,
    derive_seed,
    draw_seeds,
    load,
)
from sbikit.roles.trust import announcement, trusted
from sbikit.runs import Run
from sbikit.runs.drawing import observed
from sbikit.storage import (
    draws_key,
    object_digest,
    read_draws,
    read_tensors,
    read_trust,
    write_draws,
    write_tensors,
)
from sbikit_calibration.agreement.c2st import load_c2st
from sbikit_calibration.agreement.coherence import REGRESSION
from sbikit_calibration.agreement.compared import ComparedVariables
from sbikit_calibration.agreement.numbers import Classifier, Numbers, gather
from sbikit_calibration.agreement.validator import Agreement

OFFSET_GOAL = 0.1  # posterior sd, of docs/results/index.md
Tell = Callable[..., Any]
_NUMBERS = "numbers 2"  # what is kept of an observation; rises when that changes


@dataclass(frozen=True)
class Batch:
    """The observations `first` to `last - 1`: where hmc's draws for them lie, and what is found of them."""

    first: int
    last: int
    draws: Path
    numbers: Path


@dataclass(frozen=True)
class Beside:
    """The comparison of a run with hmc.

    Args:
        run: the run.
        values: held-out draws of all variables, each (O, *shape).
        kept: where the trained sampler's draws lie.
        folder: where those of hmc and what is found are kept.
        sizes: how much is done.
        tell: prints a figure.
    """

    run: Run
    values: Values
    kept: Kept
    folder: Path
    sizes: Sizes
    tell: Tell

    def tell_all(self) -> None:
        """Draw by hmc, measure and tell; where hmc cannot draw that is said, and nothing is told."""
        try:
            exact = load("sampler", "hmc", **self.sizes.hmc).posterior(
                self.run.simulator, monitor=self.run.monitor, device=self.run.device
            )
        except UnsupportedError as error:
            self.run.monitor.say(f"nothing is compared with hmc: {error}")
            return
        batches = list(self._batches())
        self._draw(exact, batches)
        trust = [one for batch in batches for one in read_trust(batch.draws)]
        for line in announcement("hmc", trust):
            self.run.monitor.say(line)
        self.tell(
            f"observations of {len(trust)} for which hmc can be trusted", float(len(trusted(trust))), None
        )
        found = self._measure(batches)
        if found and len(found["offsets"]) > 1:
            self._tell(found)

    def _batches(self) -> Iterator[Batch]:
        count = self.sizes.compared
        for first in range(0, count, self.sizes.at_once):
            last = min(first + self.sizes.at_once, count)
            name = f"{first:05d}-{last:05d}.safetensors"
            yield Batch(first, last, self.folder / "hmc" / name, self.folder / "numbers" / name)

    def _draw(self, exact: Sampler, batches: list[Batch]) -> None:
        missing = [batch for batch in batches if draws_key(batch.draws) != self._exact_key]
        done = self.sizes.compared - sum(batch.last - batch.first for batch in missing)
        with self.run.monitor.progress("observations of hmc", self.sizes.compared, done) as advance:
            for batch in missing:
                data = observed(self.values, exact.spec, batch.first, batch.last)
                seeds = draw_seeds(self.run.config.seed, "exact", batch.first, batch.last - batch.first)
                found = exact.sample(data, self.sizes.exact, seeds=seeds)
                names = [v.name for v in self.run.spec.latents]
                write_draws(
                    batch.draws,
                    Draws({name: found.values[name].float().cpu() for name in names}, found.trust),
                    self._exact_key,
                )
                advance(batch.last - batch.first)

    @property
    def _exact_key(self) -> str:
        config = self.run.config
        return object_digest([config.simulator.tree(), config.seed, dict(self.sizes.hmc), self.sizes.exact])

    def _measure(self, batches: list[Batch]) -> dict[str, Tensor]:
        """The numbers of all batches, observations along the first axis."""
        key, parts = object_digest([_NUMBERS, self.kept.key, self._exact_key]), []
        with self.run.monitor.progress("measuring beside hmc", self.sizes.compared) as advance:
            for batch in batches:
                if not _has_key(batch.numbers, key):
                    write_tensors(batch.numbers, self._numbers(batch), {"key": key})
                parts.append(read_tensors(batch.numbers)[0])
                advance(batch.last - batch.first)
        full = [part for part in parts if part]
        return {name: torch.cat([part[name] for part in full]) for name in (full[0] if full else ())}

    def _numbers(self, batch: Batch) -> dict[str, Tensor]:
        """Those of agreement, and shifts of quantiles, for the observations of a batch."""
        draws = read_draws(batch.draws)
        rows = list(range(len(draws))) if self.sizes.trial else trusted(draws.trust)
        if not rows:
            return {}
        names = [v.name for v in self.run.spec.latents]
        judged = [self.kept.read(batch.first + row, names) for row in rows]
        exact = draws.select(rows).values
        together = {name: torch.stack([one[name] for one in judged], 1) for name in names}
        comparison = Comparison("hmc", tuple(rows), exact, together)
        compared, c2st = ComparedVariables(self.run.spec), load_c2st()
        seed = derive_seed(self.run.config.seed, "c2st", batch.first)
        classifier = None if c2st is None else Classifier(c2st, len(rows), seed)
        found = packed(gather(comparison, compared, classifier))
        for c in compared.channels:
            maps = (values[c.field.name][:, :, c.index].numpy() for values in (together, exact))
            pairs = list(zip(*(np.moveaxis(one, 1, 0) for one in maps), strict=True))
            shifts = np.stack([quantile_shifts(own, other) for own, other in pairs])
            found[f"quantiles/{c.variable}"] = torch.from_numpy(shifts)
            parts = list(parts_of_maps(self.run.simulator, c.field.grid).values())
            ratios = np.stack([log_variance_ratios(own, other, parts) for own, other in pairs])
            found[f"variances/{c.variable}"] = torch.from_numpy(ratios)
        return found

    def _tell(self, found: Mapping[str, Tensor]) -> None:
        compared = ComparedVariables(self.run.spec)
        numbers = unpacked(found, min(self.sizes.draws, self.sizes.exact // 2))
        lacking = not any(name == "c2st" for name, _ in numbers.figures)
        for metric in Agreement().judge(numbers, compared, lacking=lacking):
            tell_metric(metric, self.tell, f"against hmc: {metric.name} of {metric.variable}")
        tell_offsets(numbers, compared, self.tell)
        tell_quantiles(found, compared, self.tell)
        tell_variances(found, compared, self.run.simulator, self.tell)
        if compared.coherent:
            tell_coherence(numbers, compared, self.tell)


def tell_offsets(numbers: Numbers, compared: ComparedVariables, tell: Tell) -> None:
    """Offsets of the means of all scalars beyond the floor."""
    for i, scalar in enumerate(compared.scalars):
        log_ratios = numbers.figures["sd_ratio", scalar][:, 0]
        offset = offset_beyond_floor(numbers.offsets[:, :, i], log_ratios, numbers.draws)
        _tell(
            tell,
            f"against hmc: offset of the mean of {scalar} beyond the floor, rms, posterior sd",
            offset,
            0.0,
            goal=f"at most {OFFSET_GOAL:g}",
            ok=offset.value <= OFFSET_GOAL,
        )


def tell_quantiles(found: Mapping[str, Tensor], compared: ComparedVariables, tell: Tell) -> None:
    """Shifts of one-point quantiles of all channels."""
    for c in compared.channels:
        shifts = found[f"quantiles/{c.variable}"].numpy()
        for i, level in enumerate(QUANTILES):
            name = f"against hmc: shift of the {100 * level:g} % quantile of {c.variable}, sd of the field"
            _tell(tell, name, quantile_shift(shifts[:, :, i]), 0.0)


def parts_of_maps(simulator: Simulator, grid: tuple[int, ...]) -> dict[str, NDArray[np.bool_] | None]:
    """What variances are told of: the mean of a map, pixels that no observable sees, and the others, where
    there are such.
    """
    found: dict[str, NDArray[np.bool_] | None] = {"the mean of the map": None}
    seen = np.ones(grid, dtype=bool)
    if masks := [mask for mask in simulator.masks().values() if tuple(mask.shape[1:]) == grid]:
        seen = torch.cat(masks).any(0).numpy()
    if seen.any() and not seen.all():
        found |= {"pixels that are masked": ~seen, "pixels that are seen": seen}
    return found


def tell_variances(
    found: Mapping[str, Tensor], compared: ComparedVariables, simulator: Simulator, tell: Tell
) -> None:
    """Variances over the exact ones of what pixels all together do not show."""
    for c in compared.channels:
        logs = found[f"variances/{c.variable}"].numpy()
        for i, part in enumerate(parts_of_maps(simulator, c.field.grid)):
            name = f"against hmc: variance of {part}, {c.variable}"
            _tell(tell, name, ratio_of_variances(logs[:, :, i]), 1.0)


def tell_coherence(numbers: Numbers, compared: ComparedVariables, tell: Tell) -> None:
    """Correlations of all scalars with what maps look like, less those in hmc's draws."""
    shown = [i for i, (name, _) in enumerate(compared.summaries) if not name.startswith(REGRESSION)]
    for d, scalar in enumerate(compared.scalars):
        for s in shown:
            name = f"against hmc: correlation of {scalar} with {compared.summaries[s][0]} less the exact one"
            _tell(tell, name, coherence_shift(numbers.correlations[:, :, d, s]), 0.0)
    pairs = coherence_rms(numbers.correlations[..., shown])
    name = f"against hmc: rms of these {len(compared.scalars) * len(shown)} correlations"
    _tell(tell, name, pairs, 0.0)


def _tell(tell: Tell, name: str, found: Measured, ideal: float, **more: Any) -> None:
    floor = {"floor": found.floor, "floor_error": found.floor_error}
    tell(name, found.value, found.error, ideal=ideal, **floor, **more)


def packed(numbers: Numbers) -> dict[str, Tensor]:
    """Numbers as tensors, to be kept."""
    found = {f"figures/{name}/{variable}": value for (name, variable), value in numbers.figures.items()}
    found |= {f"rings/{name}": value for name, value in numbers.rings.items()}
    found |= {"offsets": numbers.offsets, "correlations": numbers.correlations}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}


def unpacked(found: Mapping[str, Tensor], draws: int) -> Numbers:
    """The numbers of `packed`, of so many draws on each side."""
    by_kind: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in found.items():
        kind, _, rest = name.partition("/")
        by_kind[kind][rest] = value.numpy()
    figures = {tuple(name.split("/", 1)): value for name, value in by_kind["figures"].items()}
    return Numbers(
        draws,
        {(name, variable): value for (name, variable), value in figures.items()},
        by_kind["offsets"][""],
        by_kind["rings"],
        by_kind["correlations"][""],
    )


def _has_key(path: Path, key: str) -> bool:
    try:
        return bool(read_tensors(path)[1]["key"] == key)
    except (OSError, ValueError, KeyError):
        return False
