"""Options of the estimator `diffusion-transformer`."""

from __future__ import annotations

from typing import Self

from pydantic import Field as Option
from pydantic import model_validator

from sbikit import OptionError, Options

_STEPS = 3000


class TransformerOptions(Options):
    """Options of `diffusion-transformer`; the defaults are the quick preset's."""

    steps: int | None = Option(
        default=None,
        ge=1,
        le=10**8,
        description="training steps; 3,000 where neither they nor minutes are given",
    )
    minutes: float | None = Option(
        default=None,
        gt=0,
        le=10**6,
        description="how long to train the networks, in place of steps, whose rate is then measured first",
    )
    batch: int = Option(default=32, ge=1, le=65_536, description="fresh simulations a training step")
    copies: int | None = Option(
        default=None,
        ge=1,
        le=4096,
        description="noisy copies of a simulation's parameters in a step; by default 8 beside a latent "
        "field, else 32",
    )
    width: int = Option(default=64, ge=8, le=8192, multiple_of=8, description="width of a token")
    depth: int = Option(default=4, ge=1, le=256, description="transformer blocks")
    heads: int = Option(default=4, ge=1, le=1024, description="attention heads; must divide the width")
    patch: int = Option(default=4, ge=1, le=256, description="pixels a side of a field's patch, at most")
    rate: float = Option(
        default=1e-3, gt=0, le=1, description="learning rate of AdamW; Muon's is ten times it"
    )
    ema: float = Option(default=0.998, ge=0, lt=1, description="decay of the averaged weights")
    guide_simulations: int = Option(
        default=8192, ge=64, le=10**7, description="simulations that fit the Gaussian guide"
    )
    law_simulations: int | None = Option(
        default=None,
        ge=64,
        le=10**8,
        description="simulations that teach what data tell of the parameters, before the networks are "
        "trained; 24 times those of the guide where left out",
    )
    guide_nodes: int = Option(
        default=64, ge=16, le=65_536, description="parameter nodes of the Gaussian guide, a power of two"
    )
    evaluations: int | None = Option(
        default=None,
        ge=2,
        le=10_000,
        description="network evaluations a draw, of parameters and of fields; where left out as few as draw "
        "like many",
    )
    sigma_max: float = Option(
        default=150.0,
        gt=1,
        description="first noise level, in prior standard deviations; of fields 5 to 150, unless it is lower",
    )
    sigma_min: float | None = Option(
        default=None,
        gt=0,
        lt=1,
        description="last noise level, in prior standard deviations; a fifth of the narrowest posterior's "
        "where left out",
    )

    validation_fraction: float | None = Option(
        default=None,
        ge=0.01,
        le=0.5,
        description="of kept simulations the part that decides when to stop; by default a tenth, of fewer "
        "than 1,000 more, up to a fifth, and never more than 1,024",
    )
    patience: int | None = Option(
        default=None,
        ge=1,
        le=10**6,
        description="looks, 100 steps apart, without a better validation loss after which training on kept "
        "simulations ends; by default 20",
    )
    weight_decay: float = Option(
        default=0.0, ge=0, le=100, description="of all weights, a unit of the learning rate of AdamW"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads or self.width // self.heads < 4:
            raise ValueError(
                f"heads ({self.heads}) must divide width ({self.width}), with 4 numbers or more for each"
            )
        if self.depth * self.width**2 > 10**9:
            raise ValueError(f"depth ({self.depth}) x width ({self.width})^2 must be at most 10^9")
        if self.guide_nodes & (self.guide_nodes - 1):
            raise ValueError(f"guide_nodes ({self.guide_nodes}) must be a power of two")
        if self.steps is not None and self.minutes is not None:
            raise OptionError(
                "The options steps and minutes exclude each other.",
                where="estimator.steps, estimator.minutes",
                expected="how many steps to train, or how long",
                got=f"{self.steps} steps and {self.minutes:g} minutes",
                fix="set one of them to null",
            )
        return self

    @property
    def fixed_steps(self) -> int | None:
        """Training steps; None where `minutes` says how long they take, and they are measured."""
        return None if self.minutes is not None else self.steps or _STEPS


def without_effect_on_vectors(options: TransformerOptions) -> tuple[str, ...]:
    """Which options are not at their defaults, and have no effect where neither a field nor a map is seen."""
    names = ("width", "depth", "heads", "patch", "law_simulations")
    plain = TransformerOptions()
    return tuple(name for name in names if getattr(options, name) != getattr(plain, name))


def refuse_options_of_a_fixed_set(options: TransformerOptions) -> None:
    """Refuse what has no effect on an endless stream.

    Raises:
        OptionError: such an option is given.
    """
    for name in ("validation_fraction", "patience"):
        if getattr(options, name) is not None:
            raise OptionError(
                f"The option {name} has no effect: every training simulation is a new one.",
                where=f"estimator.{name}",
                got=str(getattr(options, name)),
                fix="leave it out, or keep simulations and train on them",
            )
