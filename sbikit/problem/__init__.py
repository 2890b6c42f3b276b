"""What is inferred from what: variables, the problem, priors, options, seeds and errors.

Nothing here knows of plug-ins, files or networks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
