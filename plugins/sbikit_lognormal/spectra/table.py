"""The table of the matter power emulator: what `sbikit_lognormal.build` fits, and how it is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sbikit import CheckpointError
from sbikit.storage import replacing
from sbikit_lognormal.spectra.grid import ELL, Z
from sbikit_lognormal.spectra.process import Fit

QUANTITIES = ("nonlinear", "linear", "feedback")
"""What is emulated: log of the two matter powers, and log of the ratio that feedback makes."""

BUILD = "python -m sbikit_lognormal.build table"
"""The command that remakes the table."""

TABLE = files("sbikit_lognormal") / "tables" / "matter.npz"
"""The table that ships."""

_FORMAT = 3  # of the file; a reader takes its own only


@dataclass(frozen=True)
class MatterTable:
    """All fits, by quantity, and how they were made."""

    fits: dict[str, Fit]
    provenance: dict[str, str]

    def save(self, path: Path) -> None:
        """Write an .npz file; the file appears only when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"format": _FORMAT, "provenance": self.provenance}
        arrays = {
            f"{name}.{field}": array
            for name, fit in self.fits.items()
            for field, array in fit._asdict().items()
        }
        with replacing(path) as partial:
            np.savez_compressed(partial, header=np.array(json.dumps(header)), z=Z, ell=ELL, **arrays)

    @classmethod
    def load(cls, path: Path) -> MatterTable:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is damaged, of another format or of another grid.
        """
        try:
            return cls._read(path)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                "The table of the matter power emulator cannot be read.",
                where=str(path),
                expected=f"an .npz table of format {_FORMAT} on the grid of this version",
                got=f"{type(error).__name__}: {error}",
                fix=f"reinstall sbikit, or remake it: {BUILD}",
            ) from error

    @classmethod
    def _read(cls, path: Path) -> MatterTable:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']}")
            for name, grid in (("z", Z), ("ell", ELL)):
                if file[name].shape != grid.shape or not np.allclose(file[name], grid, rtol=1e-12):
                    raise ValueError(f"another grid of {name}")
            fits = {
                name: Fit(*(file[f"{name}.{field}"].astype(np.float64) for field in Fit._fields))
                for name in QUANTITIES
            }
            return cls(fits, header["provenance"])


@cache
def shipped_table() -> MatterTable:
    """The table of this package, read once.

    Raises:
        CheckpointError: it cannot be read.
    """
    with as_file(TABLE) as path:
        return MatterTable.load(path)
