"""The diffusion transformer: its parts against closed forms, its draws against exact posteriors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    CheckpointError,
    Field,
    Normal,
    Prior,
    QuietMonitor,
    Sampler,
    Simulations,
    Simulator,
    UnsupportedError,
    Values,
    Workspace,
    draw_seeds,
    generator,
    load,
    normals,
)
from sbikit.fields import Rings
from sbikit.learning import kept_rows
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, check_sampler
from sbikit_transformer import sampler as samplers
from sbikit_transformer import training
from sbikit_transformer.bounds import harden, soften
from sbikit_transformer.conditions import Condition
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser, patch_size
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.guide import Guide
from sbikit_transformer.network import patchify, unpatchify
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.teaching import numbers_of_law

SMALL = TransformerOptions(
    steps=300, width=32, depth=2, guide_simulations=4096, guide_nodes=64, evaluations=20, sigma_min=0.03
)


def draw(sampler: Sampler, observation: Values, n: int, seed: int) -> dict[str, Tensor]:
    count = len(next(iter(observation.values())))
    return dict(sampler.sample(observation, n, seeds=draw_seeds(seed, "test", 0, count)).values)


# --- parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "patch"), [((12,), (4,)), ((8, 12), (4, 3)), ((4, 6, 8), (2, 3, 4))])
def test_patches_are_undone(grid: tuple[int, ...], patch: tuple[int, ...]) -> None:
    field = torch.randn(3, 2, *grid, generator=generator(0))
    tokens = patchify(field, patch)
    assert torch.equal(unpatchify(tokens, grid, patch), field)
    corner = field[0, 1][tuple(slice(p) for p in patch)].flatten()
    assert torch.equal(tokens[0, 0, -len(corner) :], corner)


def test_a_patch_divides_the_grid() -> None:
    assert patch_size((32, 30, 7), 4) == (4, 3, 1)


@pytest.mark.parametrize("grid", [(16,), (16, 16), (9, 12)])
def test_shells_hold_all_modes_and_all_power(grid: tuple[int, ...]) -> None:
    rings = Rings.shells(grid)
    field = torch.randn(5, *grid, generator=generator(1))
    modes = rings.transform(field)
    torch.testing.assert_close(rings.inverse(modes), field)
    assert int(rings.count.sum()) == field[0].numel()
    torch.testing.assert_close(rings.power(modes, modes).sum(-1), field.flatten(1).square().sum(-1))


def test_the_soft_bound_is_undone_and_kept() -> None:
    low, c = torch.tensor(-0.02), torch.tensor(0.01)
    x = torch.linspace(-0.0199, 0.3, 100)
    torch.testing.assert_close(harden(soften(x, low, c), low, c), x)
    far = harden(torch.linspace(-5.0, 5.0, 100), low, c)
    assert bool((far >= low).all())


class Skewed(Simulator):
    """A positive field whose level depends strongly on the parameter, with no bound declared."""

    prior = Prior({"level": Normal(0.0, 1.0)})
    outputs = (Field("x", (8,)), Field("d", (8,)))
    observed = ("d",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = normals(seeds, (2, 1, 8))
        x = torch.exp(parameters["theta"][:, :, None] + 0.5 * noise[:, 0])
        return {"x": x, "d": x + 0.1 * noise[:, 1]}


def test_a_skewed_field_is_made_even_and_comes_back() -> None:
    simulator = Skewed()
    values = Simulations(simulator, 0).training(0, 512)
    denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    fit_constants(denoiser, [values])
    y, u = denoiser.encode(values)

    def skewness(x: Tensor) -> float:
        return float(((x - x.mean()) / x.std()).pow(3).mean())

    assert skewness(values["x"]) > 2.0
    assert abs(skewness(y)) < 1.0
    torch.testing.assert_close(denoiser.decode((y, u))["x"], values["x"], rtol=1e-3, atol=1e-3)
    assert bool((denoiser.decode((y - 20.0, u))["x"] > -1.0).all())


# --- the guide ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy() -> tuple[GaussianField, dict[str, Tensor], Denoiser]:
    """The Gaussian field, 64 held-out draws, and a denoiser of which only the guide is fitted."""
    simulator = GaussianField()
    simulations = Simulations(simulator, 0)
    denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=64)
    fit_constants(denoiser, [simulations.training(0, 4096)])
    return simulator, simulations.held_out(0, 64), denoiser


def test_the_guides_law_and_field_are_exact_of_a_gaussian_field(
    toy: tuple[GaussianField, dict[str, Tensor], Denoiser],
) -> None:
    """Before anything is learned: moments of the scalars given data, and of the field over exact scalars."""
    simulator, values, denoiser = toy
    n = 512
    exact = draw(simulator.exact_sampler(), {"data": values["data"]}, n, 5)
    flat = {name: value.flatten(0, 1) for name, value in exact.items()}
    y, u = (part.unflatten(0, (n, -1)) for part in denoiser.encode(flat))

    def offset(told: Condition) -> float:
        return float(((told.law.whole().mean - u.mean(0)) / u.std(0)).square().mean().sqrt())

    told = denoiser.condition(values)
    assert offset(told) < 0.15  # 0.044 of it is the Monte-Carlo error of the exact mean
    assert float((told.law.whole().sd / u.std(0)).mean() - 1.0) == pytest.approx(0.0, abs=0.05)
    assert offset(denoiser.condition({**values, "data": values["data"].roll(1, 0)})) > 1.0
    many = told.repeat(n)
    order = u.transpose(0, 1).flatten(0, 1)
    noise = 150.0 * torch.randn(len(order), *y.shape[2:], generator=generator(4))
    assert denoiser.guide is not None
    guess = denoiser.guide(noise, order, many.modes, many.vectors, torch.full((len(order),), 150.0))
    rms = (guess.field.unflatten(0, (-1, n)).mean(1) - y.mean(0)).square().mean().sqrt()
    assert rms < 0.06 * y.std(0).mean() + y.std(0).mean() / n**0.5


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_the_guides_field_is_the_wiener_filter_of_noisy_field_and_data(
    toy: tuple[GaussianField, dict[str, Tensor], Denoiser], sigma: float
) -> None:
    """Two noisy looks at a Gaussian field of known spectrum: weights of a mode are inverse variances."""
    simulator, values, denoiser = toy
    y, u = denoiser.encode(values)
    noisy = y + sigma * torch.randn(y.shape, generator=generator(5))
    told = denoiser.condition(values)
    assert denoiser.guide is not None
    guess = denoiser.guide(noisy, u, told.modes, told.vectors, torch.full((len(u),), sigma))
    seen = denoiser.decode((noisy, u))["field"]
    noise = (sigma * float(denoiser.field_map.sd * denoiser.field_map.unit)) ** 2
    waves = torch.fft.fftfreq(16, 1.0 / 16, dtype=torch.float64)
    power = simulator.power(values["theta"], waves[:, None] ** 2 + waves**2)[:, None]
    variance = 1.0 / (1.0 / power + 1.0 / noise + 1.0 / simulator.noise_power)
    modes = torch.fft.fft2(seen) / noise + torch.fft.fft2(values["data"]) / simulator.noise_power
    exact = torch.fft.ifft2(variance * modes).real
    sd = variance.mean((-2, -1)).sqrt()[..., None, None]
    found = denoiser.decode((guess.field, u))["field"]
    assert float(((found - exact) / sd).square().mean().sqrt()) < 0.1  # from 4,096 simulations
    error = guess.error * denoiser.field_map.sd.flatten() * denoiser.field_map.unit
    torch.testing.assert_close(error.double(), sd[..., 0, 0], rtol=0.05, atol=0)


# --- the estimator --------------------------------------------------------------------------


Judged = tuple[Simulator, dict[str, Tensor], dict[str, Tensor]]


def _judge(simulator: GaussianVector | GaussianField) -> Judged:
    """The simulator, 256 draws for 16 held-out observations, and four times as many exact ones."""
    simulations = Simulations(simulator, 0)
    sampler = DiffusionTransformer(SMALL).fit(
        simulations, seed=1, workspace=Workspace(), monitor=QuietMonitor()
    )
    held_out = simulations.held_out(0, 16)
    return simulator, draw(sampler, held_out, 256, 2), draw(simulator.exact_sampler(), held_out, 1024, 3)


@pytest.fixture(scope="module")
def judged_field() -> Judged:
    return _judge(GaussianField())


def _agree(judged: Judged) -> None:
    _, draws, exact = judged
    for name, reference in exact.items():
        mean, sd = reference.mean(0), reference.std(0)
        offset = (draws[name].mean(0) - mean) / sd
        noise = (1.0 / 256 + 1.0 / 1024) ** 0.5
        assert float(offset.square().mean().sqrt()) < 0.15 + noise, name
        assert float((draws[name].std(0) / sd).mean()) == pytest.approx(1.0, abs=0.08), name


def test_draws_follow_the_exact_posterior_of_a_vector() -> None:
    _agree(_judge(GaussianVector()))


def test_draws_follow_the_exact_posterior_of_a_field(judged_field: Judged) -> None:
    _agree(judged_field)


def test_parameters_and_field_of_one_draw_belong_together(judged_field: Judged) -> None:
    """Within one posterior, the amplitude goes with the draw's own variance as in exact draws."""
    simulator, draws, exact = judged_field
    (latent,) = simulator.spec.fields

    def coherence(values: Values) -> float:
        a, b = values["theta"][..., 0], values[latent.name].flatten(2).var(-1).log()
        a, b = a - a.mean(0), b - b.mean(0)
        return float(((a * b).mean(0) / (a.std(0) * b.std(0))).mean())

    ideal = coherence(exact)
    assert ideal > 0.2
    assert coherence(draws) == pytest.approx(ideal, abs=0.1)
    apart = dict(draws) | {"theta": draws["theta"].roll(1, 0)}
    assert abs(coherence(apart) - ideal) > 0.15


