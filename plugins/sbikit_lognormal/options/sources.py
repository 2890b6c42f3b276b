"""Options of the source galaxies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from sbikit import Options
from sbikit_lognormal.options.limits import HIGHEST_PLANE, LOWEST_PLANE, Z_MAX

Rows = Literal["points", "lower-edges", "centres"]
"""What the redshifts of a table's rows are."""


class SourceOptions(Options):
    """Smail's distribution in bins of equal number or with given edges, a table, or source planes."""

    alpha: float = pydantic.Field(default=2.0, ge=0.5, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    beta: float = pydantic.Field(default=0.68, ge=0.4, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    z0: float = pydantic.Field(default=0.11, ge=0.02, le=2.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    bins: int = pydantic.Field(
        default=1, ge=1, le=10, description="tomographic bins of equal number; one bin holds all galaxies"
    )
    edges: tuple[Annotated[float, pydantic.Field(ge=0.0, le=Z_MAX)], ...] | None = pydantic.Field(
        default=None, description="photometric redshifts that bound the bins, instead of `bins`"
    )
    photo_z: float = pydantic.Field(
        default=0.05, ge=0.005, le=0.5, description="photometric redshift scatter at z = 0; it grows as 1 + z"
    )
    table: Path | None = pydantic.Field(
        default=None,
        description="file of distributions, instead of all else: .npz with `z` (n_z,) and `n_z` (bins, n_z), "
        "or text with z in the first column and a column a bin; a lone row is a source plane",
    )
    rows: Rows = pydantic.Field(
        default="points",
        description="what the redshifts of the table are: points between which n(z) is straight, or "
        "the lower edges or the centres of bins of a histogram",
    )
    planes: tuple[Annotated[float, pydantic.Field(ge=LOWEST_PLANE, le=HIGHEST_PLANE)], ...] | None = (
        pydantic.Field(
            default=None,
            description="redshifts of source planes, a bin each, instead of all else: all galaxies of the "
            "bin are there",
        )
    )
