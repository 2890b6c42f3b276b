"""When a figure raises an alarm, corrected for how many figures are judged.

A page shows many verdicts. Each validator may refuse an exact posterior with a probability of at most
`alpha`, whatever the number of its verdicts: p-values are judged by Holm's procedure (Holm 1979,
Scand. J. Statist. 6, 65), which needs no independence. The shares of `ALPHA` add up to 1 %, so that of 100
pages about exact posteriors, judged by the four validators at their defaults, at most one shows an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scipy.stats import binom, t

from sbikit import Metric


def refused(p: Sequence[float], alpha: float) -> list[bool]:
    """Which of the hypotheses with these p-values are refused, with one or more wrongly so at most alpha.

    The k-th smallest of m is refused if it and all below it are at most alpha / (m - k), k counted from 0.
    """
    wrong = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > alpha / (len(p) - k):
            break
        wrong[i] = True
    return wrong


def judged(metrics: Sequence[Metric], alpha: float) -> list[Metric]:
    """The metrics, those that have a p-value with their verdict."""
    tested = [metric.p for metric in metrics if metric.p is not None]
    wrong = iter(refused(tested, alpha))
    return [
        metric if metric.p is None else replace(metric, verdict="fail" if next(wrong) else "pass")
        for metric in metrics
    ]


def students_p(distance: float, error: float, count: int) -> float:
    """Chance of a mean of `count` independent numbers at least so far from its expectation, either way.

    Args:
        distance: of the mean from its expectation.
        error: the standard error of the mean, from the scatter of the numbers.
        count: how many, at least 2.
    """
    if error == 0.0:
        return 1.0 if distance == 0.0 else 0.0
    return min(1.0, 2.0 * float(t.sf(abs(distance) / error, count - 1)))


def binomial_p(successes: int, count: int, chance: float) -> float:
    """Twice the smaller tail of the binomial distribution up to and including `successes`, at most 1."""
    lower, upper = binom.cdf(successes, count, chance), binom.sf(successes - 1, count, chance)
    return min(1.0, 2.0 * float(min(lower, upper)))
