"""The house: plug-ins and examples import public names of the core alone; every room says what it holds."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sbikit

ROOT = Path(__file__).parent.parent
ROOMS = (
    "problem",
    "roles",
    "storage",
    "workers",
    "fields",
    "simulations",
    "learning",
    "plugins",
    "testing",
    "pages",
    "runs",
    "cli",
    "interface",
)
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every `from sbikit... import name` in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sbikit":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("sbikit."))


@pytest.mark.parametrize("folder", [*PLUGINS, ROOT / "examples"], ids=lambda path: path.name)
def test_a_plugin_imports_public_names_alone(folder: Path) -> None:
    for file in folder.rglob("*.py"):
        for module, name in imported(file):
            public = importlib.import_module(module).__all__ if module.count(".") < 2 else ()
            assert name in public, f"{file.relative_to(ROOT)}: from {module} import {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_holds_and_has_what_it_names(room: str) -> None:
    module = importlib.import_module(f"sbikit.{room}")
    assert module.__doc__
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        _ = module.nothing_of_this_name


def test_all_rooms_are_here() -> None:
    found = {path.parent.name for path in (ROOT / "sbikit").glob("*/__init__.py")}
    assert found == set(ROOMS)
    assert {getattr(sbikit, name) is None for name in sbikit.__all__} == {False}
