"""A denoiser of which nothing is fitted yet."""

from __future__ import annotations

from sbikit import Simulator
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.options import TransformerOptions


def untrained(simulator: Simulator, o: TransformerOptions) -> Denoiser:
    """One with the options of an estimator."""
    return Denoiser(
        simulator,
        simulator.spec,
        patch=o.patch,
        width=o.width,
        depth=o.depth,
        heads=o.heads,
        nodes=o.guide_nodes,
    )
