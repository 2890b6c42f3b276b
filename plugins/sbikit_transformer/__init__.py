"""The joint-token diffusion transformer: fields and parameters drawn together from their posterior."""

from __future__ import annotations

from pathlib import Path

from sbikit import Offer, Pretrained, hookimpl

_PRETRAINED = Path(__file__).parent / "pretrained"


@hookimpl
def sbikit_estimators() -> list[Offer]:
    return [
        Offer(
            "diffusion-transformer",
            "sbikit_transformer.estimator:DiffusionTransformer",
            "joint draws of fields and parameters by one diffusion model over patches and parameters",
            options="sbikit_transformer.options:TransformerOptions",
        )
    ]


@hookimpl
def sbikit_pretrained() -> list[Pretrained]:
    """All that `benchmarks/ship.py` has put there, each named after its preset."""
    folders = sorted(file.parent for file in _PRETRAINED.glob("*/run.yaml"))
    return [Pretrained(one.name, one, f"the preset {one.name}, trained and calibrated") for one in folders]
