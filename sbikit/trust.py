"""What a sampler says of its own draws, as plain values that JSON can hold, and in words.

One record an observation: the fields of its diagnostics, and `trustworthy`. A sampler that does not judge
its draws is trusted.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sbikit.errors import PluginError
from sbikit.interfaces import Sampler, SupportsDiagnostics

Record = dict[str, Any]


def trust_records(sampler: Sampler, count: int) -> list[Record]:
    """What a sampler says of its latest draws, one record for each of `count` observations.

    Raises:
        PluginError: it does not give one dataclass with a `trustworthy` for each of them.
    """
    if not isinstance(sampler, SupportsDiagnostics):
        return [{"trustworthy": True} for _ in range(count)]
    found = list(sampler.diagnostics)
    fitting = all(dataclasses.is_dataclass(one) and hasattr(one, "trustworthy") for one in found)
    if len(found) != count or not fitting:
        raise PluginError(
            f"The diagnostics of {type(sampler).__name__} cannot be read.",
            where=f"{type(sampler).__name__}.diagnostics",
            expected=f"{count} dataclasses with a `trustworthy`, one an observation",
            got=f"{len(found)} of {', '.join(sorted({type(one).__name__ for one in found})) or 'nothing'}",
            fix="report this to the author of the sampler",
        )
    return [_record(one) for one in found]


def _record(one: Any) -> Record:
    names = [field.name for field in dataclasses.fields(one)]
    plain = {name: _plain(getattr(one, name)) for name in names}
    return {**plain, "trustworthy": bool(one.trustworthy)}


def _plain(value: Any) -> Any:
    """Mappings, lists, numbers and text; null for numbers that JSON lacks."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def encode(records: Sequence[Record]) -> str:
    """Records as text."""
    return json.dumps(records, allow_nan=False)


def decode(text: str) -> list[Record]:
    """What `encode` wrote.

    Raises:
        ValueError: it is something else.
    """
    found = json.loads(text)
    whole = isinstance(found, list) and all(
        isinstance(one, dict) and isinstance(one.get("trustworthy"), bool) for one in found
    )
    if not whole:
        raise ValueError("no list of records with a `trustworthy`")
    return list(found)


def trusted(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """The observations whose draws may be called exact."""
    return [b for b, one in enumerate(records) if one["trustworthy"]]


# --- in words -------------------------------------------------------------------------------


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, neighbours together: "0-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def in_words(records: Sequence[Mapping[str, Any]]) -> str:
    """What records say, each number by its range over all of them."""
    names = dict.fromkeys(name for one in records for name in one if name != "trustworthy")
    told = ((name, _told([one[name] for one in records if name in one])) for name in names)
    return ", ".join(f"{name} {text}" for name, text in told if text)


def _told(values: Sequence[Any]) -> str:
    """One field over all records: a range, a count of what holds, or the texts; "" for what is not known."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return f"in {sum(known)} of {len(known)}"
    if known and all(isinstance(value, str) for value in known):
        return "; ".join(dict.fromkeys(filter(None, known)))
    leaves = [leaf for value in known for leaf in (value if isinstance(value, list | tuple) else [value])]
    numbers = [leaf for leaf in leaves if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
    missing = sum(leaf is None for leaf in leaves)
    words = [_range(min(numbers), max(numbers))] if numbers else []
    return " and ".join([*words, f"{missing} not finite"] if missing else words)


def _range(low: float, high: float) -> str:
    ends = [f"{low:.4g}", f"{high:.4g}"]
    return " to ".join(dict.fromkeys(ends))


def announcement(name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """At most two lines: for which observations the sampler `name` is no reference, and for which it is."""
    lines = []
    for judgement, rows in (
        ("not to be called exact", [b for b in range(len(records)) if not records[b]["trustworthy"]]),
        ("to be trusted", trusted(records)),
    ):
        which = f" ({spans(rows)})" if judgement.startswith("not") else ""
        why = in_words([records[b] for b in rows])
        head = f"{name}: {judgement} for {len(rows)} of {_observations(len(records))}{which}"
        lines += [f"{head}: {why}" if why else head] if rows else []
    return lines


def _observations(count: int) -> str:
    return f"{count} observation{'' if count == 1 else 's'}"


__all__ = ["Record", "announcement", "decode", "encode", "in_words", "spans", "trust_records", "trusted"]
