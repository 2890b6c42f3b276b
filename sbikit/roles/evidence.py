"""What a validator judges: draws, the truths that they should cover, and what gives scales to both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sbikit.problem.errors import SpecError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.stored_draws import draw_block, draw_blocks
from sbikit.roles.variation import Constant, Judged, constants


@dataclass(frozen=True)
class ComparisonBlock:
    """Draws of both samplers for some observations.

    Args:
        rows: their numbers in the comparison.
        exact: draws of the exact sampler, each (2 n, r, *shape).
        draws: the judged draws, each (n, r, *shape).
    """

    rows: range
    exact: Values
    draws: Values


@dataclass(frozen=True)
class Comparison:
    """Draws of an exact sampler, and as many of the judged one as half of them.

    The exact sampler's first and second half are independent of each other, so what they differ by is what
    the judged draws would differ by if they were exact.

    Args:
        name: the exact sampler's name.
        rows: (R,) which of the held-out observations; only those whose draws can be trusted.
        exact: its draws of the latents, each (2 n, R, *shape).
        draws: the judged draws of the latents, each (n, R, *shape).

    In a run both lie on the disk: `blocks` reads them some observations at a time.
    """

    name: str
    rows: tuple[int, ...]
    exact: Values
    draws: Values

    def blocks(self) -> Iterator[ComparisonBlock]:
        """The draws of both, a block of observations after the other, in order."""
        names = list(self.draws)
        for rows, exact in draw_blocks(self.exact, names):
            yield ComparisonBlock(rows, exact, draw_block(self.draws, names, rows.start, rows.stop))


@dataclass(frozen=True)
class Block:
    """Evidence about some of the observations.

    Args:
        rows: their numbers.
        truth: their latents, each (b, *shape).
        observation: their data, each (b, *shape).
        draws: their posterior draws, each (n, b, *shape).
    """

    rows: range
    truth: Values
    observation: Values
    draws: Values


@dataclass(frozen=True)
class Evidence:
    """What a validator judges.

    In a run the draws lie on the disk. `blocks` reads them some observations at a time; `draws[name]` reads
    all draws of a variable at once, which is for variables that fit into memory.

    Args:
        spec: the problem that was inferred.
        truth: held-out latents, each (B, *shape).
        observation: their data, each (B, *shape).
        draws: posterior draws of the latents, each (n, B, *shape).
        training: M draws of all variables from the training stream, each (M, *shape): they
            alone may fix scales and centres, so that nothing is tuned on the truths.
        comparison: draws of an exact sampler for some observations; None where none was asked for.
        judged: what is known to vary of the latents; where left out, all draws are looked at for that.

    Raises:
        SpecError: truths or draws of a scalar or a channel are constants; see `judgeable`.
    """

    spec: Spec
    truth: Values
    observation: Values
    draws: Values
    training: Values
    comparison: Comparison | None = None
    judged: Judged | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.judged is not None:
            return
        exact = {} if self.comparison is None else self.comparison.exact
        for part in constants(self.spec, self.truth, self.draws, exact):
            raise SpecError(
                f"There is no variation in {part.name!r}.",
                where="evidence",
                expected="truths and draws that vary",
                got=part.words,
                fix="judge the rest: Evidence.judgeable leaves out what is constant",
            )

    def blocks(self) -> Iterator[Block]:
        """All of it, a block of observations after the other, in order.

        What a validator finds must not depend on where a block ends: it takes a few numbers an observation
        from each, and judges these once it has them all.
        """
        for rows, draws in draw_blocks(self.draws, [v.name for v in self.spec.latents]):
            truth, observation = (
                {name: value[rows.start : rows.stop] for name, value in values.items()}
                for values in (self.truth, self.observation)
            )
            yield Block(rows, truth, observation, draws)

    @staticmethod
    def judgeable(
        *,
        spec: Spec,
        truth: Values,
        observation: Values,
        draws: Values,
        training: Values,
        comparison: Comparison | None = None,
    ) -> tuple[Evidence | None, tuple[Constant, ...]]:
        """Evidence without the scalars and channels that are constants, and these; None where all are."""
        exact = {} if comparison is None else comparison.exact
        left_out = tuple(constants(spec, truth, draws, exact))
        judged = Judged.of(spec, left_out)
        if judged is None:
            return None, left_out
        return Evidence.of(
            judged,
            truth=truth,
            observation=observation,
            draws=draws,
            training=training,
            comparison=comparison,
        ), left_out

    @staticmethod
    def of(
        judged: Judged,
        *,
        truth: Values,
        observation: Values,
        draws: Values,
        training: Values,
        comparison: Comparison | None = None,
    ) -> Evidence:
        """Evidence about the part of a problem that is known to vary."""
        if comparison is not None:
            drawn = judged.select(comparison.draws)
            comparison = replace(comparison, exact=judged.select(comparison.exact), draws=drawn)
        values = (judged.select(truth), observation, judged.select(draws), judged.select(training))
        return Evidence(judged.spec, *values, comparison, judged)
