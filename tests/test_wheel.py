"""What is installed holds every file of the packages, whatever the rules for ignored files say."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = {"__pycache__"}


def test_the_wheel_holds_every_file_of_the_packages() -> None:
    """hatchling leaves out what .gitignore names, tracked or not: `runs/` hid a room of that name."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(ROOT))
    packed = {file.distribution_path for file in builder.recurse_included_files()}
    there = {
        path.relative_to(top).as_posix()
        for top in (ROOT, ROOT / "plugins")
        for package in builder.config.packages
        if (ROOT / package).parent == top
        for path in (ROOT / package).rglob("*")
        if path.is_file() and GENERATED.isdisjoint(path.parts)
    }
    assert there - packed == set()
    assert "sbikit/runs/presets/quick.yaml" in packed
