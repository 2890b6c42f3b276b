"""NPE against exact posteriors, its checkpoints, and its refusals."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from torch import Tensor
from torch.distributions import constraints

from sbikit import (
    CheckpointError,
    Field,
    Normal,
    ObservationError,
    PluginError,
    Prior,
    QuietMonitor,
    Sampler,
    Simulations,
    Simulator,
    Spec,
    Uniform,
    UnsupportedError,
    Values,
    Vector,
    Workspace,
    draw_seeds,
)
from sbikit.learning import kept_rows, read_checkpoint, write_checkpoint
from sbikit.testing import (
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    Spoiled,
    check_estimator,
    check_sampler,
)
from sbikit_npe.embedding import Embedding, Input
from sbikit_npe.estimator import NPE
from sbikit_npe.options import NPEOptions
from sbikit_npe.sampler import NPESampler
from sbikit_npe.vector_field import VectorField

SMALL = NPEOptions(
    simulations=300, steps=18, validate_every=6, batch=50, transforms=2, hidden=16, channels=4, context=8
)


class Recorder(QuietMonitor):
    """Remembers what it was told; raises KeyboardInterrupt after `limit` validations."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.records: list[dict[str, float | int | str]] = []
        self.lines: list[str] = []

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        def advance(done: int) -> None:
            if len(self.records) >= self.limit:
                raise KeyboardInterrupt

        return nullcontext(advance)

    def log(self, **record: float | int | str) -> None:
        self.records.append(record)

    def say(self, text: str) -> None:
        self.lines.append(text)


def observe(simulator: Simulator, count: int, seed: int = 1) -> dict[str, Tensor]:
    draws = Simulations(simulator, seed).held_out(0, count)
    return {name: draws[name] for name in simulator.observed}


def sample(sampler: Sampler, observation: Values, n: int, seed: int) -> Tensor:
    count = len(next(iter(observation.values())))
    return sampler.sample(observation, n, seeds=draw_seeds(seed, "test", 0, count)).values["theta"]


def draw(sampler: NPESampler, seed: int = 0) -> Tensor:
    return sample(sampler, observe(GaussianVector(), 4), 50, seed)


def fit(
    simulator: Simulator,
    options: NPEOptions = SMALL,
    *,
    stream: int = 0,
    seed: int = 0,
    folder: Path | None = None,
    monitor: QuietMonitor | None = None,
) -> NPESampler:
    simulations = Simulations(simulator, stream)
    return NPE(options).fit(
        simulations, seed=seed, workspace=Workspace(folder), monitor=monitor or QuietMonitor()
    )


@pytest.fixture(scope="module")
def small() -> NPESampler:
    return fit(GaussianVector())


# --- exact posteriors -------------------------------------------------------------------------


def check_agreement(found: Tensor, exact: Tensor, offset: float) -> None:
    """Of draws (n, B, D): the means agree within `offset` sd (rms over B) and half of it on average over B,
    and the standard deviations within 12 % on average over B."""
    sd = exact.std(0)
    error = (found.mean(0) - exact.mean(0)) / sd
    assert (error.square().mean(0).sqrt() < offset).all()
    assert (error.mean(0).abs() < offset / 2).all()
    assert ((found.std(0) / sd).mean(0) - 1).abs().max() < 0.12


@pytest.mark.parametrize(("shift", "scale"), [(0.3, 1.0), (0.0, 0.8), (0.0, 1.25)])
def test_the_check_below_refuses_a_wrong_posterior(shift: float, scale: float) -> None:
    simulator = GaussianVector()
    observation = observe(simulator, 100)
    exact = simulator.exact_sampler()
    truth = sample(exact, observation, 1000, 2)
    spoiled = sample(Spoiled(exact, shift, scale), observation, 1000, 1)
    check_agreement(sample(exact, observation, 1000, 1), truth, 0.1)
    with pytest.raises(AssertionError):
        check_agreement(spoiled, truth, 0.25)


def test_vector_posterior_is_learned() -> None:
    simulator = GaussianVector()
    options = NPEOptions(simulations=4000, steps=230)
    sampler = fit(simulator, options, stream=1)
    observation = observe(simulator, 100)
    found = sample(sampler, observation, 1000, 1)
    exact = sample(simulator.exact_sampler(), observation, 1000, 2)
    check_agreement(found, exact, 0.2)
    correlation = torch.corrcoef(found[:, 0].T)[0, 1]
    covariance = simulator.exact_sampler().covariance
    assert abs(correlation - covariance[0, 1] / covariance.diagonal().sqrt().prod()) < 0.15


