"""Options of the log-normal simulator that several test files need."""

from __future__ import annotations

from typing import Any

NO_MARGINAL: list[tuple[dict[str, Any], str]] = [
    ({"field": "lognormal"}, "field: lognormal"),
    ({"padding": 2}, "padding: 2"),
    ({"mask": {"density": 2.0, "radius": 8.0}}, "a mask"),
    ({"depth": {"scatter": 0.2}, "padding": 2}, "padding: 2, a varying depth"),
]
"""Where maps cannot be integrated out, and how the refusal names it."""