def test_an_interrupted_training_ends_where_it_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_KEEP_SECONDS", 0.0)
    monkeypatch.setattr(training, "_LOG_EVERY", 10)
    options = SMALL.model_copy(update={"steps": 40, "guide_simulations": 256})
    simulations = Simulations(GaussianField(), 0)
    observation = simulations.held_out(0, 2)
    transformer = DiffusionTransformer(options)
    folder = Workspace(tmp_path / "cut")
    whole = transformer.fit(simulations, seed=3, workspace=Workspace(), monitor=QuietMonitor())
    with pytest.raises(Interrupted):
        transformer.fit(simulations, seed=3, workspace=folder, monitor=CuttingMonitor(cut=25))
    again = CuttingMonitor()
    resumed = transformer.fit(simulations, seed=3, workspace=folder, monitor=again)
    assert [r["step"] for r in again.records] == [30, 40]
    first = 256 + 24 * 256  # of the guide and of the law
    assert [r["simulations"] for r in again.records] == [first + 32 * 30, first + 32 * 40]
    first, second = (draw(s, observation, 3, 4) for s in (whole, resumed))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="other options, another seed or another problem"):
        transformer.fit(simulations, seed=4, workspace=folder, monitor=QuietMonitor())


@pytest.mark.parametrize(("simulator", "bounded"), [("lognormal", [True] * 3), ("gaussian", [False] * 2)])
def test_fields_depend_on_bounded_parameters_themselves(simulator: str, bounded: list[bool]) -> None:
    """Omega_m, S8 and w0 have uniform priors; those of the toy are normal."""
    problem = load("simulator", "lognormal") if simulator == "lognormal" else GaussianField()
    made = Denoiser(problem, problem.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    assert made.field_map.quadratic.bounded.tolist() == bounded
    assert isinstance(made.guide, Guide)
    assert made.guide.quadratic.bounded.tolist() == bounded


GUIDE_STAGE = "simulating for the Gaussian guide"


@pytest.mark.parametrize(
    ("title", "cut", "starts"),
    [
        (GUIDE_STAGE, 256, {GUIDE_STAGE: 0, "simulating for what data tell": 0}),
        ("simulating for what data tell", 2048, {"simulating for what data tell": 2048}),
        ("learning what data tell", 100, {"simulating for what data tell": 24 * 256}),
        ("training", 10, {"training": 0}),
    ],
)
def test_a_fit_that_is_cut_before_it_trains_goes_on_with_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, cut: int, starts: dict[str, int]
) -> None:
    monkeypatch.setattr(kept_rows, "_KEEP_SECONDS", 0.0)
    options = SMALL.model_copy(update={"steps": 20, "guide_simulations": 256})
    simulations = Simulations(GaussianField(), 0)
    transformer = DiffusionTransformer(options)
    folder = Workspace(tmp_path)
    whole = transformer.fit(simulations, seed=3, workspace=Workspace(), monitor=QuietMonitor())
    with pytest.raises(Interrupted):
        transformer.fit(simulations, seed=3, workspace=folder, monitor=CuttingMonitor(cut, title))
    kept = title != GUIDE_STAGE
    if kept:
        with pytest.raises(CheckpointError, match="other options, another seed or another problem"):
            transformer.fit(simulations, seed=4, workspace=folder, monitor=QuietMonitor())
    again = CuttingMonitor()
    resumed = transformer.fit(simulations, seed=3, workspace=folder, monitor=again)
    assert starts.items() <= again.starts.items()
    assert kept == (GUIDE_STAGE not in again.starts)
    weights = resumed.denoiser.state_dict()
    for name, value in whole.denoiser.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)


