"""Counts of clusters of galaxies, for sbikit."""

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    """The dear simulator and the cheap one."""
    return [
        Offer("clusters", "sbikit_clusters.simulator:Clusters", "clusters one by one, of uncertain mass"),
        Offer(
            "clusters-cheap",
            "sbikit_clusters.simulator:CheapClusters",
            "numbers of clusters as if their masses were known",
        ),
    ]
