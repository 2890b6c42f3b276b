"""A run: its configuration, its folder, and its stages from simulations to the report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
