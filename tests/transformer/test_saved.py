"""A transformer of masked maps: its network knows the mask, and it writes two files, of no use alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sbikit import (
    CheckpointError,
    QuietMonitor,
    Sampler,
    Simulations,
    Simulator,
    SupportsMasks,
    Workspace,
    draw_seeds,
    load,
)
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

FEW = TransformerOptions(
    steps=4, width=32, depth=1, batch=4, guide_simulations=256, law_simulations=512, evaluations=4
)


def masked() -> Simulator:
    """Log-normal shear on 16 x 16 pixels, of which an edge is masked."""
    options = {"size": 16, "extent": 2.5, "mask": {"density": 0.0, "radius": 1.0, "edge": 10.0}}
    made = load("simulator", "lognormal", **options)
    assert isinstance(made, Simulator)
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sampler, Path]:
    transformer, folder = DiffusionTransformer(FEW), tmp_path_factory.mktemp("saved")
    simulations = Simulations(masked(), 0)
    sampler = transformer.fit(simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor())
    transformer.save(sampler, folder)
    return sampler, folder


def test_both_files_draw_what_was_saved(saved: tuple[Sampler, Path]) -> None:
    sampler, folder = saved
    assert {file.name for file in folder.iterdir()} == {"weights.safetensors", "components.safetensors"}
    simulator = masked()
    found = DiffusionTransformer(FEW).load(folder, simulator, device=torch.device("cpu"))
    observation = {"shear": Simulations(simulator, 0).held_out(0, 2)["shear"]}
    seeds = draw_seeds(1, "test", 0, 2)
    before, after = (made.sample(observation, 3, seeds=seeds).values for made in (sampler, found))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0.0, atol=0.0)


def test_the_network_of_the_field_sees_the_mask(saved: tuple[Sampler, Path]) -> None:
    """Another mask beside the same guide and data, and the field is denoised otherwise."""
    simulator = masked()
    found = DiffusionTransformer(FEW).load(saved[1], simulator, device=torch.device("cpu"))
    denoiser = found.denoiser
    assert isinstance(simulator, SupportsMasks)
    hidden = ~simulator.masks()["shear"]
    torch.testing.assert_close(denoiser.places, hidden[:1].float())
    values = Simulations(simulator, 0).held_out(0, 2)
    field, u = denoiser.encode(values)
    condition, log_sigma = denoiser.condition(values), torch.zeros(2)
    with torch.no_grad():
        before, _ = denoiser.denoise_field(field, u, log_sigma, condition)
        guess = denoiser.guess_field(field, u, log_sigma, condition).field
        denoiser.places.zero_()
        after, _ = denoiser.denoise_field(field, u, log_sigma, condition)
        again = denoiser.guess_field(field, u, log_sigma, condition).field
    torch.testing.assert_close(again, guess, rtol=0.0, atol=0.0)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", ["weights.safetensors", "components.safetensors"])
@pytest.mark.parametrize("spoil", ["remove", "truncate"])
def test_one_file_without_the_other_is_refused(
    saved: tuple[Sampler, Path], tmp_path: Path, name: str, spoil: str
) -> None:
    for file in saved[1].iterdir():
        content = file.read_bytes()
        if file.name != name:
            (tmp_path / file.name).write_bytes(content)
        elif spoil == "truncate":
            (tmp_path / file.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="weights") as refused:
        DiffusionTransformer(FEW).load(tmp_path, masked(), device=torch.device("cpu"))
    assert name in str(refused.value)