def test_no_more_simulations_teach_what_data_tell_than_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    used: list[float | int | str] = []

    class Listening(QuietMonitor):
        def say(self, text: str) -> None:
            said.append(text)

        def log(self, **record: float | int | str) -> None:
            if "loss" in record:
                used.append(record["simulations"])

    toy = GaussianField(GaussianFieldOptions(size=4))
    options = SMALL.model_copy(update={"steps": 1, "guide_simulations": 64, "law_simulations": 500})
    sampler = DiffusionTransformer(options).fit(
        Simulations(toy, 0), seed=0, workspace=Workspace(), monitor=Listening()
    )
    assert (said, used) == ([], [64 + 500 + 32])
    monkeypatch.setattr(training, "_LAW_NUMBERS", 300 * numbers_of_law(sampler.denoiser))
    DiffusionTransformer(options).fit(Simulations(toy, 0), seed=0, workspace=Workspace(), monitor=Listening())
    assert used == [64 + 500 + 32, 64 + 300 + 32]
    assert said == ["diffusion-transformer: 300 of 500 simulations teach what data tell: memory"]


@pytest.mark.parametrize(("least", "threads"), [(2**40, 1), (0, 2)])
def test_a_small_network_trains_on_one_thread(
    monkeypatch: pytest.MonkeyPatch, least: int, threads: int
) -> None:
    seen = []

    class Counting(QuietMonitor):
        def log(self, **record: float | int | str) -> None:
            seen.append(torch.get_num_threads())

    monkeypatch.setattr(training, "_LEAST_NUMBERS", least)
    options = SMALL.model_copy(update={"steps": 1, "guide_simulations": 64})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    DiffusionTransformer(options).fit(
        Simulations(GaussianVector(), 0), seed=0, workspace=Workspace(), monitor=Counting()
    )
    assert (set(seen), torch.get_num_threads()) == ({threads}, 2)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionTransformer, Path]:
    """A barely trained estimator and the folder it was saved to."""
    transformer = DiffusionTransformer(SMALL.model_copy(update={"steps": 3, "guide_simulations": 256}))
    sampler = transformer.fit(
        Simulations(GaussianField(), 0), seed=0, workspace=Workspace(), monitor=QuietMonitor()
    )
    folder = tmp_path_factory.mktemp("saved")
    transformer.save(sampler, folder)
    return transformer, folder


