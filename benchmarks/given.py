"""Fields at known parameters, beside hmc at the same: `python benchmarks/given.py [--pretrained NAME]`.

Of observations that no weights and no choice have seen, maps are drawn given data and parameters, once the
true ones and once those of a joint draw, by the weights that ship and by hmc at these parameters, whose
halves give the floor of each figure. Each is a line with its standard error, what it is for an exact
conditional, and its floor.
"""

from __future__ import annotations

import argparse
import time

from _metrics import tell_metric
from _product import product_seconds
from _record import record
from torch import Tensor

import sbikit
from sbikit import Comparison, Evidence, Posterior, Report, Values, draw_seeds
from sbikit.roles import mean_and_error
from sbikit.roles.trust import trusted

_SEED = 5  # of the observations: the presets have 0, choices were made on 1
_TRAINING = 64  # draws that give scales to a validator


def main() -> None:
    """Draw, compare, print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--pretrained", default="quick", metavar="NAME", help="the weights")
    words.add_argument("--observations", type=int, default=24, metavar="N")
    words.add_argument("--draws", type=int, default=400, metavar="N", help="of either for each")
    asked = words.parse_args()
    learned = sbikit.pretrained(asked.pretrained, device="cpu")
    hmc = sbikit.exact(learned.simulator, "hmc", device="cpu")
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product_seconds(), None)
    values = sbikit.Simulations(learned.simulator, _SEED).held_out(0, asked.observations)
    prior = learned.simulator.prior.name
    data = {v.name: values[v.name] for v in learned.spec.observables}
    drawn = learned.sample(data, 2, seed=_SEED).values[prior][0]
    for what, theta in (("true parameters", values[prior]), ("parameters of a joint draw", drawn)):
        _tell(what, (learned, hmc), {**data, prior: theta}, values, asked.draws)


def _tell(what: str, both: tuple[Posterior, Posterior], given: Values, values: Values, count: int) -> None:
    """Every figure of agreement of maps given data and parameters."""
    learned, hmc = both
    seeds = draw_seeds(_SEED, what, 0, len(next(iter(given.values()))))
    began = time.process_time()
    found = learned.sample(given, count, seeds=seeds)
    record(f"CPU ms of a map at {what}", 1e3 * (time.process_time() - began) / (len(seeds) * count), None)
    exact = hmc.sample(given, count, seeds=seeds + 1)
    rows = trusted(exact.trust)
    record(f"observations of {len(seeds)} for which hmc can be trusted, at {what}", float(len(rows)), None)
    doubted = sum(not one.trustworthy for one in found.trust)
    record(f"observations that the weights' sampler doubts, at {what}", float(doubted), None)
    simulations = sbikit.Simulations(learned.simulator, _SEED)
    names = [v.name for v in found.spec.latents]
    half = {name: found.values[name][: count // 2] for name in names}
    evidence = Evidence(
        spec=found.spec,
        truth={name: values[name] for name in names},
        observation=found.observation,
        draws=half,
        training=simulations.training(0, _TRAINING),
        comparison=Comparison(
            "hmc",
            tuple(rows),
            {name: exact.values[name][:, list(rows)] for name in names},
            {name: half[name][:, list(rows)] for name in names},
        ),
    )
    report: Report = sbikit.load("validator", "agreement").validate(evidence, seed=0)
    for metric in report.metrics:
        tell_metric(metric, record, f"{metric.name} of {metric.variable} at {what}")
    _tell_looks(what, exact.values[names[0]][:, rows], half[names[0]][:, rows])


def _tell_looks(what: str, exact: Tensor, own: Tensor) -> None:
    """How maps (n, B, C, *grid) look, in units of how the 2 n exact ones scatter."""
    found = _looks(own)
    for look, reference in _looks(exact).items():
        first, second = reference.chunk(2)
        off = [((one.mean(0) - first.mean(0)) / reference.std(0)).numpy() for one in (found[look], second)]
        wide = [(one.std(0) / first.std(0)).log().numpy() for one in (found[look], second)]
        for words, (values, floors) in (
            (f"shift of the {look} of maps, sd", off),
            (f"square of this shift of the {look}", [one**2 for one in off]),
            (f"log ratio of the sds of the {look} of maps", wide),
        ):
            value, error = mean_and_error(values)
            floor, floor_error = mean_and_error(floors)
            record(f"{words}, at {what}", value, error, ideal=0.0, floor=floor, floor_error=floor_error)


def _looks(maps: Tensor) -> dict[str, Tensor]:
    """Of maps (n, B, C, *grid) three figures, each (n, B)."""
    pixels = maps.double().flatten(2)
    apart = pixels - pixels.mean(-1, keepdim=True)
    variance = apart.square().mean(-1)
    skewness = apart.pow(3).mean(-1) / variance.pow(1.5)
    return {"log variance": variance.log(), "skewness": skewness, "maximum": pixels.amax(-1)}


if __name__ == "__main__":
    main()
