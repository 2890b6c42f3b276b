"""Discovery survives whatever is installed, and a wrong name is answered with the right one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from toybox import install, offering
from typer.testing import CliRunner

import sbikit
from sbikit import Evidence, Options, QuietMonitor, Report, Validator
from sbikit.cli import app
from sbikit.plugins import registry
from sbikit.plugins.extras import missing
from sbikit.plugins.installed import Kind, catalogue
from sbikit.problem.errors import OptionError, PluginError


def refusal(kind: Kind, name: str) -> PluginError:
    with pytest.raises(PluginError) as caught:
        registry.resolve(kind, name)
    return caught.value


def test_offers_are_found_with_their_distribution(toys: Path) -> None:
    found = registry.find("simulator", "toy")
    assert (found.distribution, found.version) == ("sbikit-toybox", "1.0")
    assert registry.resolve("simulator", "toy").__name__ == "Toy"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('half installed')", "half installed"),
        ("import a_library_that_is_not_there", "a_library_that_is_not_there"),
        ("def (", "SyntaxError"),
        ("x = 1", "hookimpl"),
        ("from sbikit import hookimpl\n@hookimpl\ndef sbikit_simulators():\n    return 1 / 0", "division"),
        ("from sbikit import hookimpl\n@hookimpl\ndef sbikit_simulators():\n    return ['toy']", "an Offer"),
        (
            "from sbikit import hookimpl\n@hookimpl\ndef sbikit_simulators(x):\n    return []",
            "sbikit_simulators",
        ),
    ],
)
def test_a_broken_plugin_is_remembered_and_harms_no_other(toys: Path, text: str, reason: str) -> None:
    install(toys, "sbikit-lame", {"lame": "sbikit_lame"}, {"sbikit_lame.py": text})
    problems = [p for p in catalogue().problems if p.entry == "lame"]
    assert len(problems) == 1
    assert reason in problems[0].message
    assert registry.resolve("simulator", "toy").__name__ == "Toy"
    error = refusal("simulator", "lame")
    assert "broken" in error.message
    assert reason in error.message
    assert "sbikit-lame" in error.where


def test_two_offers_of_one_name_are_refused_by_name(toys: Path) -> None:
    text = offering("sbikit_simulators", "toy", "sbikit_twin:Other")
    install(toys, "sbikit-twin", {"twin": "sbikit_twin"}, {"sbikit_twin.py": text})
    error = refusal("simulator", "toy")
    assert "sbikit-toybox" in error.where
    assert "sbikit-twin" in error.where
    assert catalogue().clashes().keys() == {("simulator", "toy")}
    assert registry.resolve("estimator", "toy-linear").__name__ == "Linear"


def test_one_name_for_two_kinds_is_no_clash(toys: Path) -> None:
    text = offering("sbikit_validators", "toy", "sbikit_twin:Other")
    install(toys, "sbikit-twin", {"twin": "sbikit_twin"}, {"sbikit_twin.py": text})
    assert catalogue().clashes() == {}
    assert registry.resolve("simulator", "toy").__name__ == "Toy"


def test_a_misspelt_hook_is_reported_beside_the_right_ones_of_its_module(toys: Path) -> None:
    text = offering("sbikit_simulator", "odd", "sbikit_odd:Odd") + offering(
        "sbikit_validators", "fine", "sbikit_toybox.parts:Mean"
    )
    install(toys, "sbikit-odd", {"odd": "sbikit_odd"}, {"sbikit_odd.py": text})
    (problem,) = (p for p in catalogue().problems if p.entry == "odd")
    assert "did you mean sbikit_simulators?" in problem.message
    assert registry.resolve("validator", "fine").__name__ == "Mean"


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(toys: Path) -> None:
    error = refusal("estimator", "toy-liner")
    assert "'toy-linear'" in error.fix
    assert "toy-linear" in error.expected


def test_a_reference_sampler_asked_for_as_estimator_is_explained(toys: Path) -> None:
    error = refusal("estimator", "toy-exact")
    assert "reference sampler" in error.message
    assert "--reference toy-exact" in error.fix


def test_a_missing_extra_says_what_to_install(toys: Path) -> None:
    error = refusal("estimator", "toy-extra")
    assert "a_library_that_is_not_there" in error.message
    assert error.fix == "pip install 'sbikit-toybox[more]'"


def test_a_plugin_that_lacks_its_own_module_is_broken_not_missing(toys: Path) -> None:
    text = offering("sbikit_simulators", "gone", "sbikit_gone.nowhere:Gone")
    install(toys, "sbikit-gone", {"gone": "sbikit_gone"}, {"sbikit_gone/__init__.py": text})
    error = refusal("simulator", "gone")
    assert "cannot be imported" in error.message
    assert "pip install sbikit_gone" not in error.fix


def test_a_class_of_the_wrong_kind_is_refused(toys: Path) -> None:
    error = refusal("estimator", "toy-wrong")
    assert error.expected == "a subclass of sbikit.Estimator"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PluginError, match="no such kind"):
        sbikit.load("simulators", "toy")  # type: ignore[call-overload]


def test_load_takes_options_by_keyword(toys: Path) -> None:
    simulator = sbikit.load("simulator", "toy", scale=2.5)
    assert simulator.options.model_dump() == {"mode": "good", "scale": 2.5}
    with pytest.raises(OptionError, match="no option 'scal'") as caught:
        sbikit.load("simulator", "toy", scal=2.5)
    assert "'scale'" in caught.value.fix


def test_a_sampler_is_made_as_any_other_plugin(toys: Path) -> None:
    simulator = sbikit.load("simulator", "toy")
    made = sbikit.load("sampler", "toy-chains", doubtful=2.0)
    assert made.options.model_dump() == {"doubtful": 2.0}
    assert made.posterior(simulator, monitor=QuietMonitor()).spec == simulator.spec
    with pytest.raises(OptionError, match="no option 'simulator'"):
        sbikit.load("estimator", "toy-linear", simulator="toy")


def test_options_are_named_in_brackets() -> None:
    class OneOptions(Options):
        size: int = 3

    class One(Validator[OneOptions]):
        def validate(self, evidence: Evidence, *, seed: int) -> Report:
            raise NotImplementedError

    class Two(Validator):
        def validate(self, evidence: Evidence, *, seed: int) -> Report:
            raise NotImplementedError

    assert (One.Options, Two.Options) == (OneOptions, Options)
    assert One().options == OneOptions()
    assert One(OneOptions(size=4)).options.size == 4


LIGHT = """
from sbikit import Options

