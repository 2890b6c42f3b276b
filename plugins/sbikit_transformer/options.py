"""Options of the estimator `diffusion-transformer`."""

from __future__ import annotations

from pydantic import Field as Option

from sbikit import Options


class TransformerOptions(Options):
    """Options of `diffusion-transformer`; the defaults are the quick preset's."""

    steps: int = Option(default=4000, ge=1, description="training steps")
    batch: int = Option(default=32, ge=1, description="fresh simulations a training step")
    copies: int | None = Option(
        default=None,
        ge=1,
        le=4096,
        description="noisy copies of a simulation in a step; by default 1 with a latent field, else 32",
    )
    width: int = Option(default=64, ge=8, multiple_of=8, description="width of a token")
    depth: int = Option(default=4, ge=1, description="transformer blocks")
    heads: int = Option(default=4, ge=1, description="attention heads; must divide the width")
    patch: int = Option(default=4, ge=1, description="pixels a side of a field's patch, at most")
    rate: float = Option(
        default=1e-3, gt=0, le=1, description="learning rate of AdamW; Muon's is ten times it"
    )
    ema: float = Option(default=0.998, ge=0, lt=1, description="decay of the averaged weights")
    guide_simulations: int = Option(
        default=8192, ge=64, description="simulations that fit the Gaussian guide"
    )
    guide_nodes: int = Option(
        default=64, ge=16, description="parameter nodes of the Gaussian guide, a power of two"
    )
    evaluations: int | None = Option(
        default=None,
        ge=2,
        le=1000,
        description="network evaluations a draw; about two for each factor e of noise where left out",
    )
    sigma_max: float = Option(
        default=150.0, gt=1, description="first noise level, in prior standard deviations"
    )
    sigma_min: float | None = Option(
        default=None,
        gt=0,
        lt=1,
        description="last noise level, in prior standard deviations; a fifth of the narrowest posterior's "
        "where left out",
    )
