"""What a result was made with: provenance.json."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

from sbikit.plugins.installed import catalogue
from sbikit.problem.memory import peak_bytes
from sbikit.runs.folder import RunFolder
from sbikit.runs.ledger import read_sealed_record
from sbikit.storage.files import read_json_lines, write_json
from sbikit.storage.seals import sealed

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pydantic",
    "pluggy",
    "safetensors",
    "xarray",
    "h5netcdf",
    "zarr",
    "distributed",
    "matplotlib",
    "corner",
    "sbi",
    "nutpie",
)


class Provenance:
    """Keeps provenance.json true while the stages of a run are worked on.

    Args:
        folder: the run folder.
        command: what the user typed.
        device: what networks run on.
    """

    def __init__(self, folder: RunFolder, command: str, device: str) -> None:
        self._folder = folder
        before = read_sealed_record(folder.provenance)
        self._content: dict[str, Any] = {
            "command": command,
            "started": before.get("started", _now()),
            "finished": None,
            "seed": folder.config.seed,
            "device": device,
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": versions(),
            "git": git_revision(Path(__file__).parent),
            "timings": before.get("timings", {}),
            "seconds_a_draw": before.get("seconds_a_draw"),
            "simulations": before.get("simulations"),
            "peak_memory_mb": before.get("peak_memory_mb", 0.0),
            "inferred": before.get("inferred"),
            "facts": before.get("facts", {}),
        }

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to the stage's seconds, whether or not it ends well."""
        began = monotonic()
        try:
            yield
        finally:
            timings = self._content["timings"]
            timings[stage] = round(timings.get(stage, 0.0) + monotonic() - began, 3)
            self._content["finished"] = _now()
            used = training_simulations(self._folder.training)
            self._content["simulations"] = self._content["simulations"] if used is None else used
            self._content["peak_memory_mb"] = max(
                self._content["peak_memory_mb"], round(peak_bytes() / 1e6, 1)
            )
            self.write()

    def noted(self, key: str) -> Any:
        """One entry, None where there is none."""
        return self._content.get(key)

    def note(self, key: str, value: Any) -> None:
        """Set one entry."""
        if self._content[key] != value:
            self._content[key] = value
            self.write()

    def write(self) -> None:
        """Write the file."""
        write_json(self._folder.provenance, sealed(self._content))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Version of sbikit, of every distribution that offers plug-ins, and of the libraries beneath."""
    names = {"sbikit", *(found.distribution for found in catalogue().found), *_PACKAGES}
    out = {}
    for name in sorted(names):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def git_revision(package: Path) -> str | None:
    """The commit of the checkout that `package` is in, "+" appended if it has changes; None if in none."""
    root = package.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def training_simulations(path: Path) -> int | None:
    """The largest "simulations" in a training.jsonl; None where none is given."""
    found = [record.get("simulations") for record in read_json_lines(path)[0]]
    counts = [count for count in found if isinstance(count, int | float)]
    return int(max(counts)) if counts else None
