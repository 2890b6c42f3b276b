"""Draws as other libraries take them, and as pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sbikit.pages.figures.contours import corner_plot
from sbikit.pages.figures.labels import math_label
from sbikit.pages.figures.lines import field_line
from sbikit.pages.figures.maps import field_maps
from sbikit.pages.figures.shown_field import FieldSummary, ShownField
from sbikit.pages.figures.style import WIDE, png
from sbikit.problem.bounds import Bounds
from sbikit.problem.errors import OptionError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Values, Variable, Vector
from sbikit.roles.sampler import Draws
from sbikit.storage.write import new_draws, write_new_draws

if TYPE_CHECKING:
    from getdist import MCSamples
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PosteriorDraws(Draws):
    """Draws, with what is known of their variables and of the data.

    Args:
        values: the latents, each (n, B, *shape).
        trust: one an observation.
        spec: their problem.
        observation: the data, each (B, *shape).
        bounds: latent vector -> lowest and highest value of each of its scalars, infinite where none.
        summaries: fields and vectors that summarise the data, each (B, *shape).
        summarised: their variables.
        sampler: name of what drew them.
        single: whether they are of one observation that was given without an axis for it.
    """

    spec: Spec
    observation: Values
    bounds: Mapping[str, Bounds]
    summaries: Values = field(default_factory=dict)
    summarised: tuple[Variable, ...] = ()
    sampler: str = ""
    single: bool = False

    def __repr__(self) -> str:
        names = ", ".join(f"{v.name} {v.shape}" for v in self.spec.latents)
        many = "one observation" if len(self) == 1 else f"{len(self)} observations"
        bad = sum(not one.trustworthy for one in self.trust)
        doubt = f"; not to be trusted for {bad} of them: see .trust" if bad else ""
        return f"{self.count:,} draws of {names} for {many}{doubt}"

    def to_numpy(self) -> dict[str, NDArray[np.float32]]:
        """Each variable as an array: (n, *shape) of one observation that was given without an axis for it,
        else (n, B, *shape).
        """
        return {name: (value[:, 0] if self.single else value).numpy() for name, value in self.values.items()}

    def to_arviz(self) -> xr.DataTree:
        """Groups `posterior` (chain, draw, *variable), of several observations (chain, draw, observation,
        *variable), `observed_data` and, where there are any, `summaries`, as ArviZ takes them and
        `sbikit sample --observation` writes them.
        """
        return new_draws(
            spec=self.spec,
            draws=self,
            observed=self.observation,
            summaries=self.summaries,
            summarised=self.summarised,
            sampler=self.sampler,
            bounds=self.bounds,
            single=self.single,
        )

    def to_getdist(self, observation: int = 0) -> MCSamples:
        """The parameters, all latent vectors, as samples of GetDist, with their LaTeX and the ranges of their
        prior.

        Args:
            observation: of which observation.

        Raises:
            OptionError: there is no such observation, or no parameter.
            ModuleNotFoundError: getdist is not installed: `pip install 'sbikit[getdist]'`.
        """
        vectors = self._vectors()
        try:
            from getdist import MCSamples
        except ModuleNotFoundError as error:
            error.add_note("pip install 'sbikit[getdist]'")
            raise
        labels = [label for vector in vectors for label in vector.labels]
        ends = [pair for vector in vectors for pair in self.bounds[vector.name]]
        finite = {
            label: [low if np.isfinite(low) else None, high if np.isfinite(high) else None]
            for label, (low, high) in zip(labels, ends, strict=True)
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how many rows it has left out: none
            return MCSamples(
                samples=self._columns(self.values, vectors, observation),
                names=labels,
                labels=[one for vector in vectors for one in vector.latex],
                ranges=finite,
                label=self.sampler or None,
                sampler="uncorrelated",
            )

    def to_netcdf(self, path: str | Path) -> Path:
        """Write the draws as `sbikit sample --observation` does.

        Args:
            path: the file; one that is there is replaced.

        Returns:
            The file.
        """
        write_new_draws(Path(path), self.to_arviz())
        return Path(path)

    def plot(
        self,
        variable: str | None = None,
        *,
        observation: int = 0,
        channel: int = 0,
        truth: Mapping[str, Any] | None = None,
    ) -> Figure:
        """A picture, as the report page has it: of parameters a corner plot, of a field its maps or its line.

        Args:
            variable: a latent's name; all latent vectors together where left out, or the first field where
                there is none.
            observation: of which observation.
            channel: of a field.
            truth: variable -> values, (*shape), where known.

        Returns:
            A figure, which a notebook shows; `figure.savefig(path)` keeps it.

        Raises:
            OptionError: there is no such variable, observation or channel.
        """
        self._check(observation)
        chosen = self._chosen(variable)
        known = {name: np.asarray(value, dtype=np.float32) for name, value in (truth or {}).items()}
        if isinstance(chosen, Field):
            return _shown(self._field(chosen, observation, channel, known.get(chosen.name)))
        labels = [
            math_label(*one) for vector in chosen for one in zip(vector.latex, vector.labels, strict=True)
        ]
        there = all(vector.name in known for vector in chosen)
        figure = corner_plot(
            labels,
            self._columns(self.values, chosen, observation),
            np.concatenate([known[vector.name].ravel() for vector in chosen]) if there else None,
            None,
            WIDE,
            bounds=tuple(pair for vector in chosen for pair in self.bounds[vector.name]),
        )
        return _shown(figure)

    def _field(self, one: Field, observation: int, channel: int, truth: NDArray[np.float32] | None) -> Figure:
        if not 0 <= channel < one.channels:
            raise OptionError(
                f"The field {one.name!r} has no channel {channel}.",
                where="channel",
                expected=f"0 to {one.channels - 1}",
                got=str(channel),
            )
        beside = [s for s in self.summarised if isinstance(s, Field) and s.estimates == one.name]
        shown = ShownField(
            one,
            channel,
            draws=self.values[one.name][:, observation, channel].numpy(),
            truth=None if truth is None else truth.reshape(one.shape)[channel],
            summaries=tuple(
                FieldSummary(
                    math_label(s.latex, s.name), self.summaries[s.name][observation, channel].numpy()
                )
                for s in beside
                if s.shape == one.shape
            ),
        )
        return (field_line if len(one.grid) == 1 else field_maps)(shown, WIDE)

    def _chosen(self, name: str | None) -> Field | Sequence[Vector]:
        found: dict[str, Variable] = {v.name: v for v in self.spec.latents}
        if name is None:
            return self.spec.vectors or self.spec.fields[0]
        if name not in found:
            raise OptionError(
                f"There is no variable {name!r} among the draws.",
                where="variable",
                expected=", ".join(found),
                got=name,
            )
        one = found[name]
        return one if isinstance(one, Field) else [one]

    def _vectors(self) -> Sequence[Vector]:
        if not self.spec.vectors:
            raise OptionError(
                "There are no parameters among the draws.",
                where="to_getdist",
                expected="a latent vector",
                got=", ".join(v.name for v in self.spec.latents),
            )
        return self.spec.vectors

    def _check(self, observation: int) -> None:
        if not 0 <= observation < len(self):
            raise OptionError(
                f"There are no draws for observation {observation}.",
                where="observation",
                expected=f"0 to {len(self) - 1}",
                got=str(observation),
            )

    def _columns(self, values: Values, vectors: Iterable[Vector], observation: int) -> NDArray[np.float64]:
        self._check(observation)
        rows = torch.cat([values[vector.name][:, observation] for vector in vectors], dim=-1)
        return rows.double().numpy()


def _shown(figure: Figure) -> Figure:
    """The figure, which a notebook shows though it is none of pyplot's."""
    figure._repr_png_ = lambda: png(figure, WIDE)  # type: ignore[attr-defined]
    return figure
