"""The reference beside the estimator, where it can be trusted."""

from __future__ import annotations

from torch import Tensor

from sbikit.roles.evidence import Comparison
from sbikit.roles.stored_draws import SomeDraws
from sbikit.roles.trust import trusted
from sbikit.runs.job import Run
from sbikit.storage.draws import open_draws, read_trust

FEWEST_COMPARED = 2  # observations: below, no figure has a standard error


def comparison(run: Run) -> Comparison | None:
    """Draws of both where the reference can be trusted; None where that is for too few observations."""
    if run.config.reference is None:
        return None
    rows = trusted(read_trust(run.folder.reference))
    if len(rows) < FEWEST_COMPARED:
        return None
    exact, draws = open_draws(run.folder.reference), open_draws(run.folder.compared)
    names = [v.name for v in run.spec.latents]
    most = 2 * draws.shapes[names[0]][0]
    kept: dict[str, list[int]] = {name: [] for name in exact.shapes if name not in names}
    return Comparison(
        name=run.config.reference.name,
        rows=tuple(rows),
        exact=SomeDraws(exact, rows=rows, most=most, kept=kept),
        draws=SomeDraws(draws, rows=rows),
    )


def no_comparison(run: Run) -> str:
    """Why there is none."""
    if run.config.reference is None:
        return "because there is no reference"
    trust = read_trust(run.folder.reference)
    return (
        f"because {run.config.reference.name} is to be trusted for {len(trusted(trust))} of {len(trust)} "
        f"observations, and {FEWEST_COMPARED} are needed"
    )


def shown_reference(run: Run) -> dict[str, Tensor] | None:
    """The reference's draws for the shown observation, each (n, *shape), if they can be trusted."""
    if run.config.reference is None or not read_trust(run.folder.reference)[0].trustworthy:
        return None
    draws = open_draws(run.folder.reference)
    return {name: value[:, 0] for name, value in draws.block(list(draws), 0, 1).items()}
