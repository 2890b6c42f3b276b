"""`sbikit sample --pretrained`: a posterior without a run folder, from weights that stay as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field as Option
from toybox import install
from weights import OFFERING, call, copied_run, finished_run, install_weights

from sbikit.plugins.installed import catalogue
from sbikit.storage.read import read_posterior
from sbikit.storage.seals import file_digest

FILES = (
    "checkpoints/estimator/weights.safetensors",
    "first-draws.json",
    "metrics.json",
    "provenance.json",
    "run.yaml",
)
DRAWN = ["sample", "--pretrained", "toys", "--observation", "near.npy", "--draws", "20"]


@pytest.fixture
def weights(
    toys: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of installed weights; the working directory has observations and the run `a`."""
    monkeypatch.chdir(tmp_path)
    np.save("near.npy", [1.0, -2.0, 1.6])
    np.save("far.npy", np.array([1.0, -2.0, 1.6]) + 1e6)
    return install_weights(toys, copied_run(tmp_path_factory.getbasetemp() / "finished", Path("a")))


def test_draws_are_those_of_the_run_folder_and_nothing_else_is_written(weights: Path) -> None:
    before, site = file_digest(weights), weights.parent
    there = {
        file: file.stat().st_mtime_ns for file in [*site.rglob("*"), site] if "__pycache__" not in str(file)
    }
    for file in there:
        file.chmod(0o555 if file.is_dir() else 0o444)
    status, out, err = call(*DRAWN)
    for file in there:
        file.chmod(0o755 if file.is_dir() else 0o644)
    assert (status, out) == (0, "posterior: near-posterior.nc\n"), err
    assert file_digest(weights) == before
    assert all(file.stat().st_mtime_ns == time for file, time in there.items())
    assert call("sample", "a", *DRAWN[3:])[0] == 0
    found, own = (read_posterior(Path(name)) for name in ("near-posterior.nc", "a/near-posterior.nc"))
    assert found.sampler == "toy-linear"
    np.testing.assert_array_equal(found.posterior["theta"], own.posterior["theta"])
    assert found.posterior["theta"].shape == (20, 2)


def test_the_record_and_the_likeness_of_the_data_are_said(weights: Path) -> None:
    _, _, err = call(*DRAWN)
    assert "toys: toy by toy-linear, trained 20" in err
    assert "by `sbikit run --config run.yaml` with sbikit-toybox 1.0\n" in err
    assert (
        "toys: 1 of 1 verdicts pass (toy-mean; 40 held-out observations); `sbikit plugins show toys`" in err
    )
    assert "Nothing about the observation is unlike the training simulations." in err
    status, _, err = call("sample", "--pretrained", "toys", "--observation", "far.npy", "--out", "far.nc")
    assert status == 0
    assert "DO NOT TRUST THESE DRAWS: the data are unlike all that was trained on" in err
    assert "Nothing about" not in err
    trust = read_posterior(Path("far.nc")).trust
    assert trust is not None
    assert not trust.trustworthy


def test_another_version_is_said(weights: Path) -> None:
    info = weights.parents[1] / "sbikit_toybox-1.0.dist-info" / "METADATA"
    info.write_text(info.read_text().replace("Version: 1.0", "Version: 1.1"))
    catalogue.cache_clear()
    status, _, err = call(*DRAWN)
    assert (status, "with sbikit-toybox 1.0 (here 1.1)" in err) == (0, True), err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["sample"], "DIR, or --pretrained NAME"),
        (["sample", "--observation", "near.npy"], "DIR, or --pretrained NAME"),
        (["sample", "--pretrained", "toys"], "--observation FILE"),
        (["sample", "--pretrained", "toy"], "did you mean 'toys'?"),
        (["sample", "--pretrained", "moons", "--observation", "near.npy"], "toys\n  got:"),
        (["sample", "--pretrained", "", "--observation", "near.npy"], "toys\n  fix:"),
        (["sample", "a", "--pretrained", "toys", "--observation", "near.npy"], "both given"),
        (["sample", "a", "--pretrained", ""], "both given"),
        ([*DRAWN, "--reference"], "where:    --reference\n"),
        ([*DRAWN, "--redo"], "where:    --redo\n"),
        ([*DRAWN, "--workers", "2"], "where:    --workers\n"),
        ([*DRAWN, "--cluster", "local:2"], "where:    --cluster\n"),
        ([*DRAWN, "--out", "near.npy"], "overwrite the observation"),
        ([*DRAWN, "--device", "gpu"], "cpu, cuda or auto"),
        ([*DRAWN, "--precision", "half"], "float32 or auto"),
        (["sample", "a", "--observation", "near.npy", "--precision", "half"], "float32 or auto"),
        (["sample", "--pretrained", "toys", "--observation", "absent.nc"], "no such observation"),
        (["plugins", "show", "toyz"], "There is no plug-in named 'toyz'"),
        (["plugins", "check", "toys"], "sbikit sample --pretrained toys"),
        (["run", "--estimator", "toys"], "sbikit sample --pretrained toys"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_a_mistake_ends_with_2_and_a_message(weights: Path, words: list[str], text: str) -> None:
    status, out, err = call(*words)
    assert (status, out) == (2, ""), err
    assert text in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_refused_by_name(weights: Path, name: str) -> None:
    assert {str(file.relative_to(weights)) for file in weights.rglob("*") if file.is_file()} == set(FILES)
    file = weights / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    status, _, err = call(*DRAWN)
    assert status == 2
    assert "are damaged" in err
    assert str(file) in err
    assert call("plugins", "show", "toys")[0] == 2
    file.unlink()
    catalogue.cache_clear()
    status, _, err = call(*DRAWN)
    assert status == 2
    assert not Path("near-posterior.nc").exists()


def test_options_of_another_version_are_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*DRAWN)[0] == 0
    parts = sys.modules["sbikit_toybox.parts"]

    class More(parts.ToyOptions):  # type: ignore[name-defined,misc]
        more: int = Option(default=1, description="new")

    monkeypatch.setattr(parts.Toy, "Options", More)
    status, _, err = call(*DRAWN)
    assert (status, "simulator.more: nothing in training, 1 now" in err) == (2, True), err
    assert "install what they were trained with, sbikit-toybox 1.0, or" in err
    monkeypatch.undo()
    monkeypatch.chdir(weights.parents[2])
    monkeypatch.setattr(parts.Linear, "Options", parts.AgreementOptions)
    status, _, err = call(*DRAWN)
    assert (status, "has other options than these weights" in err) == (2, True), err


