"""What chains hold in memory."""

from __future__ import annotations

import math

from sbikit import Spec, check_memory


def refuse_endless(spec: Spec, *, chains: int, draws: int, name: str) -> None:
    """Refuse more draws than fit into memory: those of one observation are held together.

    Raises:
        OptionError: they do not.
    """
    numbers = sum(math.prod(v.shape) for v in spec.latents)
    check_memory(
        chains * draws * numbers,
        f"{chains} chains of {draws:,} draws of {numbers:,} numbers",
        where=f"chains and draws of {name}",
        fix="ask for fewer: they are thinned to what the run asks for",
    )
