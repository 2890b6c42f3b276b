"""Where tasks are run: in this process, in processes of this machine, on a dask cluster.

Nothing here knows what the tasks are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
