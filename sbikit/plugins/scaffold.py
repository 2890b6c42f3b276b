"""A new plug-in to start from: a distribution of its own with one small part and its test."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sbikit import __version__
from sbikit.plugins.installed import Kind
from sbikit.problem.errors import OptionError

_TEMPLATES = Path(__file__).parent / "scaffolds"


@dataclass(frozen=True)
class _Kind:
    """What is said of a kind of plug-in.

    Args:
        summary: of the plug-in that is written.
        run: a command that uses it.
    """

    summary: str
    run: str


_KINDS: dict[Kind, _Kind] = {
    "simulator": _Kind(
        "a periodic signal seen with noise", "sbikit run --sim $name --estimator diffusion-transformer"
    ),
    "estimator": _Kind("a normal law, linear in the data", "sbikit run --estimator $name"),
    "sampler": _Kind("importance sampling of few numbers", "sbikit run --sim mine --reference $name"),
    "validator": _Kind("how far means of draws lie from truths", "sbikit run --validator $name"),
}


def write_scaffold(name: str, parent: Path, kind: str = "simulator") -> list[Path]:
    """Write the distribution `sbikit-<name>` into `parent`.

    Args:
        name: the plug-in's name: small letters, digits and hyphens.
        parent: the folder that it goes into.
        kind: "simulator", "estimator", "sampler" or "validator".

    Returns:
        The files written.

    Raises:
        OptionError: the name cannot be one, there is no such kind, or the folder is there already.
    """
    if kind not in _KINDS:
        raise OptionError(
            "There is no such kind of plug-in.", where="--kind", expected=", ".join(_KINDS), got=kind
        )
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise OptionError(
            f"{name!r} cannot name a plug-in.",
            where="plugins new",
            expected="small letters, digits and hyphens, beginning with a letter",
            got=name,
        )
    folder = parent / f"sbikit-{name}"
    if folder.exists():
        raise OptionError(
            "There is something of this name already; nothing was written.",
            where=str(folder),
            fix="choose another name, or --into another folder",
        )
    said = _KINDS[kind]
    words = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
        "kind": kind,
        "summary": said.summary,
        "check": "check_exact_sampler" if kind == "sampler" else f"check_{kind}",
    }
    words["run"] = Template(said.run).substitute(words)
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"sbikit_{module}/__init__.py": "init.py",
        f"sbikit_{module}/{kind}.py": f"{kind}.py",
        f"tests/test_{module}.py": "test.py",
    }
    return [_write(folder / path, _filled(template, words)) for path, template in files.items()]


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = (_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
