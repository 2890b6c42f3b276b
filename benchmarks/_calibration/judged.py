"""What the shipped validators find on the held-out observations, and the power of draws over the truth's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kept import kept_record
from _metrics import tell_metric
from _run_folder import streams
from torch import Tensor

from _calibration.drawn import Kept, OneByOne
from _calibration.measures import ratio_of_means
from _calibration.raw import raw_mira
from sbikit import Evidence, Metric, Report, Spec, SpecError, Validator, Values, derive_seed, generator, load
from sbikit.roles.validator import report_constants
from sbikit.runs import Run
from sbikit.runs.drawing import observed
from sbikit.runs.fitting import most_draws
from sbikit.storage import object_digest, report_from_dict, report_to_dict
from sbikit_calibration.agreement.compared import ComparedVariables
from sbikit_calibration.coverage.distance import Centres
from sbikit_calibration.coverage.mira import IDEAL, Mira
from sbikit_calibration.coverage.ranked import closeness
from sbikit_calibration.coverage.tarp import Tarp

VALIDATORS = ("mira", "tarp", "sbc", "coverage")


@dataclass(frozen=True)
class Judged:
    """Evidence of a run's held-out observations as its stage `validate` makes it.

    Args:
        run: the run.
        values: held-out draws of all variables, each (O, *shape).
        kept: where the posterior draws lie.
        folder: where what is found is kept.
        tell: prints a figure.
    """

    run: Run
    values: Values
    kept: Kept
    folder: Path
    tell: Callable[..., Any]

    def tell_all(self) -> None:
        """Every figure of every validator; where not all draws of fields are kept, of vectors apart."""
        few = self.kept.fields < self.kept.draws
        if few:
            vectors = replace(self.run.spec, latents=self.run.spec.vectors)
            self._tell(vectors, self.kept.draws, "vectors", "")
        self._tell(self.run.spec, self.kept.fields, "all", f" ({self.kept.fields} draws)" if few else "")

    def _tell(self, spec: Spec, count: int, name: str, words: str) -> None:
        evidence = _Lazy(self, spec, count)
        told = set()
        with self.run.monitor.progress(f"validating {name}", len(VALIDATORS) + 1) as advance:
            for validator in (*VALIDATORS, "uniform"):
                path = self.folder / name / f"{validator}.json"
                record = kept_record(path, self._key(count), lambda v=validator: _found(evidence, v))
                for metric in report_from_dict(record, where=str(path)).metrics:
                    line = f"{metric.name} of {metric.variable}{words}"
                    if line not in told:  # contractions stand in two reports
                        told.add(line)
                        own = "tarp" in metric.name  # p-values stand among its figures
                        tell_metric(metric, self.tell, line, p=not own)
                advance(1)

    def _key(self, count: int) -> str:
        return object_digest([self.kept.key, count])

    def tell_power(self) -> None:
        """Power of the draws over the truth's in each band, a channel after the other."""
        key, path = self._key(self.kept.fields), self.folder / "power.json"
        for name, draws, truth in kept_record(path, key, lambda: list(self._powers())):
            found = ratio_of_means(draws, truth)
            self.tell(f"power of {name} over the truth's", found.value, found.error, ideal=1.0)

    def tell_raw(self) -> None:
        """MIRA of fields and vectors together in raw units, where there are both; see `raw_mira`."""
        if not (self.run.spec.fields and self.run.spec.vectors):
            return
        key, path = self._key(self.kept.fields), self.folder / "raw.json"
        value, error = kept_record(path, key, lambda: list(self._raw()))
        name = "mira of all latents as one vector, in their own units (.635 +- .017 in arXiv:2606.31988)"
        self.tell(name, value, error, ideal=IDEAL)

    def _raw(self) -> tuple[float, float]:
        names = [v.name for v in self.run.spec.latents]

        def read(b: int) -> Values:
            return {name: value[: self.kept.fields] for name, value in self.kept.read(b, names).items()}

        training = streams(self.run).training(0, most_draws(self.run.simulator.spec))
        seed = derive_seed(self.run.config.seed, "validate", "raw")
        truth = {name: self.values[name] for name in names}
        return raw_mira(truth, read, training, centres=Mira().options.centres, seed=seed)

    def _powers(self) -> Iterator[tuple[str, list[float], list[float]]]:
        """Channel and band, power of the draws, mean over these, and of the truth, for each observation."""
        channels = ComparedVariables(self.run.spec).channels
        names = list({c.field.name for c in channels})
        rows: list[list[Any]] = [[] for _ in channels]
        count = len(next(iter(self.values.values())))
        with self.run.monitor.progress("power of the draws", count) as advance:
            for b in range(count):
                draws = self.kept.read(b, names)
                for c, found in zip(channels, rows, strict=True):
                    own = draws[c.field.name][: self.kept.fields, c.index].numpy()
                    truth = self.values[c.field.name][b : b + 1, c.index].numpy()
                    found.append([c.bins.power(maps)[1].mean(0) for maps in (own, truth)])
                advance(1)
        for c, found in zip(channels, rows, strict=True):
            table = np.array(found)
            for i, band in enumerate(c.bins.bands):
                own, truth = table[:, :, i].T.tolist()
                yield f"draws of {c.variable}, {band} wave numbers,", own, truth


