"""A configuration as commented YAML: each option with its meaning and what it allows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from sbikit.plugins import registry
from sbikit.plugins.installed import Kind
from sbikit.problem.option_errors import expectation
from sbikit.runs.config import Choice, RunConfig, Written
from sbikit.runs.draft import SECTIONS

_WIDTH = 34  # letters before a comment: most options fit, and comments stay on a screen


def render(config: RunConfig) -> str:
    """The whole configuration; reading it back gives the same configuration."""
    lines: list[str] = []
    for name, field in Written.model_fields.items():
        value = getattr(config, name)
        if name in SECTIONS and value is not None:
            lines += [f"{name}:  # {field.description}", *_choice(SECTIONS[name], value, "  ")]
        elif name == "validators" and value:
            lines.append(f"{name}:  # {field.description}")
            for choice in value:
                rows = _choice("validator", choice, "    ")
                lines += ["  - " + rows[0].lstrip(), *rows[1:]]
        elif isinstance(value, BaseModel):
            lines += [f"{name}:  # {field.description}", *_options(type(value), value.model_dump(), "  ")]
        else:
            comment = field.description if name == "reference" else _comment(Written, name)
            lines.append(_row(name, config.tree()[name], comment))
    return "\n".join(lines) + "\n"


def _choice(kind: Kind, choice: Choice, indent: str) -> list[str]:
    summary = registry.find(kind, choice.name).offer.summary
    first = _row("name", choice.name, summary, indent)
    return [first, *_options(type(choice.options), choice.options.model_dump(mode="json"), indent)]


def _options(model: type[BaseModel], values: Mapping[str, Any], indent: str) -> list[str]:
    rows: list[str] = []
    for key, value in values.items():
        nested = model.model_fields[key].annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            rows.append(f"{indent}{key}:  # {model.model_fields[key].description}")
            rows += _options(nested, value, indent + "  ")
        else:
            rows.append(_row(key, value, _comment(model, key), indent))
    return rows


def _comment(model: type[BaseModel], key: str) -> str:
    """Meaning and allowed values of an option."""
    description = (model.model_fields[key].description or "").strip().replace("\n", " ")
    return "; ".join(part for part in (description, expectation(model, (key,))) if part)


def _row(key: str, value: Any, comment: str | None, indent: str = "") -> str:
    text = f"{indent}{key}: {inline(value)}"
    return f"{text:<{_WIDTH}}  # {comment}" if comment else text


def inline(value: Any) -> str:
    """A value as YAML on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.width = 1_000_000
    out = io.StringIO()
    yaml.dump([value], out)
    return out.getvalue().strip().removeprefix("[").removesuffix("]").strip()