class LightOptions(Options):
    size: int = 3

class OtherOptions(Options):
    pass
"""
HEAVY = """
import numpy
from sbikit import Estimator
from sbikit_light.options import LightOptions

class Heavy(Estimator[LightOptions]):
    def match(self, spec): ...
    def fit(self, simulations, *, seed, workspace, monitor): ...
    def save(self, sampler, folder): ...
    def load(self, folder, simulator, *, device): ...
"""


@pytest.mark.parametrize("name", ["LightOptions", "OtherOptions", "NoOptions"])
def test_an_offer_may_say_where_its_options_are(toys: Path, name: str) -> None:
    """They are had without the plug-in, and are its own, or it is refused."""
    offer = (
        "from sbikit import Offer, hookimpl\n@hookimpl\ndef sbikit_estimators():\n"
        "    return [Offer('heavy', 'sbikit_light.heavy:Heavy', 'what', "
        f"options='sbikit_light.options:{name}')]\n"
    )
    files = {f"sbikit_light/{file}.py": text for file, text in (("options", LIGHT), ("heavy", HEAVY))}
    install(toys, "sbikit-light", {"heavy": "sbikit_light"}, {"sbikit_light/__init__.py": offer, **files})
    if name == "NoOptions":
        with pytest.raises(PluginError, match="cannot be imported: AttributeError"):
            registry.options_of("estimator", "heavy")
        return
    assert registry.options_of("estimator", "heavy").__name__ == name
    assert "sbikit_light.heavy" not in sys.modules
    if name == "LightOptions":
        assert sbikit.load("estimator", "heavy", size=4).options.model_dump() == {"size": 4}
    else:
        with pytest.raises(PluginError, match="other options than its offer says"):
            registry.resolve("estimator", "heavy")
    for module in [module for module in sys.modules if module.startswith("sbikit_light")]:
        del sys.modules[module]


def test_the_list_says_which_extra_mends_what_is_missing(toys: Path) -> None:
    """By what the distribution says of itself: of an extra that asks for another one of its own, too."""
    install(
        toys,
        "sbikit-heavy",
        {"heavy": "sbikit_heavy"},
        {"sbikit_heavy.py": offering("sbikit_simulators", "heavy", "sbikit_heavy.simulator:Heavy", "all")},
        [
            "numpy>=1",
            "sbikit-heavy[more] ; extra == 'all'",
            "a-library-that-is-not-there>=3 ; extra == 'more'",
            "numpy>=999 ; extra == 'more'",
            "scipy>=1 ; extra == 'more'",
            "another-one ; extra == 'other'",
        ],
    )
    found = registry.find("simulator", "heavy")
    assert missing(found) == ("a-library-that-is-not-there>=3", "numpy>=999")
    assert missing(registry.find("simulator", "toy")) == ()
    listed = CliRunner().invoke(app, ["plugins"]).stdout
    wanted = "a-library-that-is-not-there>=3, numpy>=999: pip install 'sbikit-heavy[all]'"
    assert f"the simulator 'heavy' needs {wanted}\n" in listed
    told = json.loads(CliRunner().invoke(app, ["plugins", "--json"]).stdout)
    heavy = next(one for one in told["plugins"] if one["name"] == "heavy")
    assert heavy["missing"] == ["a-library-that-is-not-there>=3", "numpy>=999"]
