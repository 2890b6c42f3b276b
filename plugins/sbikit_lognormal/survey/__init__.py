"""What a survey does to convergence, and what can be made back of it; it knows no cosmology.

`lensing` relates convergence and shear, `survey` adds the noise of its `masks` and `depth`,
`masked_kaiser_squires` and `wiener` make maps back from shear; `observables` names what is seen and made.
"""

from sbikit_lognormal.survey.depth import relative_density
from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.masked_kaiser_squires import MaskedKaiserSquires
from sbikit_lognormal.survey.masks import usable_fraction
from sbikit_lognormal.survey.observables import OBSERVABLES, SUMMARIES, Maps, Observable, inversions, signal
from sbikit_lognormal.survey.patch import cut, embed
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
    "Survey",
    "WienerFilter",
    "cut",
    "embed",
    "inversions",
    "make_survey",
    "relative_density",
    "signal",
    "usable_fraction",
]
