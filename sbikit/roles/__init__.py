"""The four nouns: a simulator draws parameters, fields and data jointly; an estimator learns a sampler from
such draws; a sampler draws from a posterior; a validator judges draws against the truths they should cover.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
