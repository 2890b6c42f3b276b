"""What a survey does to convergence, and what can be made back of it; it knows no cosmology.

`lensing` relates convergence and shear, `survey` adds the noise of its `masks` and `depth`,
`masked_kaiser_squires` and `wiener` make maps back from shear, `quadratics` numbers that tell what spectra
do; `observables` names what is seen and made.
"""

from sbikit_lognormal.survey.depth import relative_density
from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.masked_kaiser_squires import MaskedKaiserSquires
from sbikit_lognormal.survey.masks import usable_fraction
from sbikit_lognormal.survey.observables import OBSERVABLES, SUMMARIES, Maps, Observable, Summaries, signal
from sbikit_lognormal.survey.patch import cut, embed
from sbikit_lognormal.survey.quadratics import Quadratics
from sbikit_lognormal.survey.survey import LEAST_USABLE, Survey, make_survey
from sbikit_lognormal.survey.wiener import WienerFilter

__all__ = [
    "LEAST_USABLE",
    "OBSERVABLES",
    "SUMMARIES",
    "KaiserSquires",
    "Maps",
    "MaskedKaiserSquires",
    "Observable",
    "Quadratics",
    "Summaries",
    "Survey",
    "WienerFilter",
    "cut",
    "embed",
    "make_survey",
    "relative_density",
    "signal",
    "usable_fraction",
]
