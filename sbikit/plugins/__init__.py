"""How plug-ins are found: hooks, the registry of what is installed, and a new one to start from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
