"""What the sampler says of its own draws: are the data like its training, are draws wide enough."""

from __future__ import annotations

from collections.abc import Sequence

from sbikit import Reading, Trust

_READ = ("numbers", "statistics")  # of vectors and of fields
# Of the last noise level: draws of a normal posterior 2 of it wide are 4 % too narrow, narrower ones more.
_RESOLVED = 2.0
# Standard deviations: one in two million numbers of a normal law lies farther off.
_EXPECTED = 5.0
# Draws from which their spread is told: of fewer it is too uncertain to warn of.
LEAST_DRAWS = 32


def judge(alien: Sequence[int], usual: Sequence[int], width: float | None) -> Trust:
    """What to think of the draws for one observation.

    Args:
        alien: of the observed vectors and of the statistics of observed fields, how many numbers lie further
            from the training simulations than the network is told.
        usual: how many do for the strangest training simulation, of each.
        width: the narrowest standard deviation of the draws in units of the last noise level; None where
            there are too few draws to tell.
    """
    readings, complaints = _of_data(alien, usual)
    if width is not None:
        name = "narrowest spread of the draws over the last noise level"
        readings.append(Reading(name, width, _RESOLVED, worse="lower"))
        if width < _RESOLVED:
            complaints.append(
                f"draws are no wider than {width:.2g} times the last noise level, below which nothing is "
                "resolved: the posterior may be narrower; set a smaller estimator.sigma_min"
            )
    return Trust(not complaints, tuple(readings), tuple(complaints))


def judge_given(alien: Sequence[int], usual: Sequence[int], surprise: float) -> Trust:
    """What to think of draws of a field given data and scalars.

    Args:
        alien, usual: see `judge`.
        surprise: how far the scalars lie from what data let expect, in standard deviations, the farthest one.
    """
    readings, complaints = _of_data(alien, usual)
    name = "distance of what is given from what the data let expect, in standard deviations"
    readings.append(Reading(name, surprise, _EXPECTED))
    if surprise > _EXPECTED:
        complaints.append(
            f"what is given lies {surprise:.3g} standard deviations from what the data let expect: hardly "
            "any training simulation was like that"
        )
    return Trust(not complaints, tuple(readings), tuple(complaints))


def _of_data(alien: Sequence[int], usual: Sequence[int]) -> tuple[list[Reading], list[str]]:
    """Readings and complaints about an observation."""
    readings: list[Reading] = []
    complaints: list[str] = []
    for what, count, most in zip(_READ, alien, usual, strict=True):
        readings.append(Reading(f"{what} far from all training simulations", float(count), most))
        if count > most:
            complaints.append(
                f"{count} {what} of the observation lie more than 6 standard deviations from the training "
                f"simulations, of which none has more than {most}: the network was never trained on such data"
            )
    return readings, complaints
