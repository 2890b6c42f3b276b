"""Draws of an endless stream that failed and were left out: how many, which, where and why.

A draw counts once, however often it is asked for, so the record of a run is the same wherever it was
interrupted, and for any number of workers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sbikit.problem.errors import OptionError, SimulationError
from sbikit.simulations.attempts import too_many
from sbikit.storage.files import append_text, json_line, read_json_lines

_MOST_RECORDS = 10_000  # failures of which the particulars are kept; all of them are counted
_MOST_SHARE = 0.9


@dataclass(frozen=True)
class LeftOutDraw:
    """One attempt at a draw that failed.

    Args:
        stream: name of the stream.
        draw: number of the draw.
        attempt: which attempt at it.
        parameters: name -> value.
        kind: what happened: "not finite", "raised" or "timeout".
        words: the same with the particulars.
    """

    stream: str
    draw: int
    attempt: int
    parameters: Mapping[str, float]
    kind: str
    words: str

    def in_words(self) -> str:
        """The draw, its parameters and why it failed."""
        values = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"draw {self.draw} of the {self.stream} stream ({values}): {self.words}"


class LeftOut:
    """The record of what was left out.

    Args:
        most: the largest share of all attempts that may fail; 0: none may.
        path: a file that the record is written to as it grows, one JSON object a line; what it holds of an
            interrupted run counts. None: nowhere.

    Attributes:
        records: the first failures, in the order in which they were asked for.
        tried: how many attempts were made.
        kinds: kind of failure -> how many.

    Raises:
        OptionError: `most` is no share.
    """

    def __init__(self, most: float = 0.1, path: Path | None = None) -> None:
        if not 0.0 <= most <= _MOST_SHARE:
            raise OptionError(
                "The share of draws that may fail is out of range.",
                where="max_failures",
                expected=f"0 to {_MOST_SHARE}",
                got=str(most),
            )
        self.most, self._path = most, path
        self.records: list[LeftOutDraw] = []
        self.tried = 0
        self.kinds: Counter[str] = Counter()
        self._drawn: dict[str, Ranges] = {}
        if path is not None:
            self._read(path)

    @property
    def failed(self) -> int:
        """How many attempts failed."""
        return self.kinds.total()

    def add(self, stream: str, first: int, tried: Sequence[int], failures: Sequence[LeftOutDraw]) -> None:
        """Note draws that are good at last.

        Args:
            stream: name of the stream.
            first: number of the first draw.
            tried: how many attempts each took, (n,).
            failures: the attempts that failed.
        """
        new = self._drawn.setdefault(stream, Ranges()).add(first, first + len(tried))
        self.tried += sum(sum(tried[start - first : end - first]) for start, end in new)
        fresh = [one for one in failures if any(start <= one.draw < end for start, end in new)]
        kept = fresh[: max(0, _MOST_RECORDS - len(self.records))]
        self.records += kept
        self.kinds.update(one.kind for one in fresh)
        if fresh:
            self._append(kept)

    def flush(self) -> None:
        """Write down how many draws were tried; failures are written as they come."""
        if self.failed:
            self._append([])

    def check(self, method: str, tried: int = 0, failures: Sequence[LeftOutDraw] = ()) -> None:
        """Refuse to go on where too many fail.

        Args:
            method: that simulates, for the message, see `method_of`.
            tried, failures: attempts that are yet to be added.

        Raises:
            SimulationError: with how many failed, why, and an example.
        """
        failed, all_tried = self.failed + len(failures), self.tried + tried
        if not too_many(failed, all_tried, self.most):
            return
        kinds = self.kinds + Counter(one.kind for one in failures)
        examples = [*failures, *self.records][-1:]
        raise SimulationError(
            f"{method} fails in {failed} of {all_tried} draws ({100.0 * failed / all_tried:.3g} %).",
            where="; ".join(one.in_words() for one in examples),
            expected=f"at most {100.0 * self.most:g} % (simulations.max_failures), but for chance",
            got=self.in_words(kinds),
            fix="mend the simulator there, narrow its prior, or allow more failures",
        )

    def in_words(self, kinds: Mapping[str, int] | None = None) -> str:
        """ "3 not finite, 1 timeout"; "none" where nothing failed."""
        found = self.kinds if kinds is None else kinds
        return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "none"

    def _append(self, kept: Sequence[LeftOutDraw]) -> None:
        if self._path is None:
            return
        state = {
            "tried": self.tried,
            "kinds": dict(self.kinds),
            "drawn": {stream: ranges.parts for stream, ranges in self._drawn.items()},
        }
        lines: list[Mapping[str, Any]] = [*({"left out": asdict(one)} for one in kept), state]
        append_text(self._path, "".join(json_line(line) for line in lines))

    def _read(self, path: Path) -> None:
        lines, _ = read_json_lines(path)
        waiting: list[LeftOutDraw] = []
        for line in lines:
            try:
                if "left out" in line:
                    waiting.append(LeftOutDraw(**line["left out"]))
                    continue
                self._restore(line)
            except (TypeError, KeyError, ValueError):
                continue
            self.records += waiting
            waiting = []

    def _restore(self, line: Mapping[str, Any]) -> None:
        tried, kinds = int(line["tried"]), Counter({str(k): int(n) for k, n in line["kinds"].items()})
        drawn = {
            str(stream): Ranges([(int(start), int(end)) for start, end in parts])
            for stream, parts in line["drawn"].items()
        }
        self.tried, self.kinds, self._drawn = tried, kinds, drawn


class Ranges:
    """Whole numbers, as ranges [start, end) in order that do not touch."""

    def __init__(self, parts: Sequence[tuple[int, int]] = ()) -> None:
        self.parts = list(parts)

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add a range; those parts of it that are new."""
        i = bisect_right(self.parts, start, key=lambda part: part[1] + 1)
        j = bisect_right(self.parts, end, key=lambda part: part[0])
        met = self.parts[i:j]
        new, at = [], start
        for low, high in met:
            if at < low:
                new.append((at, low))
            at = max(at, high)
        if at < end:
            new.append((at, end))
        low, high = (min(start, met[0][0]), max(end, met[-1][1])) if met else (start, end)
        self.parts[i:j] = [(low, high)]
        return new
