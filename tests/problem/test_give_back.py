"""Memory that was freed goes back to the system where the allocator would keep it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from sbikit.problem import memory

# Large pieces that come and go between small ones that stay, as blocks of draws do between their figures.
CODE = """
import ctypes, sys
from sbikit.problem.memory import give_back
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
pieces = []
for _ in range(1000):
    pieces.append(c.malloc(100_000))
    c.memset(pieces[-1], 1, 100_000)
    c.malloc(64)
for piece in pieces:
    c.free(piece)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of the GNU C library")
def test_what_the_allocator_keeps_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000  # of 100 MB


def test_the_peak_is_of_this_program_alone() -> None:
    """A program that holds 300 MB starts another, which holds next to nothing."""
    code = (
        "import subprocess, sys\n"
        "held = b'x' * 300_000_000\n"
        "inner = 'import runpy, sys; m = runpy.run_path(sys.argv[1]); print(m[\"peak_bytes\"]())'\n"
        "subprocess.run([sys.executable, '-c', inner, sys.argv[1]], check=True)\n"
    )
    words = [sys.executable, "-c", code, memory.__file__]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert 1e6 < int(found) < 300e6