def test_field_parameters_are_learned_with_the_field_marginalised_out() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    monitor = Recorder()
    options = NPEOptions(simulations=4000, steps=290, context=32)
    sampler = fit(simulator, options, stream=1, monitor=monitor)
    assert sampler.spec == simulator.spec.select("theta")
    assert monitor.lines == ["npe: marginalised over field; only vectors are inferred"]
    observation = observe(simulator, 100)
    found = sample(sampler, observation, 500, 1)
    exact = sample(simulator.exact_sampler(), observation, 1000, 2)
    check_agreement(found, exact, 0.25)


@pytest.mark.parametrize("method", ["fmpe", "npse"])
def test_vector_fields_learn_the_posterior(method: Literal["fmpe", "npse"]) -> None:
    """Beside the exact one, as a flow; of two parameters, whose correlation is learned, too."""
    simulator = GaussianVector()
    options = NPEOptions(simulations=8000, steps=1200, method=method, solver_steps=16)
    sampler = fit(simulator, options, stream=1)
    observation = observe(simulator, 100)
    found = sample(sampler, observation, 1000, 1)
    check_agreement(found, sample(simulator.exact_sampler(), observation, 1000, 2), 0.25)
    correlation = torch.corrcoef(found[:, 0].T)[0, 1]
    covariance = simulator.exact_sampler().covariance
    assert abs(correlation - covariance[0, 1] / covariance.diagonal().sqrt().prod()) < 0.15


@pytest.mark.parametrize("method", ["fmpe", "npse"])
def test_a_solver_takes_noise_to_a_normal_law_that_is_known(method: Literal["fmpe", "npse"]) -> None:
    """With the exact field of coordinates that are normal with mean m and spread s whatever the data say."""
    m, s = 0.7, 0.3

    class Exact(torch.nn.Module):
        def forward(self, at: Tensor, context: Tensor, t: Tensor) -> Tensor:
            t = t.double()[:, None]
            if method == "fmpe":
                a, b = 1 - t, t
            else:
                a, b = torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)
            gain = b / (a**2 * s**2 + b**2)  # of e given u_t
            noise = gain * (at.double() - a * m)
            if method == "npse":
                return noise.to(at.dtype)
            value = m + a * s**2 / (a**2 * s**2 + b**2) * (at.double() - a * m)
            return (noise - value).to(at.dtype)

    field = VectorField(SimpleNamespace(net=Exact(), embedding_net=torch.nn.Identity()), method, 64)
    noise = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    # 2 % of s; for npse .0026 of it, m s / 80, is that the highest level is not infinite
    torch.testing.assert_close(field.solve(noise, torch.zeros(1, 1)), m + s * noise, rtol=0, atol=7e-3)


@pytest.mark.parametrize("method", ["fmpe", "npse"])
def test_a_vector_field_goes_on_and_is_kept_as_a_flow_is(
    method: Literal["fmpe", "npse"], tmp_path: Path
) -> None:
    options = NPEOptions(simulations=500, steps=40, validate_every=10, method=method, solver_steps=4)
    whole = fit(GaussianVector(), options)
    with pytest.raises(KeyboardInterrupt):
        fit(GaussianVector(), options, folder=tmp_path, monitor=Recorder(limit=2))
    resumed = fit(GaussianVector(), options, folder=tmp_path)
    observation = observe(GaussianVector(), 3)
    drawn = [sample(sampler, observation, 5, 1) for sampler in (whole, resumed)]
    assert torch.equal(*drawn)
    NPE(options).save(whole, tmp_path)
    kept = NPE().load(tmp_path, GaussianVector(), device=torch.device("cpu"))
    assert torch.equal(sample(kept, observation, 5, 1), drawn[0])
    check_sampler(whole, observation)


@pytest.mark.slow
def test_a_classifier_cannot_tell_the_vector_posterior_from_the_exact_one() -> None:
    from sbi.utils.metrics import c2st

    simulator = GaussianVector()
    sampler = fit(simulator, NPEOptions(), stream=1)
    observation = observe(simulator, 3)
    found = sample(sampler, observation, 2000, 1)
    exact = sample(simulator.exact_sampler(), observation, 2000, 2)
    for b in range(3):
        assert float(c2st(found[:, b], exact[:, b], classifier="mlp")) < 0.55


# --- what goes in and comes out ---------------------------------------------------------------


class Assorted(Simulator):
    """Grids of several sizes and dimensions with summaries, vectors beside, a bounded hidden vector."""

    prior = Prior({"a": Uniform(1.0, 2.0), "b": Normal(0.0, 1.0)})
    outputs = (
        Vector("hidden", ("h1", "h2"), support=constraints.positive),
        Field("line", (7,)),
        Field("plane", (5, 8), channels=2),
        Field("second", (5, 8)),
        Field("cube", (4, 4, 6)),
        Vector("x", ("x",)),
    )
    observed = ("line", "plane", "second", "cube", "x")

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        theta = parameters["theta"]
        out = {"hidden": torch.exp(theta), "x": theta[:, :1]}
        for variable in self.outputs:
            if isinstance(variable, Field):
                extra = (None,) * len(variable.shape)
                out[variable.name] = theta[(slice(None), 0, *extra)].expand(-1, *variable.shape).clone()
        return out

    def summaries(self, values: Values) -> dict[str, Tensor]:
        return {"gradient": values["plane"].diff(dim=-1, append=values["plane"][..., :1])}


