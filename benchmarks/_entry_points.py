"""Plug-ins of a benchmark, found by the same entry points as anybody's."""

from __future__ import annotations

import sys
from pathlib import Path

from sbikit.plugins.installed import catalogue


def install(folder: Path, name: str, hooks: str) -> None:
    """Let sbikit find the plug-ins that a module offers, by a distribution in `folder`.

    Args:
        folder: where modules are looked for from now on.
        name: of the entry point; the module is `sbikit_NAME`.
        hooks: text of the module.
    """
    info = folder / f"sbikit_{name}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sbikit-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sbikit]\n{name} = sbikit_{name}\n")
    (folder / f"sbikit_{name}.py").write_text(hooks)
    sys.path.insert(0, str(folder))
    catalogue.cache_clear()
