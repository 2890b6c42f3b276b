"""The stages from Python, on objects that need not be registered: what `sbikit.run` and its like do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
