"""What a plug-in that nobody registered is made of: its code and its state, as a digest.

A run must not go on with what another version of the same class has made. So the digest is that of all that
the class's functions say, and the functions and plain values that they use from where they were defined.
Spaces and comments count for nothing, nor do lists, mappings and sets whose names begin with `_`, which may
be caches. What other installed packages hold is left out: of these the versions are noted.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from sbikit.problem.laws import Law, describe_law
from sbikit.problem.prior import Prior
from sbikit.problem.variables import Field, Vector

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, Path)
_DEEPEST = 12  # containers and functions in one another
_NOT_CODE = ("__dict__", "__weakref__", "__module__", "__doc__", "__orig_bases__", "__parameters__")


def digest(plugin: object, *, public: bool = False) -> str:
    """Eight letters that differ where the code or the state of a plug-in does.

    Args:
        plugin: the plug-in; what it has cached of its properties is no state. Where it has a text
            `fingerprint`, that stands for its state.
        public: whether what may be a cache is left out: attributes of the object whose names begin with `_`,
            and what objects hold that are its attributes.
    """
    found = blake2b(digest_size=4)
    for part in _Parts(type(plugin).__module__, public=public).of_object(plugin):
        found.update(part.encode())
        found.update(b"\0")
    return found.hexdigest()


class _Parts:
    """Texts that say what something is, each function once.

    Args:
        home: the module that it is from, whose package is part of it.
        public: see `digest`.
    """

    def __init__(self, home: str, *, public: bool) -> None:
        self._home, self._public = _root(home), public
        self._seen: set[int] = set()

    def _counts(self, module: str | None) -> bool:
        """Whether what a module holds is part of it."""
        root = _root(module)
        return not _elsewhere(root) or (root == self._home and root != "sbikit")

    def of_object(self, plugin: object) -> Iterator[str]:
        for cls in reversed(type(plugin).__mro__):
            if self._counts(cls.__module__):
                yield cls.__qualname__
                yield from self._of_mapping(_said_by(cls), 0)
        told = getattr(plugin, "fingerprint", None)
        if isinstance(told, str):
            yield told
            return
        state = {
            name: value
            for name, value in getattr(plugin, "__dict__", {}).items()
            if not isinstance(getattr(type(plugin), name, None), cached_property)
            and not (self._public and name.startswith("_"))
        }
        yield from self._of_mapping(state, 0)

    def _of_mapping(self, values: Mapping[Any, Any], depth: int) -> Iterator[str]:
        # What is no plain value has a text that tells its place in memory, which is another one every time.
        keys = sorted(values, key=repr) if all(isinstance(key, _PLAIN) for key in values) else list(values)
        for key in keys:
            yield repr(key) if isinstance(key, _PLAIN) else type(key).__qualname__
            yield from self._of(values[key], depth + 1)

    def _of(self, value: Any, depth: int) -> Iterator[str]:
        if depth > _DEEPEST:
            return
        if isinstance(value, _PLAIN):
            yield repr(value)
        elif isinstance(value, np.ndarray | torch.Tensor):
            yield _of_array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        elif isinstance(value, Law):
            yield describe_law(value)
        elif isinstance(value, Prior):
            yield from self._of_mapping({"": (value.variable, value.correlation), **value.laws}, depth)
        elif isinstance(value, Field | Vector):
            yield repr(value)
        elif isinstance(value, BaseModel):
            yield value.model_dump_json()
        elif isinstance(value, Mapping):
            yield from self._of_mapping(value, depth)
        elif isinstance(value, set | frozenset):
            yield from sorted(
                repr(one) if isinstance(one, _PLAIN) else type(one).__qualname__ for one in value
            )
        elif isinstance(value, list | tuple):
            for one in value:
                yield from self._of(one, depth + 1)
        else:
            yield type(value).__qualname__
            yield from self._of_callable(value, depth)
            yield from self._held_by(value, depth)

    def _held_by(self, value: Any, depth: int) -> Iterator[str]:
        """The state of another object, such as a network or a table of somebody's class."""
        if self._public or isinstance(value, type | FunctionType | ModuleType) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        yield from self._of_callable(type(value), depth)
        yield from self._of_mapping(getattr(value, "__dict__", {}), depth + 1)

    def _of_callable(self, value: Any, depth: int) -> Iterator[str]:
        for inner in _wrapped(value):
            yield from self._of_function(inner, depth)
        if isinstance(value, partial):
            yield from self._of((value.args, value.keywords), depth + 1)
        if isinstance(value, type) and self._counts(value.__module__) and id(value) not in self._seen:
            self._seen.add(id(value))
            yield from self._of_mapping(_said_by(value), depth)

    def _of_function(self, function: FunctionType, depth: int) -> Iterator[str]:
        if id(function) in self._seen or not self._counts(function.__module__):
            return
        self._seen.add(id(function))
        yield _said(function)
        yield from self._of((function.__defaults__, function.__kwdefaults__), depth + 1)
        for cell in function.__closure__ or ():
            yield from self._of(_content(cell), depth + 1)
        for name in sorted(_names(function.__code__)):
            used = function.__globals__.get(name)
            if used is not None and not isinstance(used, ModuleType) and not _is_cache(name, used):
                yield name
                yield from self._of(used, depth + 1)


def _said_by(cls: type) -> dict[str, Any]:
    """What a class says itself, but for what Python adds."""
    return {
        name: value
        for name, value in vars(cls).items()
        if name not in _NOT_CODE and not name.startswith("_abc_") and not _is_cache(name, value)
    }


def _of_array(array: NDArray[Any]) -> str:
    if array.dtype.kind not in "biufc":
        return repr(array.tolist())
    content = np.ascontiguousarray(array).tobytes()
    return f"{array.dtype} {array.shape} {blake2b(content, digest_size=16).hexdigest()}"


def _is_cache(name: str, value: object) -> bool:
    """Whether a name, of a class or a module, holds what grows while the code runs."""
    return name.startswith("_") and isinstance(value, list | dict | set)


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _elsewhere(root: str) -> bool:
    """Whether a top-level module is Python's, sbikit itself, or that of an installed package."""
    if root in sys.stdlib_module_names or root == "sbikit":
        return True
    file = getattr(sys.modules.get(root), "__file__", None)
    return "site-packages" in Path(file or "").parts


def _wrapped(value: Any) -> Iterator[FunctionType]:
    """The functions of the user behind a method, a property or a decorated function."""
    inner: list[Callable[..., Any] | None]
    if isinstance(value, property):
        inner = [value.fget, value.fset]
    elif isinstance(value, cached_property | partial):
        inner = [value.func]
    else:
        inner = [getattr(value, "__func__", value)]
    for one in inner:
        found = inspect.unwrap(one) if callable(one) else one
        if isinstance(found, FunctionType):
            yield found


def _said(function: FunctionType) -> str:
    """What a function says, but for spaces and comments; its byte code where the text is not to be had."""
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        return _of_code(function.__code__)


def _of_code(code: CodeType) -> str:
    constants = [_of_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _names(code: CodeType) -> set[str]:
    """Names that a function, and those in it, may look up where it was defined."""
    return {*code.co_names}.union(*(_names(one) for one in code.co_consts if isinstance(one, CodeType)))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
