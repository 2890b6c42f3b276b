"""The noisy convergence map of sbi_lens and its published full-field draws."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import record
from arviz_stats.base import array_stats
from torch import Tensor

from _reference.problem import run_sbikit
from _reference.scale import Scale
from sbikit.storage import read_posterior

PUBLISHED: dict[str, Any] = {
    "name": "lognormal",
    "size": 128,
    "extent": 5.0,
    "observes": "convergence",
    "prior": "wcdm",
    "omega_c": {"normal": [0.3, 0.05]},
    "sigma_8": {"normal": [0.8, 0.05]},
    "omega_b": 0.0486,
    "h": 0.6774,
    "n_s": 0.9667,
    "w_0": -1.0,
    "sources": {"alpha": 0.5, "beta": 2.0, "z0": 1.0},
    "n_gal": 30.0,
    "sigma_e": 0.2,
}


def published(folder: Path, scale: Scale, source: Path) -> None:
    """Offset and ratio of sds against the published draws, as our model has it and as theirs."""
    theirs = np.load(source / "posterior_full_field__128N_5ms_30gpa_0.2se.npy").astype(float)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "observation.npy", np.load(source / "m_data__128N_5ms_30gpa_0.2se.npy")[None])
    _shift_tables(source / "lognormal_shift.csv", folder)
    for name, options in (
        ("ours", {"shift": {"table": str(folder / "table.txt")}}),
        ("no pixel window", {"shift": {"table": str(folder / "table.txt")}, "pixel_window": False}),
        (
            "no pixel window, their lookup",
            {"shift": {"table": str(folder / "lookup.txt")}, "pixel_window": False},
        ),
    ):
        theta, ess = _published_draws(folder / name.replace(",", "").replace(" ", "-"), options, scale)
        for i, label in enumerate(("omega_c", "sigma_8")):
            # Errors take the published draws for one chain, whose autocorrelation tells what they are worth.
            worth, worth_of_sd = _worth(theirs[None, :, i])
            sd = float(theirs[:, i].std())
            mean, width = float(theta[..., i].mean()), float(theta[..., i].std())
            _, ess_of_sd = _worth(theta[:, i].unflatten(0, (scale.published[0], -1)).numpy())
            offset, ratio = (mean - float(theirs[:, i].mean())) / sd, width / sd
            about = f"{label}, published case, {name}"
            record(f"mean of {about} (published {theirs[:, i].mean():.4f})", mean, width / math.sqrt(ess[i]))
            error = math.sqrt(ratio**2 / ess[i] + 1.0 / worth)
            record(f"offset in sd, {about}", offset, error, goal="within .25", ok=abs(offset) <= 0.25)
            error = ratio * math.sqrt(0.5 / ess_of_sd + 0.5 / worth_of_sd)
            record(
                f"ratio of sds, {about}",
                ratio,
                error,
                goal="1 +- .1",
                ok=abs(ratio - 1.0) <= 0.1,
                ratio_to="the published draws",
            )


def _worth(chains: np.ndarray) -> tuple[float, float]:
    """Effective sample sizes of chains (chains, draws) for the mean and for the variance."""
    squares = (chains - chains.mean()) ** 2
    return float(array_stats.ess(chains, method="mean")), float(array_stats.ess(squares, method="mean"))


def _shift_tables(source: Path, folder: Path) -> None:
    """Their table as the simulator reads it, and with the values at the places where their code finds them.

    It looks x up at (x - low) / (high - low) * 8 - 1/2, as if the eight values stood at the centres of
    eight cells, while the first and the last belong to the edges.
    """
    rows = np.loadtxt(source, delimiter=",", skiprows=1)
    moved = rows.copy()
    for column in (0, 1):
        nodes = np.unique(rows[:, column])
        low, high, count = nodes[0], nodes[-1], len(nodes)
        place = np.searchsorted(nodes, rows[:, column])
        moved[:, column] = low + (place + 0.5) / count * (high - low)
    for name, table in (("table", rows), ("lookup", moved)):
        np.savetxt(
            folder / f"{name}.txt", table, delimiter=", ", header="Omega_m, sigma_8, lambda", comments=""
        )


def _published_draws(folder: Path, options: dict[str, Any], scale: Scale) -> tuple[Tensor, list[float]]:
    """Draws (n, 2) through the command line, and their effective sample sizes."""
    out = folder.parent / f"{folder.name}.nc"
    configuration = folder.parent / f"{folder.name}.yaml"
    if not out.exists():
        chains, least, most = scale.published
        reference = {"name": "hmc", "chains": chains, "draws": least // chains, "max_draws": most // chains}
        settings = {"simulator": {**PUBLISHED, **options}, "reference": reference}
        configuration.write_text(json.dumps(settings))  # JSON is YAML
        if not folder.exists():
            run_sbikit("init", str(folder), "--config", str(configuration))
        observation = str(folder.parent / "observation.npy")
        run_sbikit(
            *("sample", str(folder), "--observation", observation, "--reference"),
            *("--draws", str(scale.published[1]), "--out", str(out)),
        )
    found = read_posterior(out)
    if found.trust is None or not found.trust.trustworthy:
        print(f"{folder.name}: {found.trust}", file=sys.stderr)
    theta = torch.from_numpy(found.posterior["theta"].astype(float))
    chains = theta.unflatten(0, (scale.published[0], -1)).numpy()
    return theta, [_worth(chains[..., i])[0] for i in range(theta.shape[1])]
