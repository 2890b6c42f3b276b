"""Plug-ins that change what they are given, or use their memory again, change nothing of a run.

The right values are those of the same run with plug-ins that do neither.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toybox
from rich.console import Console
from safetensors.torch import load_file

from sbikit.problem.errors import PluginError, SimulationError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.runs import fitting, work
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.stages import run_stages
from sbikit.simulations.stream import Simulations
from sbikit.storage.kept import read_kept
from sbikit.storage.metrics import read_metrics
from sbikit.storage.read import read_posterior
from sbikit.testing import GaussianVector

OFFERS = """
from sbikit import Offer, hookimpl

@hookimpl
def sbikit_simulators():
    return [Offer(name, f"sbikit_careless.parts:{name}", "a toy")
            for name in ("Reuses", "Changes", "IgnoresSeeds", "Imaginary")]

@hookimpl
def sbikit_estimators():
    return [Offer(name, f"sbikit_careless.parts:{name}", "a toy") for name in ("Peeks", "Scribbles", "Few")]

@hookimpl
def sbikit_validators():
    return [Offer("Erases", "sbikit_careless.parts:Erases", "a toy")]
"""

PARTS = """
import numpy as np
import torch

from sbikit import Draws
from sbikit_toybox.parts import Linear, LinearSampler, Mean, Toy


class Reuses(Toy):
    buffer = torch.zeros(4096, 3)

    def simulate(self, parameters, *, seeds):
        part = self.buffer[: len(seeds)]
        part.copy_(super().simulate(parameters, seeds=seeds)["x"])
        return {"x": part}


class Changes(Toy):
    def simulate(self, parameters, *, seeds):
        x = super().simulate(parameters, seeds=seeds)
        parameters["theta"].zero_()
        seeds += 1
        return x


class IgnoresSeeds(Toy):
    def simulate(self, parameters, *, seeds):
        noise = np.random.default_rng(0).normal(size=(len(seeds), 3))
        return {"x": self._mean(parameters["theta"]) + torch.from_numpy(noise)}


class Imaginary(Toy):
    def simulate(self, parameters, *, seeds):
        return {"x": super().simulate(parameters, seeds=seeds)["x"] * (1 + 1j)}


class Peeks(Linear):
    def fit(self, simulations, *, seed, workspace, monitor):
        simulations.held_out(0, 8)
        return super().fit(simulations, seed=seed, workspace=workspace, monitor=monitor)


class ScribblingSampler(LinearSampler):
    def sample(self, observation, n, *, seeds):
        draws = super().sample(observation, n, seeds=seeds)
        observation["x"].zero_()
        seeds *= 0
        return draws


class Scribbles(Linear):
    def fit(self, simulations, *, seed, workspace, monitor):
        found = super().fit(simulations, seed=seed, workspace=workspace, monitor=monitor)
        simulations.training(0, 100)["x"].zero_()
        return found

    def load(self, folder, simulator, *, device):
        right = super().load(folder, simulator, device=device)
        return ScribblingSampler(right.spec, right.weights)


class Few(Linear):
    '''Fits to 50 draws, read in pieces and out of order.'''

    def fit(self, simulations, *, seed, workspace, monitor):
        parts = {first: simulations.training(first, 10) for first in (20, 0, 40, 10, 30)}
        whole = {k: torch.cat([parts[first][k] for first in sorted(parts)]) for k in parts[0]}

        class Whole:
            spec = simulations.spec

            def training(self, first, count):
                return whole

        return super().fit(Whole(), seed=seed, workspace=workspace, monitor=monitor)


class Erases(Mean):
    def validate(self, evidence, *, seed):
        report = super().validate(evidence, seed=seed)
        for values in (evidence.truth, evidence.observation, evidence.draws, evidence.training):
            for value in values.values():
                value.zero_()
        return report
