"""Checking options: pydantic's complaints become one message with place, expectation and fix.

Values are checked strictly and as JSON, so a configuration file, the command line and Python agree
on what is right: `size: "32"` and `size: true` are refused where a whole number is meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, from_json, to_json

from sbikit.problem.errors import OptionError

Path: TypeAlias = tuple[str | int, ...]
"""Keys from the top of a configuration down to one value."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping of options",
}
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
    ("multipleOf", "a multiple of"),
)


def dotted(path: Path) -> str:
    """`simulator.size` for ("simulator", "size")."""
    return ".".join(str(key) for key in path)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, "" where none is like it."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else ""


def describe(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words: "a whole number, at least 8, at most 256".

    Args:
        schema: schema of one value.
        definitions: the `$defs` that it may refer to.
    """
    if "$ref" in schema:
        return describe(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        branches = schema.get("anyOf") or schema["oneOf"]
        return " or ".join(dict.fromkeys(describe(branch, definitions) for branch in branches))
    if schema.get("type") == "array":
        return _describe_list(schema, definitions)
    words = [_TYPES.get(schema.get("type", ""), "a value")]
    if schema.get("properties") and not schema.get("additionalProperties"):
        words = ["a mapping of " + ", ".join(schema["properties"])]
    words += [f"{text} {_number(schema[key])}" for key, text in _BOUNDS if key in schema]
    if "pattern" in schema:
        words.append(f"matching {schema['pattern']}")
    return ", ".join(words)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _describe_list(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        parts = [describe(item, definitions) for item in schema["prefixItems"]]
        alike = len(set(parts)) == 1
        return f"a list of {len(parts)}" + (f", each {parts[0]}" if alike else ": " + "; ".join(parts))
    low, high = schema.get("minItems"), schema.get("maxItems")
    item = describe(schema.get("items", {}), definitions)
    if low is None and high is None:
        return f"a list, each {item}"
    count = f"{low}" if low == high else f"{low or 0} to {high}" if high is not None else f"{low} or more"
    return f"a list of {count}, each {item}"


def expectation(model: type[BaseModel], path: Path) -> str:
    """What `model` allows at `path`, in words."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = _walk(schema, path, definitions)
    return "" if found is None else describe(found, definitions)


def _walk(schema: Mapping[str, Any], path: Path, definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of the value at `path`; None where the schema names none."""
    if "$ref" in schema:
        return _walk(definitions[schema["$ref"].rsplit("/", 1)[-1]], path, definitions)
    if not path:
        return schema
    inside = [child for branch in (schema, *schema.get("anyOf", ())) for child in _children(branch, path[0])]
    found = (_walk(child, path[1:], definitions) for child in inside)
    return next((f for f in found if f is not None), None)


def _children(schema: Mapping[str, Any], key: str | int) -> list[Mapping[str, Any]]:
    """Schemas of what `schema` holds under `key`."""
    if isinstance(key, str):
        properties = schema.get("properties", {})
        return [properties[key]] if key in properties else []
    listed = schema.get("prefixItems", [])[key : key + 1]
    return listed or ([schema["items"]] if "items" in schema else [])


def check_options(
    model: type[ModelT],
    given: Mapping[str, Any],
    *,
    prefix: Path = (),
    locate: Callable[[Path], str] = dotted,
) -> ModelT:
    """Make `model` from what a user gave.

    Args:
        model: the pydantic model.
        given: option -> value.
        prefix: path of these options in the configuration, for messages.
        locate: full path -> where the user wrote it, for messages.

    Raises:
        OptionError: an option is unknown, missing, of the wrong type or out of range.
    """
    try:
        text = to_json(dict(given), inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise OptionError(
            f"An option of {dotted(prefix) or model.__name__} cannot be written as JSON.",
            where=locate(prefix),
            expected="numbers, text, lists and mappings",
            got=str(error),
        ) from None
    try:
        whole = to_json(_whole_numbers(model, from_json(text)), inf_nan_mode="constants")
        return model.model_validate_json(whole, strict=True)
    except ValidationError as error:
        raise _refusal(model, error.errors(include_url=False), prefix, locate) from None


def _whole_numbers(model: type[BaseModel], given: Any) -> Any:
    """The same with 1e3 as 1000 where whole numbers alone are meant."""

    def told(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: told(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [told(inner, (*path, index)) for index, inner in enumerate(value)]
        whole = isinstance(value, float) and value.is_integer() and _is_whole(model, path)
        return int(value) if whole else value

    return told(given, ())


def _is_whole(model: type[BaseModel], path: Path) -> bool:
    """Whether a whole number, and no other, is meant at `path`."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = _walk(schema, path, definitions)
    types = set() if found is None else _types(found, definitions)
    return "integer" in types and "number" not in types


def _types(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    """The JSON types that a schema allows."""
    if "$ref" in schema:
        return _types(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    found = {schema["type"]} if isinstance(schema.get("type"), str) else set()
    return found.union(
        *(_types(b, definitions) for b in (*schema.get("anyOf", ()), *schema.get("oneOf", ())))
    )


def _refusal(
    model: type[BaseModel], complaints: list[ErrorDetails], prefix: Path, locate: Callable[[Path], str]
) -> OptionError:
    """The first complaint in full; the others by name."""
    # Of a union's branches the one that fitted but for a value says most.
    first = next((c for c in complaints if c["type"] == "value_error"), complaints[0])
    loc = _written(model, first)
    path: Path = (*prefix, *loc)
    others = {dotted((*prefix, *_written(model, c))) for c in complaints if c is not first} - {dotted(path)}
    more = f" Also wrong: {', '.join(sorted(others))}." if others else ""
    if first["type"] == "extra_forbidden":
        return _unknown(model, loc, path, locate, more)
    if first["type"] == "missing":
        return OptionError(
            f"{dotted(path)} is missing.{more}",
            where=locate(path),
            expected=expectation(model, loc),
            fix=f"give it, in the file or as --set {dotted(path)}=...",
        )
    reason = f" {first['msg'].removeprefix('Value error, ')}." if first["type"] == "value_error" else ""
    return OptionError(
        f"{dotted(path) or 'The options'} cannot be {_short(first['input'])}.{reason}{more}",
        where=locate(path),
        expected=expectation(model, loc) if loc else "",
        got=f"{_short(first['input'])} ({_kind(first['input'])})" if loc else "",
    )


def _written(model: type[BaseModel], complaint: ErrorDetails) -> Path:
    """The keys that a user wrote: pydantic adds names of its own for the branches of a union."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    path: Path = ()
    for key in complaint["loc"]:
        if _walk(schema, (*path, key), definitions) is not None:
            path = (*path, key)
    unknown = complaint["type"] == "extra_forbidden"
    return (*path, complaint["loc"][-1]) if unknown else path


def _options_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    """Names that a mapping may have, whichever branch of a union it is."""
    if "$ref" in schema:
        return _options_of(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    branches = [name for branch in schema.get("anyOf", ()) for name in _options_of(branch, definitions)]
    return [*schema.get("properties", {}), *branches]


def _unknown(
    model: type[BaseModel], loc: Path, path: Path, locate: Callable[[Path], str], more: str
) -> OptionError:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    known = _options_of(_walk(schema, loc[:-1], definitions) or {}, definitions)
    close = nearest(str(loc[-1]), known)
    owner = dotted(path[:-1])
    return OptionError(
        f"There is no option {path[-1]!r}" + (f" in {owner}.{more}" if owner else f".{more}"),
        where=locate(path),
        expected="one of " + ", ".join(known) if known else "no options at all",
        got=str(path[-1]),
        fix=f"did you mean {close!r}?" if close else "",
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
