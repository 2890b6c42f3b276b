"""YAML that may be read: not too large, not too deep, and no small text that stands for a giant.

A reference to an anchor counts as often as it is used, so nine lines can stand for a billion values; deep
nesting exhausts Python's stack. Both are told from the events of the parser, before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

MOST_LEVELS = 20
"""Far more than any option has, far fewer than Python's recursion allows."""
_MOST_VALUES = 10_000
_MOST_BYTES = 2**20


class YAMLRefusedError(ValueError):
    """A text that is no YAML, or none that may be read.

    Args:
        problem: what is wrong.
        line, column: where, from 1 on.
    """

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(f"{problem}, line {line}, column {column}")
        self.problem, self.line, self.column = problem, line, column


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        OSError: the file cannot be read.
        YAMLRefusedError: it is too large, or no text.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise YAMLRefusedError(f"it has more than {_MOST_BYTES} bytes", 1, 1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise YAMLRefusedError("it is no UTF-8 text", *_place(before, len(before))) from None


def load_yaml(text: str, kind: str = "rt") -> Any:
    """What a YAML text holds.

    Args:
        text: the text.
        kind: ruamel's name of the loader: "rt" keeps places and comments, "safe" does not.

    Raises:
        YAMLRefusedError: it is not YAML, nests too deeply or holds too much.
    """
    try:
        _check(text)
        return YAML(typ=kind, pure=True).load(text)
    except YAMLRefusedError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "unreadable").strip().splitlines()[0]
        raise YAMLRefusedError(problem, *((mark.line + 1, mark.column + 1) if mark else (1, 1))) from None
    except YAMLError as error:
        place = _place(text, getattr(error, "position", 0))
        raise YAMLRefusedError(str(error).strip().splitlines()[0], *place) from None
    # What ruamel makes of a value that is none, such as a date of month 13, is of many classes.
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise YAMLRefusedError(reason, 1, 1) from None


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


@dataclass
class _Open:
    """A list or mapping that the parser is in: its anchor, and how many values it stands for so far."""

    anchor: str | None
    values: int = 1


def _check(text: str) -> None:
    """Refuse a text by its events alone."""
    stack = [_Open(None, 0)]
    known: dict[str, int] = {}
    for event in YAML(typ="rt", pure=True).parse(text):
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, AliasEvent):
            if any(one.anchor == event.anchor for one in stack):
                raise YAMLRefusedError(f"*{event.anchor} stands for something that holds it", line, column)
            stack[-1].values += known.get(event.anchor, 1)
        elif isinstance(event, CollectionStartEvent):
            stack.append(_Open(event.anchor))
        elif isinstance(event, CollectionEndEvent):
            closed = stack.pop()
            stack[-1].values += closed.values
            known |= {closed.anchor: closed.values} if closed.anchor else {}
        elif isinstance(event, NodeEvent):
            stack[-1].values += 1
            known |= {event.anchor: 1} if event.anchor else {}
        if len(stack) - 1 > MOST_LEVELS:
            raise YAMLRefusedError(f"it is nested too deeply, more than {MOST_LEVELS} levels", line, column)
        if sum(one.values for one in stack) > _MOST_VALUES:
            raise YAMLRefusedError(f"it stands for more than {_MOST_VALUES} values", line, column)
