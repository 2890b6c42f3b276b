"""The plug-in keeps sbikit's contract."""

from sbikit.testing import check_simulator
from sbikit_counts.simulator import Counts


def test_contract() -> None:
    check_simulator(Counts())
