"""The chain from parameters to data: what the options describe, put together.

`model` holds what all precisions and devices share, `theory` the spectra of one device, `engine` the maps and
the data in one precision; `scan` looks over the prior, `facts` says what the
options amount to.
"""

from sbikit_lognormal.chain.engine import Engine, Engines
from sbikit_lognormal.chain.facts import facts
from sbikit_lognormal.chain.model import Model, make_model
from sbikit_lognormal.chain.scan import scan_prior
from sbikit_lognormal.chain.theory import Theory

__all__ = ["Engine", "Engines", "Model", "Theory", "facts", "make_model", "scan_prior"]
