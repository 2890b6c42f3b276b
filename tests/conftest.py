"""Settings of all tests: one thread a process, since two processes share two cores; plug-ins of one test."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import toybox

from sbikit.plugins.installed import catalogue

torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder on sys.path to install distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    catalogue.cache_clear()
    before = set(sys.modules)
    yield folder
    catalogue.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def toys(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbikit-toybox` installed alone; what its parts do is written to TOY_TRACE.

    Its toy-agreement is what a reference brings along.
    """
    toybox.install_toys(site)
    toybox.keep_others_out(monkeypatch)
    monkeypatch.setenv("TOY_TRACE", str(site.parent / "trace"))
    for name in ("TOY_STOP", "TOY_CRASH"):
        monkeypatch.delenv(name, raising=False)
    return site
