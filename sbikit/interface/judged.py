"""How a posterior is judged, from Python, and the page about it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sbikit.interface.asking import AnyReference, AnyValidator, Chosen, configuration, job
from sbikit.interface.posterior import Posterior
from sbikit.roles.validator import Metric, Report
from sbikit.runs.config import PRESET, RunConfig
from sbikit.runs.depends import another_configuration, depends_on
from sbikit.runs.stages import run_stages
from sbikit.runs.verdicts import verdict_table
from sbikit.storage.metrics import read_metrics, report_to_dict

_JUDGED = ("simulate", "keep", "reference", "sample", "validate")
_WIDTH = 120  # letters of a table where there is no terminal


@dataclass(frozen=True)
class Validation:
    """What the validators found of a posterior.

    Args:
        reports: one a validator.
    """

    reports: tuple[Report, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every figure once: validators share some."""
        return tuple(dict.fromkeys(metric for report in self.reports for metric in report.metrics))

    @property
    def failed(self) -> tuple[Metric, ...]:
        """The figures that fail."""
        return tuple(metric for metric in self.metrics if metric.verdict == "fail")

    @property
    def passed(self) -> bool:
        """Whether something was judged, and nothing failed."""
        return any(metric.verdict == "pass" for metric in self.metrics) and not self.failed

    def records(self) -> list[dict[str, Any]]:
        """Every report as plain values, as metrics.json holds them."""
        return [report_to_dict(report) for report in self.reports]

    def __repr__(self) -> str:
        out = io.StringIO()
        self._print(Console(file=out, width=_WIDTH, force_jupyter=False))
        return out.getvalue().rstrip()

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False)
        self._print(console)
        return console.export_html(
            inline_styles=True, code_format="<pre style='line-height:1.3'>{code}</pre>"
        )

    def _print(self, console: Console) -> None:
        table, lines = verdict_table(self.reports)
        console.print(table)
        for line in lines:
            console.print(line, soft_wrap=True)


def validate(
    posterior: Posterior,
    validators: Sequence[AnyValidator] | None = None,
    *,
    observations: int | None = None,
    draws: int | None = None,
    reference: AnyReference | None = None,
    reference_observations: int | None = None,
    reference_draws: int | None = None,
    progress: bool = True,
) -> Validation:
    """Judge a fitted posterior by held-out simulations, and beside exact draws where a reference is named.

    What has been drawn for the same numbers before is not drawn again.

    Args:
        posterior: of `sbikit.fit`, `sbikit.run` or `sbikit.open_run`.
        validators: objects, classes or names of installed ones; the run's where left out.
        observations: how many held-out simulations to judge by.
        draws: posterior draws for each.
        reference: an exact sampler, whose draws are compared with the posterior's.
        reference_observations: how many of the observations it is run on.
        reference_draws: how many draws it makes for each.
        progress: whether progress is shown.

    Raises:
        UnsupportedError: the posterior was not fitted here.
        RunFolderError: run.yaml is not what it was fitted with.
        OptionError: a number is out of range.
        SbikitError: what a plug-in refuses.
    """
    asked = {
        "observations": observations,
        "draws": draws,
        "reference_observations": reference_observations,
        "reference_draws": reference_draws,
    }
    sampling = {key: value for key, value in asked.items() if value is not None}
    _judged(posterior, _JUDGED, Chosen(reference=reference, validators=validators), sampling, progress)
    return Validation(read_metrics(posterior.opened().metrics))


def report(posterior: Posterior, out: str | Path | None = None, *, progress: bool = True) -> Path:
    """The page about a fitted posterior: what it is, and whether it is calibrated.

    What it needs and is not there yet is made: held-out draws, and what the validators say.

    Args:
        posterior: of `sbikit.fit`, `sbikit.run` or `sbikit.open_run`.
        out: file that the page is copied to; it is report.html in the run folder where left out.
        progress: whether progress is shown.

    Returns:
        The file, which stands alone.

    Raises:
        UnsupportedError: the posterior was not fitted here.
        SbikitError: what a plug-in refuses.
    """
    _judged(posterior, (*_JUDGED, "report"), Chosen(), {}, progress)
    page = posterior.opened().path / "report.html"
    if out is None:
        return page
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, target)
    return target


def _judged(
    posterior: Posterior, stages: Sequence[str], chosen: Chosen, sampling: dict[str, int], progress: bool
) -> None:
    """Do these stages of the posterior's run, with another configuration of how it is judged if asked for."""
    folder = posterior.opened()
    for stage in ("keep", "fit"):
        wrong = folder.ledger.differs(stage, depends_on(folder.config, stage))
        if wrong:  # of how it is judged all may be done again, and of this nothing
            raise another_configuration(folder.path, stage, wrong)
    wanted = _configuration(folder.config, chosen, sampling)
    run = job(folder.with_config(wanted), wanted, "sbikit.validate", progress=progress)
    run_stages(run, stages, redo=True)


def _configuration(now: RunConfig, chosen: Chosen, sampling: dict[str, int]) -> RunConfig:
    if chosen == Chosen() and not sampling:
        return now
    tree = now.tree()
    tree["sampling"] |= sampling
    given = {"validators": chosen.validators, "reference": chosen.reference}
    for section in (name for name, plugin in given.items() if plugin is not None):
        del tree[section]
    return configuration("sbikit.validate", chosen, preset=PRESET, values=tree)
