"""What simulations teach of the scalars given data, of the field's mean, and of what the guide errs along
shapes, once constants are fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import Monitor, Team, Values
from sbikit_transformer.conditions import bounded
from sbikit_transformer.data_posterior import better
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.guide import Guide
from sbikit_transformer.levels import NARROW, TrainingLevels
from sbikit_transformer.mean_law import MeanLaw
from sbikit_transformer.normal import Normal
from sbikit_transformer.small_networks import FEW_TIMES, Pace

TOLD = "told"  # what is told of the data, of the most numbers by far
GUIDED = 1024  # of the first simulations the guide is asked, too: they compare it with what is learned
# Of the simulations that teach, the share that judges, and the most that do.
_SHARE_OF_JUDGES, _MOST_JUDGES = 0.1, 8192
_ASKED = 256  # simulations whose laws tell how narrow posteriors are
_OF_GUIDE = ("guide/mean", "guide/variance", "guide/basis")  # parts of its normal law
FEATURES, ALONG = "features", "along"  # of the guide's errors along shapes
_MEAN, _DATA_MEAN = "mean/field", "mean/data"  # amplitudes of mode zero


def judges_of_law(count: int) -> int:
    """How many of so many simulations judge what is learned of the scalars, and do not teach it."""
    return max(1, min(_MOST_JUDGES, int(_SHARE_OF_JUDGES * count)))


def numbers_of_law(denoiser: Denoiser) -> int:
    """How many numbers `fit_law` keeps of a simulation."""
    means = 0 if denoiser.mean_law is None else 2 * denoiser.field_map.channels
    return denoiser.posterior.told + denoiser.coordinates.size + means


@torch.no_grad()
def teach(denoiser: Denoiser, values: Values, *, guided: bool = True) -> dict[str, Tensor]:
    """What simulations teach.

    Args:
        denoiser: whose constants are fitted.
        values: of all variables, each (m, *shape).
        guided: whether the guide is asked, too: of the first `GUIDED`.

    Returns:
        Rows (m, ...): scalars, what is told of the data, the means of the field and of its data where the
        guide knows modes, and its law of the scalars where it is asked.
    """
    guide = denoiser.guide
    _, modes, vectors, statistics = denoiser.told(values)
    rows = {"u": denoiser.coordinates.encode(values), TOLD: bounded(vectors, statistics)}
    if isinstance(guide, Guide):
        field = denoiser.field_map.encode(values, rows["u"])
        rows |= {_MEAN: guide.told(field)[..., 0].real, _DATA_MEAN: modes[..., 0].real}
    if guide is None or not guided:
        return rows
    law = guide.posterior(denoiser.first_law(vectors), modes)
    return rows | dict(zip(_OF_GUIDE, law.parts(), strict=True))


@torch.no_grad()
def teach_shapes(denoiser: Denoiser, values: Values, noise: Tensor) -> dict[str, Tensor]:
    """What simulations teach of the guide's errors along shapes, once the law is learned.

    Args:
        denoiser: whose constants are fitted, and whose law is learned.
        values: of all variables, each (m, *shape).
        noise: (m, C, *grid), standard normal.

    Returns:
        Rows (m, levels, ...): features, and the errors along shapes, see `ShapeErrors`.
    """
    assert denoiser.shape_errors is not None, "there is no latent field"
    errors = denoiser.shape_errors
    field, u = denoiser.encode(values)
    condition = denoiser.condition(values)
    features, along = [], []
    for log_sigma in errors.levels.expand(len(u), -1).unbind(1):
        noisy = field + log_sigma.exp().view(-1, *[1] * (field.ndim - 1)) * noise
        known = denoiser.guess_field(noisy, u, log_sigma, condition)
        unit = known.error.view(*known.error.shape, *[1] * (field.ndim - 2))
        features.append(errors.features(u, known.surprise, known.shapes))
        along.append(errors.along(known.shapes, (field - known.field) / unit).flatten(1))
    return {FEATURES: torch.stack(features, 1), ALONG: torch.stack(along, 1)}


def fit_law(
    denoiser: Denoiser,
    taught: Values,
    monitor: Monitor,
    team: Team | None = None,
    *,
    pace: Pace = FEW_TIMES,
) -> None:
    """Learn what data tell of the scalars, and of the field's mean given these.

    Args:
        denoiser: whose constants are fitted.
        taught: what `teach` gave of all simulations.
        monitor: is told how far training is.
        team: processes that do this together, each with all that was taught.
        pace: of the training.
    """
    posterior, told, u = denoiser.posterior, taught[TOLD], taught["u"]
    judges = judges_of_law(len(u))
    posterior.fit(u, told, judges, monitor, team, pace=pace)
    sd = posterior(told[:_ASKED].float()).whole().sd
    if denoiser.guide is not None:
        law = Normal(*(taught[name][:judges] for name in _OF_GUIDE))
        some = slice(0, len(law.mean))
        gain = posterior(told[some].float()).log_density(u[some]) - law.log_density(u[some])
        denoiser.by_guide.fill_(not better(gain))
        sd = law.sd[:_ASKED] if bool(denoiser.by_guide) else sd
    if denoiser.mean_law is not None:
        _fit_mean_law(denoiser, denoiser.mean_law, taught, judges, monitor)
    denoiser.low[0] = TrainingLevels.resolving(float(sd.quantile(NARROW, 0).min()), with_field=False).low


def _fit_mean_law(denoiser: Denoiser, law: MeanLaw, taught: Values, judges: int, monitor: Monitor) -> None:
    assert isinstance(denoiser.guide, Guide)
    u, data, told = taught["u"], taught[_DATA_MEAN], taught[TOLD]
    expected = denoiser.guide.of_mean(u[:judges], data[:judges])
    components, mean = denoiser.posterior.combined(told), taught[_MEAN]
    law.fit(u, components, data, told, mean=mean, expected=expected, monitor=monitor)
