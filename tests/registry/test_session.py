"""Names of plug-ins that nobody registered: another code or state is another name, and nothing else is."""

from __future__ import annotations

import pickle
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import constraints

import sbikit
from sbikit import Field, Options, PluginError, Prior, Simulator, Uniform, Vector
from sbikit.plugins import registry, session
from sbikit.plugins.session import name_of
from sbikit.problem.supports import support_bounds

CODE = """
import numpy as np
import sbikit

NOISE = 0.5
TABLE = np.arange(3.0)
_cache = {}

def scaled(x):
    return NOISE * x

def deep(x):
    return scaled(x) + TABLE.sum()

class Mine(sbikit.Simulator):
    prior = sbikit.Prior({"a": sbikit.Uniform(0.5, 2.0)})
    outputs = (sbikit.Vector("x", ("x1", "x2")),)
    observed = ("x",)
    power = 2

    def __init__(self, size=3, shapes=(1, 2)):
        self.size, self.shapes, self._seen = size, shapes, []

    @property
    def half(self):
        return self.size / 2

    def simulate_one(self, parameters, rng):
        # a remark
        _cache[1] = 2
        return {"x": deep(parameters["a"]) ** self.power + rng.standard_normal(2)}
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_HELD", {})


def made(text: str = CODE, *args: Any, **words: Any) -> Any:
    """The simulator of a text, as if it were typed into a notebook anew."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell>", "exec"), space)
    return space["Mine"](*args, **words)


def test_the_same_code_and_state_have_one_name() -> None:
    assert name_of(made()) == name_of(made())
    assert name_of(made()).startswith("Mine@")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NOISE = 0.5", "NOISE = 0.6"),
        ("np.arange(3.0)", "np.arange(4.0)"),
        ("return NOISE * x", "return NOISE + x"),
        ("power = 2", "power = 3"),
        ("Uniform(0.5, 2.0)", "Uniform(0.5, 2.1)"),
        ('"x2"', '"x3"'),
        ("self.size / 2", "self.size / 3"),
        ("standard_normal(2)", "standard_normal(size=2)"),
        ("shapes=(1, 2)", "shapes=(1, 3)"),
        ("size=3", "size=4"),
    ],
)
def test_what_says_something_else_has_another_name(old: str, new: str) -> None:
    assert old in CODE
    assert name_of(made()) != name_of(made(CODE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"), [("_cache = {}", "_cache = {3: 4}"), ("class Mine", "\n\nclass Mine")]
)
def test_what_says_the_same_has_the_same_name(old: str, new: str) -> None:
    assert old in CODE
    assert name_of(made()) == name_of(made(CODE.replace(old, new)))


def test_remarks_and_spaces_in_a_file_count_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a module the text is at hand."""
    names = []
    for i, text in enumerate((CODE, CODE.replace("# a remark", "# another\n\n"))):
        (tmp_path / f"text_{i}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path))
        module = __import__(f"text_{i}")
        names.append(name_of(module.Mine()).partition("@")[2])
    assert names[0] == names[1]


def test_state_that_was_given_counts_and_what_is_cached_does_not() -> None:
    assert name_of(made(CODE, 3)) != name_of(made(CODE, 4))
    one = made()
    name = name_of(one)
    assert one.spec.latents  # a cached property
    one._seen.append(3)  # a cache of its own
    assert name_of(one) == name
    one.size = 5
    assert name_of(one) == name_of(made(CODE, 5)) or name_of(one) != name


def test_what_objects_hold_that_a_simulator_has_counts() -> None:
    """A dataclass of numbers, a network, names in an array, a law of scipy, and these in one another."""

    @dataclass
    class Settings:
        noise: float = 0.5

    def holding(**state: Any) -> str:
        one = made()
        for name, value in state.items():
            setattr(one, name, value)
        return name_of(one)

    def network(seed: int) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.nn.Linear(3, 2)

    same = [
        Settings,
        lambda: network(1),
        lambda: np.array(["a", "b"]),
        lambda: scipy.stats.norm(1.0, 2.0),
        lambda: {"deep": [Settings(), (network(1), 3.0)]},
    ]
    other = [
        Settings(0.6),
        network(2),
        np.array(["a", "c"]),
        scipy.stats.norm(1.0, 3.0),
        {"deep": [Settings(2.0)]},
    ]
    for make, changed in zip(same, other, strict=True):
        assert holding(thing=make()) == holding(thing=make())
        assert holding(thing=make()) != holding(thing=changed)
    assert holding(thing={object: 1, "a": {object()}}) == holding(thing={object: 1, "a": {object()}})
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    assert holding(thing=circle).startswith("Mine@")


def test_an_installed_plugin_has_its_own_name() -> None:
    assert name_of(sbikit.load("simulator", "lognormal", size=8)) == "lognormal"
    assert name_of(sbikit.load("estimator", "npe")) == "npe"
    assert session._HELD == {}


def test_a_subclass_of_an_installed_plugin_is_none() -> None:
    cls = type(sbikit.load("simulator", "lognormal"))

    class Mine(cls):  # type: ignore[misc, valid-type]
        pass

    assert name_of(Mine()).startswith("Mine@")


def test_what_is_held_is_found_by_its_name_and_made_as_it_is() -> None:
    one = made(CODE, 7)
    name = name_of(one)
    assert registry.resolve("simulator", name) is type(one)
    assert registry.made("simulator", name, Options()) is one
    assert registry.find("simulator", name).distribution == "this session"
    with pytest.raises(PluginError, match="made in Python") as caught:
        registry.find("simulator", "Mine@00000000")
    assert "sbikit.open_run(folder, Mine())" in caught.value.fix


def test_what_is_no_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match="no plug-in"):
        name_of(3)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="A simulator is asked for"):
        session.plugin_of("simulator", sbikit.load("estimator", "npe"))


def test_a_support_is_one_of_real_numbers_in_another_process_too() -> None:
    """torch knows `constraints.real` by identity, which pickle does not keep."""
    copy = pickle.loads(pickle.dumps(constraints.real))
    assert copy is not constraints.real
    assert support_bounds("x", copy) == (-np.inf, np.inf)


def test_functions_in_one_another_and_cached_properties_are_read() -> None:
    def around(factor: float) -> Simulator:
        class Mine(Simulator):
            prior = Prior({"a": Uniform(0.5, 2.0)})
            outputs = (Vector("x", ("x1",)), Field("y", (4, 4)))
            observed = ("x",)

            @cached_property
            def table(self) -> float:
                return 2.0

            def simulate_one(self, parameters: Any, rng: Any) -> dict[str, Any]:
                noise = [factor * rng.standard_normal() for _ in range(3)]
                return {"x": sum(noise), "y": np.full((4, 4), parameters["a"])}

        return Mine()

    assert name_of(around(1.0)) == name_of(around(1.0))
    assert name_of(around(1.0)) != name_of(around(2.0))
