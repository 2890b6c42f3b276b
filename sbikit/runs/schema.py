"""The JSON schema of a configuration, with the options of every installed plug-in."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from sbikit.plugins import registry
from sbikit.plugins.installed import Kind, catalogue
from sbikit.problem.errors import PluginError
from sbikit.runs.config import Named, Written


def schema() -> dict[str, Any]:
    """JSON schema of a run's configuration, with the options of every plug-in that can be imported."""
    fields: dict[str, Any] = {
        "simulator": (_union("simulator"), ...),
        "estimator": (_union("estimator"), ...),
        "validators": (tuple.__class_getitem__((_union("validator"), ...)), ()),
        "reference": (_union("sampler") | None, None),
    }
    model = create_model("RunConfig", __base__=Written, **fields)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def _union(kind: Kind) -> Any:
    """The type of a section: any installed plug-in of this kind with its options."""
    union: Any = None
    for found in catalogue().of(kind):
        try:
            options = registry.options_of(kind, found.offer.name)
        except PluginError:
            continue
        fields: dict[str, Any] = {"name": (Literal[found.offer.name], Field(description=found.offer.summary))}
        section = create_model(f"{kind} {found.offer.name}", __base__=options, **fields)
        union = section if union is None else union | section
    return Named if union is None else union
