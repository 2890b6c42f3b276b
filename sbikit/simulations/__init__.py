"""Where joint draws come from: an endless stream that is drawn as it is needed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
