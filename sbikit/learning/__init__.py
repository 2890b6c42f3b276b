"""What every trained estimator needs: coordinates of vectors, scales of channels, one training loop with its
optimisers, and checkpoints.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
