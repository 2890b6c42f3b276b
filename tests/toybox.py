"""Distributions made on the spot, for tests of discovery and of whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import sbikit_calibration
from sbikit import Offer, hookimpl

INIT = """
from sbikit import Offer, hookimpl

@hookimpl
def sbikit_simulators():
    return [Offer("toy", "sbikit_toybox.parts:Toy", "two parameters, three numbers"),
            Offer("toy-field", "sbikit_toybox.parts:ToyField", "a small field"),
            Offer("toy-plain", "sbikit_toybox.parts:Plain", "no density")]

@hookimpl
def sbikit_estimators():
    return [Offer("toy-linear", "sbikit_toybox.parts:Linear", "linear regression"),
            Offer("toy-wrong", "sbikit_toybox.parts:Toy", "no estimator at all"),
            Offer("toy-extra", "sbikit_toybox.needs:Thing", "lacks its library", extra="more")]

@hookimpl
def sbikit_samplers():
    return [Offer("toy-exact", "sbikit_toybox.parts:Exact", "the exact posterior"),
            Offer("toy-chains", "sbikit_toybox.parts:Chains", "the same, with doubts"),
            Offer("toy-blind", "sbikit_toybox.parts:Blind", "parameters alone")]

@hookimpl
def sbikit_validators():
    return [Offer("toy-mean", "sbikit_toybox.parts:Mean", "the mean error"),
            Offer("toy-agreement", "sbikit_toybox.parts:Agreement", "the offset from the exact mean",
                  with_reference=True)]