def test_a_validator_that_is_gone_is_not_needed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = catalogue()
    kept = tuple(found for found in book.found if found.kind != "validator")
    monkeypatch.setattr("sbikit.plugins.registry.catalogue", lambda: type(book)(kept, (), book.pretrained))
    assert call(*DRAWN)[0] == 0


def test_weights_of_another_problem_are_refused_by_their_estimator(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the options do not tell, the estimator's own check of the problem does."""
    monkeypatch.chdir(tmp_path)
    np.save("near.npy", [1.0, -2.0, 1.6])
    short = ("steps=5", "guide_simulations=256", "width=16", "depth=1", "evaluations=8")
    words = [f"--set=estimator.{option}" for option in short]
    install_weights(toys, finished_run(Path("a"), "--estimator", "diffusion-transformer", *words))
    assert call(*DRAWN)[0] == 0
    parts = sys.modules["sbikit_toybox.parts"]
    laws = dict(parts.Toy.prior.laws)
    laws["a"] = type(laws["a"])(5.0, 0.5)
    monkeypatch.setattr(parts.Toy, "prior", type(parts.Toy.prior)(laws))
    status, _, err = call(*DRAWN)
    assert (status, "belongs to another problem: its prior differ" in err) == (2, True), err


# --- the list -------------------------------------------------------------------------------


def test_plugins_lists_and_shows_them(weights: Path) -> None:
    status, out, _ = call("plugins")
    assert status == 0
    assert any(line.split()[:2] == ["pretrained", "toys"] for line in out.splitlines())
    (found,) = (
        one for one in json.loads(call("plugins", "--json")[1])["pretrained"] if one["name"] == "toys"
    )
    assert (found["folder"], found["distribution"]) == (str(weights), "sbikit-giver")
    status, out, err = call("plugins", "show", "toys")
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0] == "pretrained toys: a line through toys; sbikit-giver 1.0"
    assert lines[2] == f"configuration: {weights / 'run.yaml'}"
    assert lines[-2].split()[:2] == ["toy-mean", "mean"]
    assert lines[-1] == "toys: 1 of 1 verdicts pass (toy-mean; 40 held-out observations)"
    assert call("plugins", "show", "toys", "--kind", "pretrained")[1] == out


def test_two_of_one_name_can_neither_be_used(weights: Path) -> None:
    install_weights(weights.parents[1], Path("a"), "sbikit-second")
    status, _, err = call(*DRAWN)
    assert (status, "sbikit-giver and sbikit-second" in err) == (2, True), err
    out = call("plugins")[1]
    assert "clash: the pretrained 'toys' is offered by sbikit-giver and sbikit-second" in out
    assert {"kind": "pretrained", "name": "toys"} in json.loads(call("plugins", "--json")[1])["clashes"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OFFERING, "left out of the wheel?"),
        (OFFERING.replace("Path(__file__).parent / ", ""), "where a Pretrained with a Path is expected"),
        (OFFERING.replace("sbikit_pretrained", "sbikit_pretraine"), "did you mean sbikit_pretrained?"),
        (OFFERING.replace('"toys"', "1 / 0"), "division"),
    ],
)
def test_a_broken_offer_is_listed_and_harms_no_other(weights: Path, text: str, reason: str) -> None:
    install(weights.parents[1], "sbikit-lame", {"lame": "sbikit_lame"}, {"sbikit_lame.py": text})
    catalogue.cache_clear()
    out = call("plugins")[1]
    assert "broken: lame of sbikit-lame" in out
    assert reason in out
    assert call(*DRAWN)[0] == 0
