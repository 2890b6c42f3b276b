"""What differs between two trees of plain values, key by key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ABSENT = object()
_THERE, _ASKED = "there", "asked for"


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    path: str = "",
    *,
    words: tuple[str, str] = (_THERE, _ASKED),
) -> list[str]:
    """What differs between two trees: "simulator.size: 32 there, 64 asked for"."""
    out: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        here = f"{path}{key}"
        there, asked = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(there, Mapping) and isinstance(asked, Mapping):
            out += differences(there, asked, here + ".", words=words)
        elif isinstance(there, list) and isinstance(asked, list):
            out += differences(_numbered(there), _numbered(asked), here + ".", words=words)
        elif there != asked:
            out.append(f"{here}: {_brief(there)} {words[0]}, {_brief(asked)} {words[1]}")
    return out


def _numbered(items: list[Any]) -> dict[str, Any]:
    return {str(index): item for index, item in enumerate(items)}


def _brief(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    return str(value.get("name", value)) if isinstance(value, Mapping) else json.dumps(value)