"""

PARTS = '''
import json
import math
import os
import time
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field as Option
from safetensors.torch import load_file, save_file

from sbikit import (Draws, Estimator, ExactSampler, Metric, Options, Reading, Report, Sampler, Simulator,
                    SupportsLogDensity, Trust, UnsupportedError, Validator, normals, supports)
from sbikit.testing import GaussianField, GaussianVector


def event(name):
    """Write down what happens, and stop where the test says."""
    if "TOY_TRACE" in os.environ:
        with open(os.environ["TOY_TRACE"], "a") as file:
            file.write(name + "\\n")
    if os.environ.get("TOY_STOP") == name:
        raise KeyboardInterrupt
    if os.environ.get("TOY_CRASH") == name:
        raise RuntimeError("the toy crashed")


class ToyOptions(Options):
    mode: Literal["good", "raises", "nan", "shape"] = Option(default="good", description="what goes wrong")
    scale: float = Option(default=1.0, gt=0, le=10, description="scale of the data")


class Toy(GaussianVector):
    Options = ToyOptions

    def __init__(self, options=None):
        self.options = options or ToyOptions()

    def simulate(self, parameters, *, seeds):
        event("simulate")
        out = super().simulate(parameters, seeds=seeds)["x"]
        odd = torch.as_tensor(seeds % 7 == 0)
        if self.options.mode == "raises" and bool(odd.any()):
            raise ValueError("no solution [here]")
        if self.options.mode == "nan":
            out[odd] = float("nan")
        return {"x": out[:, :2] if self.options.mode == "shape" else out}


class ToyField(GaussianField):
    def facts(self):
        return {"Pixels a side": f"{self.options.size}", "Noise": "white <as snow>"}

    def __init__(self, options=None):
        super().__init__(options)
        self.summarised = (replace(self.outputs[1], name="data_smooth", estimates="field"),)

    def summaries(self, values):
        return {"data_smooth": values["data"] * 0.5}


class Plain(Simulator):
    prior = GaussianVector.prior
    outputs = GaussianVector.outputs
    observed = GaussianVector.observed

    def simulate(self, parameters, *, seeds):
        event("simulate")
        return GaussianVector().simulate(parameters, seeds=seeds)


class LinearOptions(Options):
    steps: int = Option(default=4, ge=1, le=100, description="batches")
    pause: float = Option(default=0.0, ge=0, le=100, description="seconds a batch")


class LinearSampler(Sampler):
    def __init__(self, spec, weights):
        self.spec, self.weights = spec, weights

    def sample(self, observation, n, *, seeds):
        x = observation[self.spec.observables[0].name].flatten(1).double()
        event(f"sample {len(x)}x{n}")
        mean = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) @ self.weights["slope"]
        noise = normals(seeds, (n, mean.shape[1])).double().transpose(0, 1)
        return Draws.unjudged({"theta": (mean + noise @ self.weights["root"].T).float()})


class Linear(Estimator[LinearOptions]):
    def match(self, spec):
        if not spec.vectors:
            raise UnsupportedError("Linear infers vectors.")
        return spec.select(*(v.name for v in spec.vectors))

    def fit(self, simulations, *, seed, workspace, monitor):
        checkpoint = workspace.folder / "step.json" if workspace.folder else None
        start = json.loads(checkpoint.read_text())["step"] if checkpoint and checkpoint.exists() else 0
        with monitor.progress("training", self.options.steps, start) as advance:
            for step in range(start, self.options.steps):
                event(f"fit {step}")
                time.sleep(self.options.pause)
                monitor.log(step=step, loss=1.0 / (step + 1), simulations=(step + 1) * 500)
                if checkpoint:
                    checkpoint.write_text(json.dumps({"step": step + 1}))
                advance(1)
        draws = simulations.training(0, 500 * self.options.steps)
        x = draws[simulations.spec.observables[0].name].flatten(1)
        x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
        slope = torch.linalg.lstsq(x, draws["theta"].double()).solution
        residual = draws["theta"].double() - x @ slope
        root = torch.linalg.cholesky(residual.T @ residual / len(x))
        return LinearSampler(self.match(simulations.spec), {"slope": slope, "root": root})

    def save(self, sampler, folder):
        save_file({k: v.contiguous() for k, v in sampler.weights.items()}, folder / "weights.safetensors")

    def load(self, folder, simulator, *, device):
        return LinearSampler(self.match(simulator.spec), load_file(folder / "weights.safetensors"))


class ExactDraws(Sampler):
    def __init__(self, simulator, doubtful):
        self.spec, self.exact, self.doubtful = simulator.spec, simulator.exact_sampler(), doubtful

    def sample(self, observation, n, *, seeds):
        x = observation[self.spec.observables[0].name]
        event(f"reference {len(x)}x{n}")
        values = self.exact.sample(observation, n, seeds=seeds).values
        return Draws(values, tuple(self.trust(float(one.sum())) for one in x))

    def trust(self, total):
        stuck = total > self.doubtful
        r_hat = math.inf if total > 2 * self.doubtful else 1.2 if stuck else 1.0
        found = (Reading("R-hat", r_hat, 1.1), Reading("steps", 7.0, worse="lower"))
        return Trust(not stuck, found, ("R-hat is too large",) if stuck else ())


class Exact(ExactSampler):
    def posterior(self, simulator, *, monitor, device="cpu"):
        if not supports(simulator, SupportsLogDensity):
            raise UnsupportedError("no density")
        return ExactDraws(simulator, math.inf)


class ChainsOptions(Options):
    doubtful: float = Option(default=1e9, description="sum of the data beyond which chains do not converge")


class Chains(ExactSampler[ChainsOptions]):
    def posterior(self, simulator, *, monitor, device="cpu"):
        return ExactDraws(simulator, self.options.doubtful)


class BlindDraws(Sampler):
    def __init__(self, simulator):
        self.spec = simulator.spec.select("field")

    def sample(self, observation, n, *, seeds):
        raise AssertionError


class Blind(ExactSampler):
    def posterior(self, simulator, *, monitor, device="cpu"):
        return BlindDraws(simulator)


class Mean(Validator):
    def validate(self, evidence, *, seed):
        event("validate")
        metrics = []
        for variable in evidence.spec.latents:
            error = (evidence.draws[variable.name].mean(0) - evidence.truth[variable.name]).mean()
            metrics.append(Metric("mean", variable.name, float(error), 0.1, 0.0, "pass", "bias"))
        return Report("toy-mean", tuple(metrics))


class AgreementOptions(Options):
    margin: float = Option(default=0.5, gt=0, description="how far above its floor an offset may be")


class Agreement(Validator[AgreementOptions]):
    needs_reference = True

    def validate(self, evidence, *, seed):
        found = evidence.comparison
        event("compare " + ",".join(str(row) for row in found.rows))
        metrics = []
        for name, draws in found.draws.items():
            first, second = found.exact[name].chunk(2)
            scale = found.exact[name].std(0)
            offset = float(((draws.mean(0) - first.mean(0)) / scale).abs().mean())
            floor = float(((second.mean(0) - first.mean(0)) / scale).abs().mean())
            verdict = "pass" if offset < floor + self.options.margin else "fail"
            metrics.append(Metric("offset", name, offset, 0.1, 0.0, verdict, "of means", floor, 0.1))
        return Report("toy-agreement", tuple(metrics))
'''

NEEDS = "import a_library_that_is_not_there\n"


def install(
    folder: Path,
    distribution: str,
    entries: dict[str, str],
    modules: dict[str, str],
    requires: Sequence[str] = (),
) -> None:
    """Write a distribution that `importlib.metadata` finds once `folder` is on sys.path.

    Args:
        folder: what goes on sys.path.
        distribution: its name.
        entries: entry point -> module, of group `sbikit`.
        modules: path of a file -> its text.
        requires: what it says that it needs.
    """
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{needs}")
    lines = [f"{name} = {module}\n" for name, module in entries.items()]
    (info / "entry_points.txt").write_text("[sbikit]\n" + "".join(lines))
    for path, text in modules.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def install_toys(folder: Path) -> None:
    """The distribution `sbikit-toybox`: toy, toy-linear, toy-exact, toy-mean and their kin."""
    install(
        folder,
        "sbikit-toybox",
        {"toybox": "sbikit_toybox"},
        {
            "sbikit_toybox/__init__.py": INIT,
            "sbikit_toybox/parts.py": PARTS,
            "sbikit_toybox/needs.py": NEEDS,
        },
    )


def offering(hook: str, name: str, target: str, extra: str = "") -> str:
    """Text of a module with one offer."""
    return (
        "from sbikit import Offer, hookimpl\n\n"
        f"@hookimpl\ndef {hook}():\n    return [Offer({name!r}, {target!r}, 'something', {extra!r})]\n"
    )


def keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shipped validator is brought along by a reference: no test of runs waits for a classifier."""
    offers = [replace(offer, with_reference=False) for offer in sbikit_calibration.sbikit_validators()]

    @hookimpl
    def sbikit_validators() -> list[Offer]:
        return offers

    monkeypatch.setattr(sbikit_calibration, "sbikit_validators", sbikit_validators)
