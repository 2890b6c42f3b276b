"""Tiny runs of a few seconds that pass through every stage, and a digest of all numbers that they give."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from _entry_points import install

from sbikit.storage import read_posterior, read_tensors

_MODULE = """
from _faults.simulators import BAD
from sbikit import Offer, hookimpl

@hookimpl
def sbikit_simulators():
    shipped = [Offer("faults-vector", "sbikit.testing:GaussianVector", "two parameters"),
               Offer("faults-field", "sbikit.testing:GaussianField", "a field")]
    return shipped + [Offer(name, f"_faults.simulators:{cls}", "a bad one") for name, cls in BAD.items()]
"""

_SAMPLING = [
    "sampling.observations=24",
    "sampling.draws=12",
    "sampling.shown_draws=60",
    "sampling.reference_observations=4",
    "sampling.reference_draws=40",
]
_NPE = [
    "estimator.simulations=600",
    "estimator.steps=16",
    "estimator.transforms=1",
    "estimator.hidden=8",
    "estimator.bins=4",
    "estimator.context=4",
]
_TRANSFORMER = [
    "simulator.size=8",
    "estimator.steps=60",
    "estimator.width=16",
    "estimator.depth=1",
    "estimator.heads=2",
    "estimator.batch=8",
    "estimator.guide_simulations=256",
    "estimator.guide_nodes=16",
    "estimator.evaluations=4",
]
_HMC = [
    "reference.chains=2",
    "reference.warmup=50",
    "reference.draws=50",
    "reference.max_draws=100",
    "validators.1.c2st_observations=0",
]


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Args:
        name: its name.
        words: what follows `sbikit run`.
    """

    name: str
    words: tuple[str, ...]


def _kind(name: str, simulator: str, estimator: str, settings: list[str], *more: str) -> Kind:
    words = ["run", "--sim", simulator, "--estimator", estimator, "--validator", "mira", *more]
    words += [word for setting in (*_SAMPLING, *settings) for word in ("--set", setting)]
    return Kind(name, (*words, "--device", "cpu"))


KINDS = (
    _kind("npe", "faults-vector", "npe", _NPE),
    _kind("transformer", "faults-field", "diffusion-transformer", _TRANSFORMER),
    _kind("hmc", "faults-vector", "npe", [*_NPE, *_HMC], "--reference", "hmc"),
)


def install_simulators(folder: Path) -> None:
    """Let sbikit find the simulators of this benchmark, and training keep a checkpoint every few steps."""
    install(folder, "faults", _MODULE)
    import sbikit_transformer.training as transformer

    transformer._KEEP_SECONDS, transformer._LOG_EVERY = 0.0, 10


def heat_up() -> None:
    """Import what commands import, so that forks need not."""
    import sbi.neural_nets

    import sbikit.cli
    import sbikit.pages.page
    import sbikit.runs.stages
    import sbikit_calibration.agreement.validator
    import sbikit_exact.hmc.sampler
    import sbikit_npe.estimator
    import sbikit_transformer.estimator

    del sbi, sbikit, sbikit_calibration, sbikit_exact, sbikit_npe, sbikit_transformer


def numbers(run: Path) -> dict[str, str]:
    """Digest of each file of a finished run: draws, metrics, weights and logged losses, to the bit."""
    found = {}
    for name in ("heldout", "reference", "compared"):
        path = run / f"{name}.safetensors"
        if path.exists():
            found[name] = _digest({key: t.numpy() for key, t in read_tensors(path)[0].items()})
    posterior = read_posterior(run / "posterior.nc")
    held_out = posterior.held_out
    found["posterior"] = _digest(posterior.posterior)
    found["shown"] = _digest({**posterior.observed, **(posterior.truth or {})})
    if held_out is not None:
        found["held out"] = _digest(held_out.draws) + _digest({**held_out.truth, **held_out.observed})
    found["metrics"] = (run / "metrics.json").read_text()
    for path in sorted((run / "checkpoints" / "estimator").rglob("*")):
        found[path.name] = _digest({key: t.numpy() for key, t in read_tensors(path)[0].items()})
    return found


def losses(run: Path) -> dict[str, object]:
    """Step -> what was logged of it, but for times, of every line that sbikit itself can read."""
    from sbikit.storage import read_json_lines

    records = read_json_lines(run / "training.jsonl")[0]
    return {
        json.dumps(one.get("step")): {k: v for k, v in one.items() if k not in ("seconds", "step")}
        for one in records
        if "loss" in one
    }


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(name.encode() + str(arrays[name].shape).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
