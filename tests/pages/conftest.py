"""A run of which every section is shown."""

from pathlib import Path

import matplotlib as mpl
import pytest
from example_run import agreement, problem, reports, spoil, write_example_run

from sbikit.pages import write_report


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Path and text of the report of a run with a failed check, a reference and a summary."""
    folder = write_example_run(
        tmp_path_factory.mktemp("full"), judged=spoil(reports(problem())), compared=(agreement(problem()),)
    )
    settings = dict(mpl.rcParams)
    path = write_report(folder)
    assert dict(mpl.rcParams) == settings
    return path, path.read_text(encoding="utf-8")
