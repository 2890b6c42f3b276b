"""What several tests of `lognormal` need."""

from __future__ import annotations

import torch

from sbikit import LogDensity, Values
from sbikit_lognormal.posterior import SurveyDensity
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.survey import cut


def white_density(simulator: LogNormal, observation: Values) -> LogDensity:
    """The density in white coordinates, also where the simulator has others."""
    engine = simulator._engine(torch.float64, torch.device("cpu"))
    (data,) = (observation[name].double() for name in simulator.observed)
    data = data.reshape(len(data), simulator.bins, -1, *data.shape[-2:])
    common = (simulator.prior, engine.spectra, engine.field, data, engine.survey.weight)
    joint = SurveyDensity(*common, noiseless=engine.noiseless)
    return joint.density(lambda box: cut(box, simulator.size))
