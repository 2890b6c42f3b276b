"""What the simulator knows of its posterior: densities of parameters and maps given data.

`density` is the joint one, in coordinates that are `conditioned` on the data of one bin, or those of
`survey_density`, of any survey; `gradient` and `survey_gradient` are their derivatives, written out, with
what `factors` fits or by the `misfit` of the data; `marginal` is that of parameters, where Gaussian maps can
be integrated out (`gaussian`). `densities` says which there is.
"""

from sbikit_lognormal.posterior.conditioned import ConditionedDensity
from sbikit_lognormal.posterior.conditioning import Conditioning
from sbikit_lognormal.posterior.densities import Densities
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.factors import FittedFactors, fitted_factors
from sbikit_lognormal.posterior.gaussian import GaussianMaps
from sbikit_lognormal.posterior.gradient import QuickGradient
from sbikit_lognormal.posterior.layout import on_numbers, on_quadrant
from sbikit_lognormal.posterior.survey_density import SurveyDensity

__all__ = [
    "ConditionedDensity",
    "Conditioning",
    "Densities",
    "FittedFactors",
    "GaussianMaps",
    "JointDensity",
    "QuickGradient",
    "SurveyDensity",
    "fitted_factors",
    "on_numbers",
    "on_quadrant",
]