"""

SMALL = ("sampling.observations=40", "sampling.draws=8", "sampling.shown_draws=50")


@pytest.fixture
def start(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run in tmp_path/NAME; its report is a stand-in."""
    modules = {"sbikit_careless/__init__.py": OFFERS, "sbikit_careless/parts.py": PARTS}
    toybox.install(toys, "sbikit-careless", {"careless": "sbikit_careless"}, modules)

    def report(run: Run) -> list[Path]:
        path = run.folder.path / "report.html"
        path.write_text("")
        return [path]

    monkeypatch.setattr(work, "report", report)

    def make(
        simulator: str = "toy",
        estimator: str = "toy-linear",
        validators: tuple[str, ...] = ("toy-mean",),
        folder: str = "run",
        more: tuple[str, ...] = (),
    ) -> Run:
        overrides = Overrides(simulator, estimator, validators, None, assignments=(*SMALL, *more))
        made = RunFolder.create(tmp_path / folder, load_config(overrides=overrides))
        monitor = ConsoleMonitor(Console(file=io.StringIO()), made.log, made.training)
        return Run(made, monitor, torch.device("cpu"), "sbikit run")

    return make


def done(run: Run) -> Run:
    run_stages(run)
    return run


def simulated(run: Run) -> int:
    """How often the simulator was called."""
    return (run.folder.path.parent / "trace").read_text().splitlines().count("simulate")


@pytest.mark.parametrize(
    ("simulator", "estimator"), [("Reuses", "toy-linear"), ("Changes", "toy-linear"), ("toy", "Scribbles")]
)
def test_a_careless_plugin_gives_what_its_careful_twin_gives(
    start: Callable[..., Run], simulator: str, estimator: str
) -> None:
    careful, careless = done(start()), done(start(simulator, estimator, folder="careless"))
    for name in ("heldout.safetensors", "first-draws.safetensors"):
        found, expected = (load_file(run.folder.path / name) for run in (careless, careful))
        for key in expected:
            assert torch.equal(found[key], expected[key])
    found, expected = (read_posterior(run.folder.posterior).held_out for run in (careless, careful))
    assert found is not None
    assert expected is not None
    assert (found.draws["theta"] == expected.draws["theta"]).all()
    assert (found.observed["x"] == expected.observed["x"]).all()
    assert read_metrics(careless.folder.metrics) == read_metrics(careful.folder.metrics)


def test_a_validator_that_erases_its_evidence_erases_its_own_alone(start: Callable[..., Run]) -> None:
    alone = done(start())
    after = done(start(validators=("Erases", "toy-mean"), folder="after"))
    assert read_metrics(after.folder.metrics)[1] == read_metrics(alone.folder.metrics)[0]


def test_an_estimator_that_reads_the_held_out_stream_is_refused(start: Callable[..., Run]) -> None:
    with pytest.raises(PluginError, match="held-out stream") as caught:
        run_stages(start(estimator="Peeks"))
    assert "held_out(0, 8)" in caught.value.where


@pytest.mark.parametrize(
    ("simulator", "message"), [("IgnoresSeeds", "The seeds are ignored"), ("Imaginary", "complex")]
)
def test_a_run_looks_at_its_first_draws(start: Callable[..., Run], simulator: str, message: str) -> None:
    run = start(simulator)
    with pytest.raises(SimulationError, match=message):
        run_stages(run)
    assert not run.folder.held_out.exists()


# --- training simulations of the validators -------------------------------------------------


def test_validate_simulates_nothing_where_the_fit_has(start: Callable[..., Run]) -> None:
    run = start()
    run_stages(run, ["simulate"])
    assert simulated(run) == 2 + 2  # two chunks, and two draws that look at the seeds
    run_stages(run, ["fit", "sample"])
    before = simulated(run)
    run_stages(start(), ["validate"])  # as in a later process
    assert simulated(run) == before
    kept = load_file(run.folder.first_draws)
    expected = Simulations(GaussianVector(), 0).training(0, 2000)  # 4 steps of 500
    assert {name: value.shape for name, value in kept.items()} == {"theta": (2000, 2), "x": (2000, 3)}
    for name, value in expected.items():
        assert torch.equal(kept[name], value)