def test_what_is_saved_draws_the_same(fitted: tuple[DiffusionTransformer, Path]) -> None:
    transformer, folder = fitted
    simulator = GaussianField()
    sampler = transformer.load(folder, simulator, device=torch.device("cpu"))
    observation = Simulations(simulator, 0).held_out(0, 3)
    check_sampler(sampler, {"data": observation["data"]})
    fresh = transformer.fit(Simulations(simulator, 0), seed=0, workspace=Workspace(), monitor=QuietMonitor())
    a, b = (draw(s, observation, 4, 1) for s in (sampler, fresh))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_fields_given_what_was_drawn_are_those_drawn_with_it(
    fitted: tuple[DiffusionTransformer, Path],
) -> None:
    """Of the same seed: the joint draw is the vectors', then the field's given them."""
    transformer, folder = fitted
    simulator = GaussianField()
    sampler = transformer.load(folder, simulator, device=torch.device("cpu"))
    data = Simulations(simulator, 0).held_out(0, 2)["data"]
    seeds = draw_seeds(7, "x", 0, 2)
    joint = sampler.sample({"data": data}, 3, seeds=seeds).values
    conditional = sampler.given(["theta"])
    check_sampler(conditional, {"data": data, "theta": joint["theta"][0]})
    for i in range(3):
        given = {"data": data, "theta": joint["theta"][i]}
        found = conditional.sample(given, 3, seeds=seeds)
        assert set(found.values) == {"field"}
        torch.testing.assert_close(found.values["field"][i], joint["field"][i], rtol=1e-4, atol=1e-4)
        assert all(one.trustworthy for one in found.trust)


