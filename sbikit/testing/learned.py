"""Has an estimator learned anything, or does it return the prior?

Of every latent the share of its variance that the posterior mean explains,

    E = 1 - <(truth - mean of draws)^2> / <(truth - mean of truths)^2>,

which is 0 for the prior, whatever its width, and positive as soon as draws follow the data. On a toy it is
measured beside that of the exact posterior.
"""

from __future__ import annotations

from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.sampler import Sampler
from sbikit.testing.promises import ContractError

OBSERVATIONS = 128  # the prior's E is then 0 to .01: its draws' means differ by chance alone
DRAWS = 64
# Of the exact posterior's E. Half a minute of training reaches .9 on the toys; .25 leaves room for less.
LEAST_SHARE = 0.25


def explained(truth: Tensor, draws: Tensor) -> float:
    """E, averaged over the scalars of a variable: truth (B, *shape), draws (n, B, *shape)."""
    error = (truth - draws.mean(0)).double().flatten(1).square().mean(0)
    spread = truth.double().flatten(1).var(0, correction=0)
    return float((1.0 - error / spread.clamp_min(1e-300)).mean())


def check_learned(sampler: Sampler, exact: Sampler, held_out: Values, where: str) -> None:
    """Refuse a sampler that explains little of what the exact posterior does.

    Args:
        sampler: a fitted one.
        exact: of the exact posterior of the same problem, or of one with more latents.
        held_out: truths and data, each (B, *shape).
        where: for messages.

    Raises:
        ContractError: it does.
    """
    observation = {v.name: held_out[v.name] for v in exact.spec.observables}
    seeds = draw_seeds(0, "contract/learned", 0, len(next(iter(observation.values()))))
    found, right = (one.sample(observation, DRAWS, seeds=seeds).values for one in (sampler, exact))
    for variable in sampler.spec.latents:
        truth = held_out[variable.name]
        reached, possible = (explained(truth, draws[variable.name]) for draws in (found, right))
        if not reached >= LEAST_SHARE * possible:
            raise ContractError(
                f"The estimator has learned next to nothing of {variable.name!r}: its draws could come from "
                "the prior.",
                where=where,
                expected=f"posterior means that explain at least {100 * LEAST_SHARE * possible:.0f} % of the "
                f"variance (the exact posterior's: {100 * possible:.0f} %)",
                got=f"{100 * reached:.0f} %",
                fix="look for data that do not reach the network or do not belong to the parameters beside "
                "them; if the options make too short a fit for that, give it more simulations or steps",
            )
