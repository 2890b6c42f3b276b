"""Options of the estimator `npe`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Option

from sbikit import Options


class NPEOptions(Options):
    """Options of `NPE`."""

    simulations: int | None = Option(
        default=None,
        ge=100,
        le=10_000_000,
        description="draws of an endless stream, held in memory, by default 20,000; of kept simulations at "
        "most so many, by default all",
    )
    validation_fraction: float = Option(
        default=0.1,
        ge=0.01,
        le=0.5,
        description="part of the draws that decides when to stop; of fewer than 1,000 draws "
        "more, up to a fifth, and of kept simulations never more than 4,096",
    )
    steps: int = Option(default=5000, ge=1, le=100_000_000, description="training steps, at most")
    validate_every: int = Option(
        default=50, ge=1, le=1_000_000, description="steps between two looks at the validation loss"
    )
    patience: int = Option(
        default=8,
        ge=1,
        le=10_000,
        description="looks without a better validation loss after which the learning rate falls, or, when it "
        "has fallen three times, training ends",
    )
    batch: int = Option(default=128, ge=1, le=65_536, description="draws a step")
    learning_rate: float = Option(default=1e-3, gt=0, le=1, description="of AdamW, falling to zero")
    weight_decay: float = Option(default=1e-3, ge=0, le=1, description="of AdamW")
    method: Literal["npe", "fmpe", "npse"] = Option(
        default="npe",
        description="npe learns a spline flow by its likelihood; fmpe a vector field by flow matching; npse "
        "one by score matching",
    )
    transforms: int = Option(default=4, ge=1, le=64, description="spline transforms of the flow")
    bins: int = Option(default=8, ge=2, le=64, description="bins of each spline")
    hidden: int = Option(default=64, ge=1, le=4096, description="width of the flow's nets")
    layers: int = Option(default=2, ge=1, le=16, description="depth of the flow's nets")
    field_width: int = Option(
        default=128, ge=1, le=4096, description="width of the network of a vector field (fmpe, npse)"
    )
    field_layers: int = Option(default=4, ge=1, le=32, description="depth of it")
    solver_steps: int = Option(
        default=64, ge=2, le=1000, description="steps from noise to a draw (fmpe, npse), two evaluations each"
    )
    channels: int = Option(default=16, ge=1, le=1024, description="channels of the convolutions")
    context: int = Option(default=64, ge=1, le=4096, description="numbers the data are compressed to")
