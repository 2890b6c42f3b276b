"""Every figure but coherence: its kind, its tolerance, its ideal, and what it says in words."""

from __future__ import annotations

from sbikit_calibration.agreement.c2st import FEWEST_FOR_C2ST
from sbikit_calibration.agreement.maps import LEVELS
from sbikit_calibration.agreement.options import AgreementOptions
from sbikit_calibration.agreement.power import BANDS
from sbikit_calibration.agreement.verdict import Figure

_NO_SBI = "; no C2ST beside it, since sbi is not installed (pip install 'sbikit[npe]')"
_SCALES = dict(zip(BANDS, ("large", "intermediate", "small"), strict=True))


def figures(options: AgreementOptions, *, draws: int, lacking: bool) -> dict[str, Figure]:
    """Name -> figure.

    Args:
        options: the tolerances.
        draws: n on each side: with fewer than 200 C2ST is not judged.
        lacking: whether C2ST was wanted and sbi is not installed, which a reader is told.
    """
    found = (
        *_of_marginals(options),
        _divergence(options, lacking=lacking),
        _c2st(options, judged=draws >= FEWEST_FOR_C2ST),
        *_of_mean_maps(options),
        *_of_maps(options),
    )
    return {figure.name: figure for figure in found}


def _of_marginals(o: AgreementOptions) -> tuple[Figure, ...]:
    return (
        Figure("mean_offset", "rms", o.offset, "rms difference of posterior means, in exact posterior sd"),
        Figure("mean_shift", "signed", o.offset, "mean difference of posterior means, in exact sd", 0.0),
        Figure("sd_ratio", "ratio", o.sd_ratio, "posterior sd over the exact one, geometric mean", 1.0),
        Figure("w1", "distance", o.w1, "1-Wasserstein distance of the marginals, in exact sd"),
    )


def _divergence(o: AgreementOptions, *, lacking: bool) -> Figure:
    text = "Kullback-Leibler divergence in nats, all parameters together"
    return Figure("kl", "distance", o.kl, text + _NO_SBI if lacking else text)


def _c2st(o: AgreementOptions, *, judged: bool) -> Figure:
    text = "accuracy of a classifier between judged and exact draws"
    few = f"{text}; not judged with fewer than {FEWEST_FOR_C2ST} draws"
    return Figure("c2st", "distance", o.c2st, text if judged else few, 0.5, judged)


def _of_mean_maps(o: AgreementOptions) -> tuple[Figure, ...]:
    alike, apart = "correlation of posterior mean maps over pixels", "rms difference of posterior mean maps"
    return (
        Figure("field_correlation", "similarity", o.correlation, alike),
        Figure("mean_map_error", "rms", o.offset, f"{apart}, in exact pixel sd"),
    )


def _of_maps(o: AgreementOptions) -> tuple[Figure, ...]:
    variance = "posterior variance of pixels over the exact one"
    power = "power of the draws over that of exact ones, {} scales"
    inside = "share of exact pixels inside the judged draws' central {:.0f} % intervals"
    shift = "shift of the draws' {} % quantile, in sd of the map"
    return (
        Figure("pixel_variance_ratio", "ratio", o.variance, variance, 1.0),
        Figure("tail_low", "signed", o.tails, shift.format("0.1"), 0.0),
        Figure("tail_high", "signed", o.tails, shift.format("99.9"), 0.0),
        *(
            Figure(f"band_power_ratio_{band}", "ratio", o.band_power, power.format(scales), 1.0)
            for band, scales in _SCALES.items()
        ),
        *(Figure(f"coverage_{100 * p:.0f}", "signed", o.coverage, inside.format(100 * p), p) for p in LEVELS),
    )
