"""The contract of exact samplers: that of samplers, and draws that are exact where they are called so.

What draws depend on is checked in a dozen calls, with the short work of the class's `for_checks`; whether
they are exact in one, with the options as they are.
"""

from __future__ import annotations

from sbikit.problem.errors import UnsupportedError
from sbikit.roles.monitor import Monitor, QuietMonitor
from sbikit.roles.sampler import ExactSampler
from sbikit.simulations.stream import Simulations
from sbikit.testing.field import GaussianField, GaussianFieldOptions
from sbikit.testing.promises import ContractError, sbikit_errors_are_broken_promises
from sbikit.testing.samplers import check_exactness, check_sampler
from sbikit.testing.short import short
from sbikit.testing.vector import GaussianVector

_OBSERVATIONS = 3  # enough that one lies in the middle; chains of more take longer


def check_exact_sampler(exact: ExactSampler, *, monitor: Monitor | None = None) -> None:
    """Check the sampler that an exact sampler makes of the first toy that it can sample.

    Args:
        exact: the plug-in; its class may say what options are enough for all but exactness, `for_checks`.
        monitor: hears if no draws are called trustworthy.

    Raises:
        ContractError: the first promise found broken; among them, that draws of the toy which are called
            trustworthy have the mean and the width of its exact posterior.
    """
    where = f"{type(exact).__name__}.posterior"
    for toy in (GaussianField(GaussianFieldOptions(size=8)), GaussianVector()):
        try:
            with sbikit_errors_are_broken_promises(where):
                sampler = exact.posterior(toy, monitor=QuietMonitor())
                quick = short(exact).posterior(toy, monitor=QuietMonitor())
        except ContractError as error:
            if isinstance(error.__cause__, UnsupportedError):
                continue
            raise
        held_out = Simulations(toy, 0).held_out(0, _OBSERVATIONS)
        observation = {v.name: held_out[v.name] for v in sampler.spec.observables}
        check_sampler(quick, observation)
        check_exactness(sampler, observation, toy.exact_sampler(), monitor=monitor)
        return
    raise ContractError("The sampler can sample neither toy.", where=where)
