"""Sphinx configuration; the page of the command line is written from the commands themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import sbikit

project = "sbikit"
author = "The sbikit developers"
release = sbikit.__version__
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False}
exclude_patterns = ["_build", "results/*.jsonl"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["config.cache", "ref.python"]

COMMANDS = (
    (),
    ("run",),
    ("init",),
    ("simulate",),
    ("fit",),
    ("sample",),
    ("validate",),
    ("report",),
    ("plugins",),
    ("plugins", "show"),
    ("plugins", "check"),
    ("plugins", "new"),
    ("config", "show"),
    ("config", "schema"),
)


def write_cli_page(path: Path) -> None:
    """One section a command, holding what `--help` prints."""
    parts = ["# The command line\n\nWhat `--help` prints, written when these pages are built.\n"]
    for command in COMMANDS:
        shown = subprocess.run(
            [sys.executable, "-m", "sbikit", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PATH": ""},
        ).stdout
        lines = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
        parts.append(f"## `{' '.join(('sbikit', *command))}`\n\n```text\n{lines}\n```\n")
    path.write_text("\n".join(parts))


write_cli_page(Path(__file__).parent / "cli.md")


def as_text(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: shapes such as (*n, B) and bars such as |z| are no markup."""
    lines[:] = [re.sub(r"([*|])", r"\\\1", line) for line in lines]


def setup(app: Any) -> None:
    """Connect the above, before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", as_text, priority=100)
