"""A cheap simulator and a dear one together: `python -m sbikit_clusters.two_levels FOLDER`.

The cheap one is wrong, so its posterior is; but what it learns to read off the data, two numbers out of
sixty, is what matters of them. Of these two few dear simulations are enough to learn the right posterior:

    1. `npe` is trained on many cheap simulations;
    2. its posterior means are told of few dear ones, in place of their data;
    3. `npe` is trained on these: their parameters given two numbers.

For new dear observations the means of the posterior are compared with the exact ones, beside those of the
cheap simulations alone and of the few dear ones alone: root mean square in exact standard deviations, and the
mean ratio of standard deviations. All is kept in FOLDER, and the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sbikit
from sbikit import Posterior
from sbikit_clusters.exact import moments
from sbikit_clusters.simulator import Clusters

OBSERVATIONS, DRAWS, TOLD = 32, 1000, 200
_ANOTHER = 2027  # seed of the new observations, which nothing is trained on


def told(cheap: Posterior, counts: NDArray[np.floating]) -> NDArray[np.float32]:
    """What the cheap posterior makes of counts (B, bins): its means (B, 2)."""
    return cheap.sample(counts, TOLD, seed=1).to_numpy()["theta"].mean(0)


def main() -> None:
    """Train three posteriors and compare them."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--cheap", type=int, default=20_000, metavar="N", help="simulations of the cheap one")
    words.add_argument("--dear", type=int, default=150, metavar="N", help="simulations of the dear one")
    asked = words.parse_args()
    folder: Path = asked.folder
    many = sbikit.simulate("clusters-cheap", asked.cheap, store=folder / "cheap.zarr")
    cheap = sbikit.fit(many, "npe", out=folder / "cheap")
    few = sbikit.simulate("clusters", asked.dear, store=folder / "dear.zarr", workers=2)
    dear = sbikit.fit(few, "npe", out=folder / "dear")

    rows, laws = few.arrays(), Clusters.prior.laws
    table = folder / "told.npz"
    if not table.exists():
        np.savez(
            table,
            theta=rows["theta"],
            estimate=told(cheap, rows["counts"]),
            labels=list(laws),
            prior_low=[law.low for law in laws.values()],
            prior_high=[law.high for law in laws.values()],
        )
    held_out = {"sampling.observations": max(2, asked.dear // 20), "sampling.draws": 64}
    both = sbikit.run(
        sbikit.load("simulator", "table", file=str(table), observed=["estimate"]),
        "npe",
        validators=[],
        settings=held_out,
        out=folder / "both",
    )

    counts = sbikit.Simulations(Clusters(), _ANOTHER).held_out(0, OBSERVATIONS)["counts"].numpy()
    mean, sd = moments(counts)
    for name, posterior, data in (
        (f"{asked.cheap} cheap simulations", cheap, counts),
        (f"{asked.dear} dear ones", dear, counts),
        ("both", both, told(cheap, counts)),
    ):
        draws = posterior.sample(data, DRAWS).to_numpy()["theta"]
        for i, label in enumerate(laws):
            off = (draws[..., i].mean(0) - mean[:, i]) / sd[:, i]
            ratio = draws[..., i].std(0) / sd[:, i]
            line = {
                "of": f"{label} by {name}",
                "rms offset, exact sd": float(np.sqrt(np.mean(off**2))),
                "its error": float(np.std(off**2) / np.sqrt(OBSERVATIONS) / np.sqrt(np.mean(off**2)) / 2),
                "ratio of sd": float(ratio.mean()),
                "error of that": float(ratio.std() / np.sqrt(OBSERVATIONS)),
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
