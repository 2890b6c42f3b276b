"""sbikit: joint posteriors of fields and parameters from simulations, with proof of calibration.

Names are imported on first use, so that `import sbikit` and the command line start at once. What is public
stands in `__init__.pyi` here and in each room.
"""

import lazy_loader

from sbikit.threads import let_threads_sleep

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]

let_threads_sleep()  # before anything loads torch
