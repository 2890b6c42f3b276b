"""Errors a user can mend, each with where, what was expected, what was found and the fix.

    SbikitError                 exit status 2, no traceback
    ├── OptionError             an option or a configuration file
    ├── PluginError             a plug-in that is unknown, broken, clashing or lacks its extra
    ├── SpecError               variables that do not fit together
    ├── UnsupportedError        a plug-in is asked for what it cannot do
    ├── SimulationError         a simulator raised, or returned the wrong shape or NaN
    ├── RunFolderError          a run folder that is damaged or belongs to another configuration
    ├── StoreError              kept simulations that are damaged or made by something else
    ├── CheckpointError         weights that cannot be read
    ├── TrainingError           a training that diverges
    ├── ObservationError        an observation that does not fit the simulator
    └── DeviceError             a device that this machine lacks

Anything else that escapes is a defect of sbikit or of a plug-in, exit status 1.
"""

from __future__ import annotations


class SbikitError(Exception):
    """A mistake that the user can mend.

    Args:
        message: what is wrong, one sentence.
        where: the file, option, draw or variable at fault.
        expected: what would have been right.
        got: what was found.
        fix: what to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        expected: str = "",
        got: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.expected = expected
        self.got = got
        self.fix = fix

    def __str__(self) -> str:
        rows = (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("fix", self.fix),
        )
        return "\n".join([self.message, *(f"  {key + ':':<10}{text}" for key, text in rows if text)])


class OptionError(SbikitError):
    """An option is unknown, of the wrong type or out of range."""


class PluginError(SbikitError):
    """A plug-in is unknown, broken, clashing with another, or lacks its extra."""


class SpecError(SbikitError):
    """Variables do not fit together."""


class UnsupportedError(SbikitError):
    """A plug-in is asked for what it cannot do."""


class SimulationError(SbikitError):
    """A simulator raised, or returned the wrong shape or a value that is not finite."""


class RunFolderError(SbikitError):
    """A run folder is damaged or belongs to another configuration."""


class StoreError(SbikitError):
    """Kept simulations are damaged, in use, or made by something else."""


class CheckpointError(SbikitError):
    """Weights cannot be read."""


class TrainingError(SbikitError):
    """A training diverges."""


class ObservationError(SbikitError):
    """An observation does not fit the simulator."""


class DeviceError(SbikitError):
    """The device asked for is not there."""