class _Lazy:
    """Evidence, made when it is first asked for: all draws are read for what does not vary."""

    def __init__(self, of: Judged, spec: Spec, count: int) -> None:
        self._of, self._spec, self._count = of, spec, count
        self.seed = of.run.config.seed

    @cached_property
    def made(self) -> tuple[Evidence, Report]:
        """The evidence, and a report of what it leaves out.

        Raises:
            SpecError: nothing varies.
        """
        of, observations = self._of, len(next(iter(self._of.values.values())))
        evidence, left_out = Evidence.judgeable(
            spec=self._spec,
            truth={v.name: of.values[v.name] for v in self._spec.latents},
            observation=observed(of.values, self._spec, 0, observations),
            draws=OneByOne(of.kept, self._spec, observations, self._count),
            training=streams(of.run).training(0, most_draws(of.run.simulator.spec)),
        )
        if evidence is None:
            raise SpecError("Nothing varies, so nothing can be judged.", where=str(of.kept.folder))
        return evidence, report_constants(left_out)


def _found(lazy: _Lazy, name: str) -> dict[str, Any]:
    evidence, left_out = lazy.made
    seed = derive_seed(lazy.seed, "validate", name)
    if name == "uniform":
        metrics = (*left_out.metrics, *uniform_tarp(evidence, seed))
        return report_to_dict(Report(name, metrics))
    validator: Validator = load("validator", name)
    # Curves are a page's: of many observations they would be most of what is kept.
    return report_to_dict(replace(validator.validate(evidence, seed=seed), curves=()))


def uniform_tarp(evidence: Evidence, seed: int) -> tuple[Metric, ...]:
    """TARP with centres uniform in the box of the training simulations, as arXiv:2302.03026 has it."""
    tarp = Tarp()
    centres = uniform_centres(evidence, tarp.options.centres, derive_seed(seed, "uniform"))
    ranked = closeness("tarp", evidence, {"_uniform_centres": centres}, seed)
    return tuple(tarp.judge(list(ranked), seed))


def uniform_centres(evidence: Evidence, count: int, seed: int) -> Centres:
    """`count` centres an observation, every number uniform between the least and the largest of training."""
    ends = {
        v.name: (evidence.training[v.name].amin(0), evidence.training[v.name].amax(0))
        for v in evidence.spec.latents
    }

    def centres(name: str, b: int) -> Tensor:
        low, high = ends[name]
        source = generator(derive_seed(seed, name, b))
        return low + (high - low) * torch.rand(count, *low.shape, generator=source)

    return centres
