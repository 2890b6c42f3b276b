"""What is asked of the posterior of new data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sbikit.roles.sampler import Sampler
    from sbikit.roles.trust import Trust
    from sbikit.runs.job import Run


@dataclass(frozen=True)
class NewData:
    """Draws for an observation of a user's own.

    Args:
        file: that holds it.
        draws: how many.
        out: where they go; OBSERVATION-NAME.nc where left out.
        given: names of latents that the file holds, too.
    """

    file: Path
    draws: int
    out: Path | None = None
    given: str | None = None

    def target(self, folder: Path, name: str) -> Path:
        """Where draws go.

        Args:
            folder: where, if nothing else is said.
            name: of what draws.

        Raises:
            OptionError: that is the observation itself, or cannot be written.
        """
        from sbikit.runs.targets import checked_target

        target = self.out or folder / f"{self.file.stem}-{name}.nc"
        checked_target(target, self.file)
        return target

    def sample(self, job: Run, sampler: Sampler, name: str, target: Path) -> tuple[Trust, ...]:
        """Draw them, see `sbikit.runs.new_data.sample_observation`."""
        from sbikit.runs.new_data import sample_observation

        return sample_observation(
            job, sampler, name=name, file=self.file, draws=self.draws, out=target, given=self.given
        )
