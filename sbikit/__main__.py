"""`python -m sbikit` is `sbikit`."""

from __future__ import annotations

from sbikit.cli import main

main()
