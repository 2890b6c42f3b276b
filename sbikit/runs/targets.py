"""Where draws for new data may go: never over anything but a former file of the same kind."""

from __future__ import annotations

import os
from pathlib import Path

from sbikit.problem.errors import ObservationError, OptionError, RunFolderError
from sbikit.runs.inspection import FILES, FOLDERS
from sbikit.storage.read import sampler_of


def checked_target(target: Path, observation: Path) -> None:
    """Refuse a file that draws for new data must not be written to.

    Args:
        target: the file.
        observation: the file with the new data.

    Raises:
        OptionError: its folder is not there; it is one of a run folder's own; or there is something that
            `sbikit sample --observation` did not write.
        ObservationError: it is the observation itself.
    """
    if not target.parent.is_dir():
        raise _refusal(target, "Its folder is not there.", "a file in a folder that exists")
    _refuse_own(target)
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_file():
        raise _refusal(target, "It is a link, a folder or a device.", "a new file")
    if observation.exists() and os.path.samefile(target, observation):
        raise ObservationError(
            "The draws would overwrite the observation.", where=str(target), fix="choose another --out"
        )
    try:
        drawn = bool(sampler_of(target))
    except RunFolderError:
        drawn = False
    if not drawn:
        expected = "a new file, or one that `sbikit sample --observation` wrote"
        raise _refusal(target, "It holds something else, and nothing was changed.", expected)


def _refuse_own(target: Path) -> None:
    """Refuse a file or a folder that a run folder, this one or any other, keeps itself."""
    whole = target.parent.resolve() / target.name
    for folder in whole.parents:
        inside = whole.relative_to(folder).parts
        own = inside == (inside[0],) and inside[0] in FILES
        if (folder / "run.yaml").is_file() and (own or inside[0] in FOLDERS):
            raise _refusal(target, f"{inside[0]} is the run folder's own.", "another name, or another folder")


def _refusal(target: Path, why: str, expected: str) -> OptionError:
    return OptionError(
        f"The draws cannot be written there. {why}",
        where=f"--out {target}",
        expected=expected,
        fix="choose another --out",
    )
