"""How threads wait is set before torch is loaded, and never against the user."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
TELL = (
    "import json, os, sys, sbikit\n"
    f"print(json.dumps([{{n: os.environ[n] for n in {CHOICES} if n in os.environ}}, 'torch' in sys.modules]))"
)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, {"OMP_WAIT_POLICY": "PASSIVE"}), *(({name: "1"}, {name: "1"}) for name in CHOICES)],
)
def test_waiting_threads_sleep_unless_the_user_chose(
    chosen: dict[str, str], expected: dict[str, str]
) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in CHOICES}
    ran = subprocess.run(
        [sys.executable, "-c", TELL], env={**bare, **chosen}, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == [expected, False]
