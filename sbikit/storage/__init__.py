"""What lies on the disk: files written whole or not at all, and the formats of a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
