"""For those who write plug-ins: contract checks, and toy problems whose posterior is known.

Each `check_*` raises `ContractError`, which names the promise of `sbikit.roles` that is broken, and returns
nothing when all are kept::

    from sbikit.testing import parametrize_with_checks

    @parametrize_with_checks([MySimulator(), MyEstimator()])
    def test_contract(check):
        check()
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
