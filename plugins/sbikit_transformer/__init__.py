"""The joint-token diffusion transformer: fields and parameters drawn together from their posterior."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_estimators() -> list[Offer]:
    return [
        Offer(
            "diffusion-transformer",
            "sbikit_transformer.estimator:DiffusionTransformer",
            "joint draws of fields and parameters by one diffusion model over patches and parameters",
        )
    ]
