"""Reading YAML 1.2 with the place of every value, so that a message can say file:line:column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedBase
from ruamel.yaml.scalarbool import ScalarBoolean

from sbikit.problem.errors import OptionError
from sbikit.problem.option_errors import Path as Keys
from sbikit.storage.yaml_guard import YAMLRefusedError, load_yaml, read_yaml_text


@dataclass
class Located:
    """A tree of plain values, and where each was written.

    Args:
        tree: mappings, lists and scalars of Python's own types.
        origins: keys down to a value -> "file:line:column".
        end: where the file ends.
    """

    tree: dict[str, Any]
    origins: dict[Keys, str] = field(default_factory=dict)
    end: str = ""


def read_yaml(path: Path, label: str = "") -> Located:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        label: what messages call it; the path where left out.

    Raises:
        OptionError: the file is not there, is not YAML, or holds no mapping.
    """
    label = label or str(path)
    try:
        text = read_yaml_text(path)
    except OSError as error:
        raise OptionError(
            f"The configuration file cannot be read: {error}", where=label, fix="check the path"
        ) from None
    except YAMLRefusedError as error:
        raise OptionError(
            f"The configuration file cannot be read: {error.problem}.",
            where=f"{label}:{error.line}:{error.column}",
            expected="a YAML text",
            fix="check the path",
        ) from None
    node = _parse(text, label)
    if node is None:
        node = {}
    if not isinstance(node, Mapping):
        raise OptionError(
            "The file holds no mapping.",
            where=f"{label}:1:1",
            expected="sections such as `simulator:`; `sbikit config show` prints a whole file",
            got=type(node).__name__,
        )
    last = text.rpartition("\n")[2]
    found = Located({}, end=f"{label}:{text.count(chr(10)) + 1}:{len(last) + 1}")
    found.tree = _plain(node, (), label, found.origins)
    return found


def parse_value(text: str, label: str) -> Any:
    """The value that YAML sees in `text`: `1e-3` is a number, `no` is text, nothing is null.

    Raises:
        OptionError: it is not YAML.
    """
    return _plain(_parse(text, label), (), label, {})


def _parse(text: str, label: str) -> Any:
    try:
        return load_yaml(text)
    except YAMLRefusedError as error:
        raise OptionError(
            f"This is not YAML that can be used: {error.problem}.",
            where=f"{label}:{error.line}:{error.column}",
        ) from None


def _plain(node: Any, path: Keys, label: str, origins: dict[Keys, str]) -> Any:
    """The node without ruamel's types; fills `origins`."""
    if isinstance(node, Mapping):
        _locate(node, node.keys(), path, label, origins)
        return {str(key): _plain(value, (*path, str(key)), label, origins) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        _locate(node, range(len(node)), path, label, origins)
        return [_plain(value, (*path, index), label, origins) for index, value in enumerate(node)]
    if isinstance(node, ScalarBoolean):
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return None if node is None else str(node)


def _locate(node: Any, keys: Any, path: Keys, label: str, origins: dict[Keys, str]) -> None:
    if not isinstance(node, CommentedBase):
        return
    for key in keys:
        try:
            line, column = node.lc.item(key) if isinstance(key, int) else node.lc.value(key)
        except (AttributeError, KeyError, TypeError):
            continue  # a key that came through a merge has no place of its own
        origins[(*path, key if isinstance(node, Sequence) else str(key))] = f"{label}:{line + 1}:{column + 1}"
