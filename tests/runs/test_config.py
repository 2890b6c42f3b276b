"""The configuration: sources in order, and a message with its place for every mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sbikit.problem.errors import OptionError, PluginError, SbikitError
from sbikit.runs.config import RunConfig, Written, load_config, read_config
from sbikit.runs.config_text import render
from sbikit.runs.draft import Draft, Overrides, presets, read_preset
from sbikit.runs.schema import schema
from sbikit.storage.yaml_files import Located

TOYS = Overrides(simulator="toy", estimator="toy-linear", validators=("toy-mean",))


def toy_config(*assignments: str, file: Path | None = None) -> RunConfig:
    return load_config(
        file=file, overrides=Overrides("toy", "toy-linear", ("toy-mean",), assignments=assignments)
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


WHOLE = """\
simulator: {name: toy, scale: 2.0}
estimator:
  name: toy-linear
  steps: 7
"""


def test_defaults_are_filled_in(toys: Path) -> None:
    found = toy_config()
    assert found.simulator.options.model_dump() == {"mode": "good", "scale": 1.0}
    assert found.estimator.options.model_dump() == {"steps": 4, "pause": 0.0}
    assert found.sampling.model_dump() == {
        "draws": 64,
        "observations": 256,
        "shown_draws": 1000,
        "reference_draws": 1000,
        "reference_observations": 16,
    }
    assert (found.reference, found.seed, found.device) == (None, 0, "auto")


def test_later_sources_win(toys: Path, tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE + "seed: 4\n")
    found = load_config(
        file=file,
        overrides=Overrides(
            validators=("toy-mean",), seed=5, device="cpu", assignments=("seed=6", "estimator.steps=9")
        ),
    )
    assert found.simulator.options.model_dump()["scale"] == 2.0
    assert (found.estimator.options.model_dump()["steps"], found.seed, found.device) == (9, 6, "cpu")


def test_another_plugin_drops_the_options_of_the_one_before(toys: Path, tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE + "validators: [{name: toy-mean}]\n")
    found = load_config(file=file, overrides=Overrides(simulator="toy-field"))
    assert set(found.simulator.options.model_dump()) == {"size", "parameters", "noise"}
    same = load_config(file=file, overrides=Overrides(simulator="toy"))
    assert same.simulator.options.model_dump()["scale"] == 2.0
    by_name = load_config(file=file, overrides=Overrides(assignments=("simulator.name=toy-field",)))
    assert by_name.simulator == found.simulator


def test_a_validator_flag_keeps_the_options_the_file_gives(toys: Path, tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE + "validators: [{name: mira, centres: 3}, {name: tarp}]\n")
    found = load_config(file=file, overrides=Overrides(validators=("mira", "toy-mean")))
    assert [choice.name for choice in found.validators] == ["mira", "toy-mean"]
    assert found.validators[0].options.model_dump()["centres"] == 3


def test_values_on_the_command_line_are_yaml(toys: Path) -> None:
    assert toy_config("simulator.scale=1e-3").simulator.options.model_dump()["scale"] == 1e-3
    assert toy_config("reference={name: toy-exact}").reference is not None
    assert toy_config("reference.name=toy-exact", "reference=").reference is None
    assert toy_config("validators=[]").validators == ()


def test_an_index_picks_from_a_list(toys: Path) -> None:
    found = load_config(
        overrides=Overrides("toy", "toy-linear", ("mira",), assignments=("validators.0.centres=2",))
    )
    assert found.validators[0].options.model_dump()["centres"] == 2
    with pytest.raises(OptionError, match=r"validators\.1\.centres|validators\.1 leads nowhere"):
        toy_config("validators.1.centres=2")


@pytest.mark.parametrize(
    ("assignment", "message", "expected", "fix"),
    [
        ("simulator.scale=20", "simulator.scale cannot be 20", "a number, above 0, at most 10", ""),
        ("simulator.scale='1'", "cannot be '1'", "a number", ""),
        ("simulator.scale=.nan", "cannot be nan", "a number", ""),
        ("simulator.mode=bad", "cannot be 'bad'", "one of good, raises, nan, shape", ""),
        ("simulator.scal=1", "no option 'scal' in simulator", "one of mode, scale", "'scale'"),
        ("estimator.steps=2.5", "cannot be 2.5", "a whole number, at least 1, at most 100", ""),
        ("estimator.steps=true", "cannot be True", "a whole number", ""),
        ("estimator.steps=[1]", "cannot be [1]", "a whole number", ""),
        ("sampling.draws=1", "sampling.draws cannot be 1", "a whole number, at least 2", ""),
        ("sampling=3", "sampling cannot be 3", "a mapping of draws, observations, shown_draws", ""),
        ("simulator=toy", "simulator cannot be 'toy'", "a mapping of options", ""),
        ("seed=-1", "seed cannot be -1", "a whole number, at least 0", ""),
        ("device=gpu", "device cannot be 'gpu'", "one of cpu, cuda, auto", ""),
        ("sed=1", "no option 'sed'", "seed", "'seed'"),
        ("validators=[{}]", "validators.0.name is missing", "text", "validators.0.name"),
        ("seed", "no assignment", "key=value", ""),
        ("=3", "no assignment", "key=value", ""),
        ("seed=[", "not YAML", "", ""),
        ("seed.x=1", "leads nowhere", "", ""),
        ("simulator.name=", "simulator.name cannot be None", "text", ""),
    ],
)
def test_a_wrong_assignment_is_refused(
    toys: Path, assignment: str, message: str, expected: str, fix: str
) -> None:
    with pytest.raises(OptionError) as caught:
        toy_config(assignment)
    error = caught.value
    assert message in error.message
    assert assignment in error.where
    assert expected in error.expected
    assert fix in error.fix


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (WHOLE + "seed: x\n", "run.yaml:5:7", "seed cannot be 'x'"),
        ("simulator:\n  name: toy\n  scale: 11\n", "run.yaml:3:10", "cannot be 11"),
        (WHOLE + "sampling: {drws: 3}\n", "run.yaml:5:18", "no option 'drws'"),
        (WHOLE + "validators:\n  - name: toy-mean\n    bins: 3\n", "run.yaml:7:11", "no option 'bins'"),
        ("simulator: {name: toi}\n", "run.yaml:1:19", "no simulator named 'toi'"),
        ("a: [\n", "run.yaml:2:1", "not YAML"),
        ("a: 1\na: 2\n", "run.yaml:2:1", "duplicate key"),
        ("- 1\n", "run.yaml:1:1", "no mapping"),
        ("a: " + "[" * 30 + "]" * 30 + "\n", "run.yaml", "too deeply"),
        (WHOLE + "validators: [{name: toy-mean}, {name: toy-mean}]\n", "run.yaml:5:39", "named twice"),
    ],
)
def test_a_mistake_in_a_file_is_shown_with_line_and_column(
    toys: Path, tmp_path: Path, text: str, place: str, message: str
) -> None:
    with pytest.raises(SbikitError) as caught:
        load_config(file=written(tmp_path, text), overrides=Overrides(estimator="toy-linear"))
    assert message in caught.value.message
    assert place in caught.value.where


def test_all_wrong_options_are_named_at_once(toys: Path) -> None:
    with pytest.raises(OptionError, match=r"sampling\.draws cannot be 0. Also wrong: device, seed"):
        toy_config("device=gpu", "seed=-1", "sampling.draws=0")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(OptionError, match="cannot be read"):
            read_config(path)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="no preset 'quik'") as caught:
        load_config("quik")
    assert "'quick'" in caught.value.fix


def test_unusable_plugins_are_refused_with_their_place(toys: Path) -> None:
    with pytest.raises(PluginError, match="reference sampler") as caught:
        load_config(overrides=Overrides("toy", "toy-exact"))
    assert "--estimator" in caught.value.where


def test_commented_yaml_reads_back_as_the_same(toys: Path, tmp_path: Path) -> None:
    found = toy_config("reference={name: toy-exact}", "simulator.scale=1e-3")
    text = render(found)
    assert read_config(written(tmp_path, text)) == found
    assert "# scale of the data; a number, above 0, at most 10" in text
    assert "# two parameters, three numbers" in text


# --- a reference and what compares with it ---------------------------------------------------


def names(found: RunConfig) -> list[str]:
    return [choice.name for choice in found.validators]


def test_a_reference_brings_the_agreement_along(toys: Path, tmp_path: Path) -> None:
    assert names(toy_config()) == ["toy-mean"]
    for found in (
        toy_config("reference={name: toy-exact}"),
        toy_config("reference.name=toy-exact"),
        load_config(overrides=Overrides("toy", "toy-linear", ("toy-mean",), "toy-exact")),
        load_config(
            file=written(tmp_path, WHOLE + "validators: [{name: toy-mean}]\nreference: {name: toy-exact}\n")
        ),
    ):
        assert names(found) == ["toy-mean", "toy-agreement"]
        assert "  - name: toy-agreement" in render(found)
        assert read_config(written(tmp_path, render(found))) == found


def test_an_agreement_that_is_there_keeps_its_place_and_options(toys: Path, tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE + "validators: [{name: toy-agreement, margin: 3}, {name: toy-mean}]\n")
    kept = load_config(file=file, overrides=Overrides(reference="toy-exact"))
    assert names(kept) == ["toy-agreement", "toy-mean"]
    moved = load_config(file=file, overrides=Overrides(validators=("toy-mean",), reference="toy-exact"))
    assert names(moved) == ["toy-mean", "toy-agreement"]
    assert margin(moved, 1) == margin(kept, 0) == 3
    chosen = Overrides("toy", "toy-linear", ("toy-mean",), "toy-exact")
    chosen = replace(chosen, assignments=("validators.1.margin=2",))
    assert margin(load_config(overrides=chosen), 1) == 2
    wrong = replace(chosen, assignments=("validators.1.marging=2",))
    with pytest.raises(OptionError, match="no option 'marging'"):
        load_config(overrides=wrong)


def margin(found: RunConfig, index: int) -> float:
    """An option of the toy's agreement."""
    return float(found.validators[index].options.model_dump()["margin"])


