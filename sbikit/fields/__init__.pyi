from .moments import Moments as Moments
from .moments import histogram as histogram
from .moments import moments as moments
from .spectra import Spectrum as Spectrum
from .spectra import correlation as correlation
from .spectra import cross_spectrum as cross_spectrum
from .spectra import power_spectrum as power_spectrum