def test_the_longest_kept_are_as_many_as_validators_ask_for(start: Callable[..., Run]) -> None:
    run = done(start(more=("estimator.steps=10",)))  # 5000 draws
    assert len(load_file(run.folder.first_draws)["theta"]) == fitting.TRAINING_DRAWS == 2048


def test_fewer_are_kept_where_each_is_large(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit; in no case fewer than 256, which fix a standard deviation to 4.4 %."""
    each = 4 * (2 + 3)  # bytes of theta and x
    for folder, size, expected in (("some", 301 * each - 1, 300), ("least", 100 * each, 256)):
        monkeypatch.setattr(fitting, "TRAINING_BYTES", size)
        run = start(folder=folder)
        run_stages(run, ["simulate", "fit"])
        kept = load_file(run.folder.first_draws)
        assert torch.equal(kept["x"], Simulations(GaussianVector(), 0).training(0, expected)["x"])


def test_half_a_gigabyte_is_kept_of_large_maps() -> None:
    """At 64 pixels and 16 channels of a latent and of an observed field: 1 + 2 x 16 x 4096 numbers."""
    field, data = (Field(name, channels=16, grid=(64, 64)) for name in "kg")
    assert fitting.most_draws(Spec((Vector("theta", ("a",)), field), (data,))) == 2**29 // 524_292 == 1023


def test_what_is_too_few_is_announced_and_made_up(start: Callable[..., Run]) -> None:
    run = done(start(estimator="Few"))
    kept = load_file(run.folder.first_draws)
    assert torch.equal(kept["x"], Simulations(GaussianVector(), 0).training(0, 256)["x"])
    words = "validate: 206 training simulations are drawn for the validators, which need 256; the fit left 50"
    assert run.folder.log.read_text().count(words) == 1
    before = simulated(run), read_metrics(run.folder.metrics)
    run.folder.metrics.unlink()
    run_stages(run, ["validate"])  # finds them beside those of the fit
    assert (simulated(run), read_metrics(run.folder.metrics)) == before
    assert run.folder.log.read_text().count(words) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "of another seed"])
def test_damaged_draws_are_not_used(start: Callable[..., Run], damage: str) -> None:
    """They are drawn again, as many, so that no figure depends on it."""
    run = start()
    run_stages(run, ["simulate", "fit", "sample"])
    path = run.folder.first_draws
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-5] ^= 16
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        path.unlink()
    else:
        other = done(start(folder="other", more=("seed=5",)))
        path.write_bytes(other.folder.first_draws.read_bytes())
    assert read_kept(path, fitting.made_by(run)) is None
    run_stages(run, ["validate"])
    assert "2000 training simulations are drawn for the validators" in run.folder.log.read_text()
    assert read_metrics(run.folder.metrics) == read_metrics(done(start(folder="whole")).folder.metrics)


def test_an_interrupted_fit_keeps_its_first_draws(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process takes up the training where it stopped and draws the first ones no more."""
    parts = __import__("sbikit_careless.parts", fromlist=["Linear"])

    def read_then_stop(self: object, simulations: Simulations, **words: object) -> None:
        del self, words
        for first in range(0, 512, 64):
            simulations.training(first, 64)
        raise KeyboardInterrupt

    def go_on(self: object, simulations: Simulations, **words: object) -> object:
        simulations.training(512, 64)
        return whole(self, Simulations(simulations.simulator, 0), **words)

    run, whole = start(), parts.Linear.fit
    run_stages(run, ["simulate"])
    monkeypatch.setattr(parts.Linear, "fit", read_then_stop)
    with pytest.raises(KeyboardInterrupt):
        run_stages(run, ["fit"])
    monkeypatch.setattr(parts.Linear, "fit", go_on)
    run_stages(start(), ["fit"])
    kept = load_file(run.folder.first_draws)
    assert torch.equal(kept["x"], Simulations(GaussianVector(), 0).training(0, 576)["x"])
    assert not (run.folder.parts / "training").exists()