def test_every_kind_of_variable_goes_in_and_stays_in_its_support() -> None:
    simulator = Assorted()
    sampler = fit(simulator)
    assert Input("summary gradient", (2, 5, 8)) in sampler.inputs
    draws = sampler.sample(observe(simulator, 2), 200, seeds=draw_seeds(0, "test", 0, 2)).values
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "theta": (200, 2, 2),
        "hidden": (200, 2, 2),
    }
    assert (draws["hidden"] > 0).all()
    assert ((draws["theta"][..., 0] >= 1) & (draws["theta"][..., 0] <= 2)).all()


def test_of_a_stationary_field_the_embedding_does_not_see_where_things_are() -> None:
    """Circular padding and global means: a shift by the coarsest stride changes nothing."""
    seen = Input("map", (2, 16, 16), stationary=True, periodic=True)
    embedding = Embedding((seen,), channels=4, width=8)
    maps = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    moved = maps.roll((4, 8), (-2, -1))
    assert torch.allclose(embedding(maps.flatten(1)), embedding(moved.flatten(1)), atol=1e-6)
    assert not torch.allclose(embedding(maps.flatten(1)), embedding(2 * maps.flatten(1)), atol=1e-3)


def test_units_do_not_matter() -> None:
    """Data a billion times smaller: the scales are learned."""

    class Tiny(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
            return {"x": super().simulate(parameters, seeds=seeds)["x"] * 1e-9}

    tiny = fit(Tiny())
    plain = fit(GaussianVector())
    found = sample(tiny, {"x": observe(GaussianVector(), 4)["x"] * 1e-9}, 50, 0)
    assert torch.allclose(found, draw(plain), atol=1e-2)


def test_draws_depend_on_seed_and_observation_alone(small: NPESampler) -> None:
    """Not on row, batch or number of draws."""
    observation = observe(GaussianVector(), 4)
    seeds = draw_seeds(0, "test", 0, 4)
    both = small.sample(observation, 50, seeds=seeds).values["theta"]
    alone = small.sample({"x": observation["x"][2:3]}, 20, seeds=seeds[2:3]).values["theta"]
    assert torch.allclose(both[:20, 2:3], alone, atol=1e-5)
    assert not torch.equal(both, draw(small, seed=1))


def test_keeps_the_contract() -> None:
    longer = {"simulations": 600, "steps": 150, "learning_rate": 5e-3}  # enough to learn something
    check_estimator(NPE(SMALL.model_copy(update=longer)))


# --- resuming ---------------------------------------------------------------------------------


def test_an_interrupted_fit_goes_on_and_ends_where_the_other_does(tmp_path: Path, small: NPESampler) -> None:
    batches = 6  # between two looks at the validation loss
    first = Recorder(limit=2)
    with pytest.raises(KeyboardInterrupt):
        fit(GaussianVector(), folder=tmp_path, monitor=first)
    assert [record["step"] for record in first.records] == [batches, 2 * batches]
    second = Recorder()
    resumed = fit(GaussianVector(), folder=tmp_path, monitor=second)
    assert [record["step"] for record in second.records] == [3 * batches]
    assert "training goes on at step 12 of 18" in second.lines
    assert torch.equal(draw(resumed), draw(small))
    third = Recorder()
    assert torch.equal(draw(fit(GaussianVector(), folder=tmp_path, monitor=third)), draw(small))
    assert third.records == []


def test_simulations_that_an_interrupted_fit_made_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_rows, "_KEEP_SECONDS", 0.0)
    options = SMALL.model_copy(update={"simulations": 1200})
    whole = fit(GaussianVector(), options)
    with pytest.raises(Interrupted):
        fit(GaussianVector(), options, folder=tmp_path, monitor=CuttingMonitor(1024, "simulating"))
    again = CuttingMonitor()
    assert torch.equal(draw(fit(GaussianVector(), options, folder=tmp_path, monitor=again)), draw(whole))
    assert again.starts["simulating"] == 1024