def test_what_data_rule_out_is_given_with_a_complaint(fitted: tuple[DiffusionTransformer, Path]) -> None:
    transformer, folder = fitted
    sampler = transformer.load(folder, GaussianField(), device=torch.device("cpu")).given(["theta"])
    data = Simulations(GaussianField(), 0).held_out(0, 1)["data"]
    far = {"data": data, "theta": torch.tensor([[2.5, 3.0]])}
    (trust,) = sampler.sample(far, 2, seeds=draw_seeds(7, "x", 0, 1)).trust
    assert not trust.trustworthy
    assert "from what the data let expect" in trust.complaints[0]


def test_other_conditionals_are_refused(fitted: tuple[DiffusionTransformer, Path]) -> None:
    transformer, folder = fitted
    sampler = transformer.load(folder, GaussianField(), device=torch.device("cpu"))
    with pytest.raises(UnsupportedError, match="given field"):
        sampler.given(["field"])


@pytest.mark.parametrize("spoil", ["truncate", "garbage", "remove"])
def test_damaged_weights_are_refused(
    fitted: tuple[DiffusionTransformer, Path], tmp_path: Path, spoil: str
) -> None:
    transformer, folder = fitted
    whole = (folder / "weights.safetensors").read_bytes()
    if spoil != "remove":
        broken = whole[: len(whole) // 2] if spoil == "truncate" else b"\x00" * 64
        (tmp_path / "weights.safetensors").write_bytes(broken)
    with pytest.raises(CheckpointError, match=r"weights"):
        transformer.load(tmp_path, GaussianField(), device=torch.device("cpu"))


def test_weights_of_another_problem_are_refused(fitted: tuple[DiffusionTransformer, Path]) -> None:
    transformer, folder = fitted
    with pytest.raises(CheckpointError, match="another problem"):
        transformer.load(folder, GaussianVector(), device=torch.device("cpu"))


class TwoGrids(Simulator):
    """A simulator whose latent fields have different grids."""

    prior = Prior({"a": Normal(0.0, 1.0)})
    outputs = (Field("fine", (8, 8)), Field("coarse", (4, 4)), Field("seen", (4, 4)))
    observed = ("seen",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        fine = normals(seeds, (1, 8, 8))
        coarse = torch.nn.functional.avg_pool2d(fine, 2)
        return {"fine": fine, "coarse": coarse, "seen": coarse}


def test_latent_fields_on_different_grids_are_refused_before_any_work() -> None:
    with pytest.raises(UnsupportedError, match="one grid"):
        DiffusionTransformer(SMALL).match(TwoGrids().spec)


class Wider(GaussianField):
    """The same variables with another prior."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = Prior(dict(self.prior.laws) | {"slope": Normal(3.0, 0.9)})


def test_weights_of_another_prior_are_refused(fitted: tuple[DiffusionTransformer, Path]) -> None:
    transformer, folder = fitted
    with pytest.raises(CheckpointError, match="another problem: its prior differ"):
        transformer.load(folder, Wider(), device=torch.device("cpu"))


def test_a_draw_depends_on_seed_and_observation_alone(
    fitted: tuple[DiffusionTransformer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on row, batch, number of draws, or how many are solved at once."""
    transformer, folder = fitted
    simulator = GaussianField()
    sampler = transformer.load(folder, simulator, device=torch.device("cpu"))
    data = Simulations(simulator, 0).held_out(0, 3)["data"]
    seeds = draw_seeds(7, "x", 0, 3)
    many = sampler.sample({"data": data}, 5, seeds=seeds).values
    few = sampler.sample({"data": data[1:2]}, 2, seeds=seeds[1:2]).values
    monkeypatch.setattr(samplers, "_TOKENS_AT_ONCE", 1)
    alone = sampler.sample({"data": data}, 5, seeds=seeds).values
    for name in many:
        torch.testing.assert_close(many[name][:2, 1:2], few[name], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(many[name], alone[name], rtol=1e-4, atol=1e-4)