@pytest.mark.parametrize(
    ("key", "label"), [(("reference",), "--reference"), (("reference", "name"), "--set reference.name=a")]
)
def test_a_mistake_in_what_was_brought_along_is_shown_where_the_reference_was_chosen(
    toys: Path, key: tuple[str, ...], label: str
) -> None:
    draft = Draft(Located({"reference": {"name": "a"}}, {key: label}))
    draft.bring_along()
    place = draft.locate(("validators", 0, "name"))
    assert place == f"{label} (reference.name), which brings it along (validators.0.name)"


def test_an_agreement_without_a_reference_is_refused(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'toy-agreement' compares with an exact sampler") as caught:
        load_config(overrides=Overrides("toy", "toy-linear", ("toy-mean", "toy-agreement")))
    assert "--reference NAME" in caught.value.fix
    assert "--validator" in caught.value.where
    file = written(tmp_path, WHOLE + "validators:\n  - name: toy-agreement\n")
    with pytest.raises(OptionError) as caught:
        load_config(file=file)
    assert "run.yaml:6:11" in caught.value.where


def test_a_reference_beyond_the_held_out_observations_is_refused(toys: Path) -> None:
    few = "sampling.observations=8"
    assert toy_config(few).sampling.reference_observations == 16
    with pytest.raises(OptionError, match="more observations than are held out") as caught:
        toy_config(few, "reference.name=toy-exact")
    assert (caught.value.expected, caught.value.got) == ("at most sampling.observations, 8", "16")
    fitting = toy_config(few, "reference.name=toy-exact", "sampling.reference_observations=8")
    assert fitting.sampling.reference_observations == 8


def test_the_schema_holds_the_options_of_every_plugin(toys: Path) -> None:
    found = schema()
    sections = found["$defs"]
    toy = next(s for s in sections.values() if s.get("properties", {}).get("name", {}).get("const") == "toy")
    assert toy["properties"]["scale"]["maximum"] == 10
    assert toy["additionalProperties"] is False
    names = {
        s["properties"]["name"].get("const") for s in sections.values() if "name" in s.get("properties", {})
    }
    assert {"toy", "toy-linear", "toy-exact", "toy-mean", "mira"} <= names
    assert set(found["properties"]) == set(Written.model_fields)


def test_every_preset_is_whole() -> None:
    for name in presets():
        tree = read_preset(name).tree
        assert set(tree) <= set(Written.model_fields)
        assert {"simulator", "estimator", "validators"} <= set(tree)


def test_a_union_is_named_as_the_user_wrote_it() -> None:
    """pydantic puts names of its own for the branches of a union into the path."""
    with pytest.raises(OptionError) as caught:
        load_config(overrides=Overrides(assignments=("simulator.shift=foo",)))
    assert caught.value.where == "--set simulator.shift=foo (simulator.shift)"
    number = "a number, at least 0.0001, at most 1"
    shapes = f"one of hilbert2011, tree-level or a mapping of table or {number} or a list, each {number}"
    assert caught.value.expected == shapes


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_rendered_preset_is_read_back_the_same(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    file = tmp_path / "run.yaml"
    file.write_text(render(config))
    assert read_config(file) == config


@pytest.mark.parametrize(
    ("assignment", "message", "expected"),
    [
        (
            "simulator.mask={densty: 3}",
            "There is no option 'densty' in simulator.mask.",
            "one of density, radius, edge, seed, path",
        ),
        (
            "simulator.a_ia={uniform: [2, 1]}",
            "the lowest value must be below the highest",
            "a number or a mapping of uniform or a mapping of normal",
        ),
    ],
)
def test_branches_of_a_union_have_no_name_in_a_message(assignment: str, message: str, expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_config(overrides=Overrides(assignments=(assignment,)))
    assert message in str(caught.value)
    assert caught.value.expected == expected
    assert "Star" not in str(caught.value)
    assert "Law" not in str(caught.value)