@pytest.mark.parametrize("change", ["options", "seed", "stream"])
def test_the_checkpoint_of_another_fit_is_not_gone_on_with(tmp_path: Path, change: str) -> None:
    fit(GaussianVector(), folder=tmp_path)
    options = SMALL.model_copy(update={"learning_rate": 0.1}) if change == "options" else SMALL
    seed, stream = int(change == "seed"), int(change == "stream")
    with pytest.raises(CheckpointError, match="other options, another seed or another problem"):
        fit(GaussianVector(), options, stream=stream, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("name", ["training", "pairs-000000000000"])
def test_a_damaged_checkpoint_is_not_gone_on_with(tmp_path: Path, name: str) -> None:
    fit(GaussianVector(), folder=tmp_path)
    file = tmp_path / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(GaussianVector(), folder=tmp_path)


def test_training_stops_early_and_keeps_the_best_weights() -> None:
    options = SMALL.model_copy(update={"steps": 400, "patience": 3, "learning_rate": 0.02})
    monitor = Recorder()
    sampler = fit(GaussianVector(), options, monitor=monitor)
    losses = [float(record["validation_loss"]) for record in monitor.records]
    assert 6 * len(losses) < 400
    assert len(losses) - 1 - int(np.argmin(losses)) >= 3
    assert losses[-1] < losses[0]
    draws = Simulations(GaussianVector(), 0).training(240, 60)
    with torch.no_grad():
        coordinates = sampler.coordinates.encode(draws)
        loss = sampler.flow.loss(coordinates, sampler.reader.rows(draws)).mean()
    assert float(loss) == pytest.approx(min(losses), rel=1e-5)


# --- saving and loading -----------------------------------------------------------------------


@pytest.fixture
def saved(small: NPESampler, tmp_path: Path) -> Iterator[Path]:
    NPE(SMALL).save(small, tmp_path / "fit")
    yield tmp_path / "fit"
    shutil.rmtree(tmp_path)


def load(folder: Path, simulator: Simulator | None = None) -> NPESampler:
    # The estimator's own options are the defaults: the folder's must win.
    return NPE().load(folder, simulator or GaussianVector(), device=torch.device("cpu"))


def test_a_saved_sampler_draws_the_same(small: NPESampler, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["npe.safetensors"]
    assert torch.equal(draw(load(saved)), draw(small))


@pytest.mark.parametrize("damage", ["missing", "truncated", "one bit changed", "options changed"])
def test_a_damaged_folder_is_refused(saved: Path, damage: str) -> None:
    path = saved / "npe.safetensors"
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    if damage == "one bit changed":
        data[-20] ^= 1
        path.write_bytes(data)
    if damage == "options changed":
        assert rb"\"hidden\": 16" in data
        path.write_bytes(data.replace(rb"\"hidden\": 16", rb"\"hidden\": 17"))
    with pytest.raises(CheckpointError, match=r"cannot be read|no weights") as caught:
        load(saved)
    assert path.name in caught.value.where


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 17}, "other options"),
        ({"hidden": "os.system"}, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_options_that_do_not_fit_the_weights_are_refused(saved: Path, options: object, message: str) -> None:
    path = saved / "npe.safetensors"
    kept = read_checkpoint(path, "npe 3")
    changed = {**kept.header["options"], **options} if isinstance(options, dict) else options
    write_checkpoint(path, "npe 3", kept.parts, {**kept.header, "options": changed})
    with pytest.raises(CheckpointError, match=message):
        load(saved)


def test_another_prior_is_another_problem(saved: Path) -> None:
    class Wider(GaussianVector):
        prior = Prior({"a": Normal(1.0, 0.6), "b": Normal(-2.0, 1.5)})

    with pytest.raises(CheckpointError, match="another problem: its prior differ"):
        load(saved, Wider())


# --- refusals ---------------------------------------------------------------------------------


def test_a_problem_without_vectors_is_refused() -> None:
    spec = Spec((Field("f", (4,)),), (Vector("x", ("x",)),))
    with pytest.raises(UnsupportedError, match="has none to infer") as caught:
        NPE().match(spec)
    assert "diffusion-transformer" in caught.value.fix


def test_missing_sbi_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sbi.neural_nets", None)
    with pytest.raises(PluginError, match="needs sbi") as caught:
        fit(GaussianVector())
    assert caught.value.fix == "pip install 'sbikit[npe]'"


def test_fields_of_four_dimensions_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="4 dimensions"):
        Embedding((Input("f", (1, 2, 2, 2, 2)),), channels=2, width=2)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({}, "missing or has the wrong shape"),
        ({"x": torch.zeros(2, 4)}, "missing or has the wrong shape"),
        ({"x": torch.full((1, 3), torch.nan)}, "not finite"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(
    small: NPESampler, observation: Values, message: str
) -> None:
    with pytest.raises(ObservationError, match=message):
        small.sample(
            observation, 10, seeds=draw_seeds(0, "test", 0, max(map(len, observation.values()), default=1))
        )
