"""A new plug-in to start from: a distribution of its own with one small simulator and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from sbikit import __version__
from sbikit.problem.errors import OptionError

_PYPROJECT = Template("""[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "sbikit-$name"
version = "0.1.0"
description = "A simulator for sbikit."
requires-python = ">=3.11"
dependencies = ["sbikit>=$version", "numpy"]

[project.entry-points.sbikit]
$name = "sbikit_$module"

[tool.hatch.build.targets.wheel]
packages = ["sbikit_$module"]
""")

_INIT = Template('''"""A plug-in of sbikit; this file is read at every start, so it imports nothing heavy."""

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators():
    return [Offer("$name", "sbikit_$module.simulator:$cls", "a periodic signal seen with noise")]
''')

_SIMULATOR = Template('''"""A periodic signal of unknown amplitude and width, seen with noise."""

import numpy as np
from pydantic import Field as Option

from sbikit import Field, Options, Prior, Simulator, Uniform


class ${cls}Options(Options):
    size: int = Option(default=32, ge=4, description="pixels along the signal")
    noise: float = Option(default=0.1, gt=0, description="standard deviation of the noise a pixel")


class $cls(Simulator[${cls}Options]):
    prior = Prior({"amplitude": Uniform(0.5, 2.0), "width": Uniform(0.05, 0.2)})
    observed = ("data",)

    def __init__(self, options=None):
        super().__init__(options)
        # Facts, both False where left out: the signal is as likely here as there, and its end meets its
        # start. Of a time series or an image neither is true: leave them out.
        even = {"stationary": True, "periodic": True}
        self.outputs = tuple(Field(name, (self.options.size,), **even) for name in ("signal", "data"))

    # One draw at a time. To make many at once, write `simulate(self, parameters, *, seeds)` in its place.
    def simulate_one(self, parameters, rng):  # all that is random comes from rng
        size = self.options.size
        distance = np.abs((np.arange(size) / size - rng.uniform() + 0.5) % 1 - 0.5)
        signal = parameters["amplitude"] * np.exp(-0.5 * (distance / parameters["width"]) ** 2)
        return {"signal": signal, "data": signal + self.options.noise * rng.normal(size=size)}
''')

_TEST = Template("""import sbikit
from sbikit.testing import check_simulator


def test_it_keeps_the_contract():
    check_simulator(sbikit.load("simulator", "$name"))
""")

_README = Template("""# sbikit-$name

    pip install -e .
    sbikit plugins check $name
    sbikit run --sim $name --estimator diffusion-transformer
""")


def write_scaffold(name: str, parent: Path) -> list[Path]:
    """Write the distribution `sbikit-<name>` into `parent`.

    Args:
        name: the plug-in's name: small letters, digits and hyphens.
        parent: the folder that it goes into.

    Returns:
        The files written.

    Raises:
        OptionError: the name cannot be one, or the folder is there already.
    """
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
    words = {
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
    }
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"sbikit_{module}/__init__.py": _INIT,
        f"sbikit_{module}/simulator.py": _SIMULATOR,
        f"tests/test_{module}.py": _TEST,
    }
    return [_write(folder / path, text.substitute(words)) for path, text in files.items()]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
