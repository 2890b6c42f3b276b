"""An epidemic in a small town, for sbikit."""

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    """The simulator."""
    return [
        Offer("epidemic", "sbikit_epidemic.simulator:Epidemic", "an epidemic of which few cases are reported")
    ]
