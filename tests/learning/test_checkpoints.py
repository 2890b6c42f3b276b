"""Checkpoints: what is written comes back, and what is damaged or not ours is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sbikit import CheckpointError, Normal, Prior
from sbikit.learning import (
    Standardise,
    describe_problem,
    fingerprint,
    read_checkpoint,
    seen_by_networks,
    write_checkpoint,
)
from sbikit.storage import write_tensors
from sbikit.testing import GaussianField, GaussianVector

PARTS = {
    "a": {"x.y": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
    "b": {"count": torch.tensor(3), "none": torch.zeros(0, 4), "flag": torch.tensor([True, False])},
}
HEADER = {"options": {"rate": 0.1}, "names": ("p", "q")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "deep" / "file.safetensors", "mine 1", PARTS, HEADER)
    return tmp_path / "deep" / "file.safetensors"


def test_what_is_written_comes_back(path: Path) -> None:
    kept = read_checkpoint(path, "mine 1")
    assert kept.header == {"options": {"rate": 0.1}, "names": ["p", "q"], "format": "mine 1"}
    assert {part: set(state) for part, state in kept.parts.items()} == {p: set(s) for p, s in PARTS.items()}
    for part, state in PARTS.items():
        for name, value in state.items():
            assert kept.parts[part][name].dtype == value.dtype
            assert torch.equal(kept.parts[part][name], value)


def test_every_changed_bit_of_the_tensors_is_found(path: Path) -> None:
    data = path.read_bytes()
    first = 8 + int.from_bytes(data[:8], "little")  # where the tensors begin
    for place in range(first, len(data)):
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << (place % 8)
        path.write_bytes(spoiled)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(path, "mine 1")


def test_a_changed_header_is_found(path: Path) -> None:
    data = path.read_bytes()
    assert b"0.1" in data
    path.write_bytes(data.replace(b"0.1", b"0.2"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path, "mine 1")


def test_another_format_is_told_from_damage(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a format that this version does not know"):
        read_checkpoint(path, "mine 2")
    write_tensors(tmp_path / "old.safetensors", PARTS["a"], {"format": 1})
    with pytest.raises(CheckpointError, match="a format that this version does not know"):
        read_checkpoint(tmp_path / "old.safetensors", "mine 2")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights") as caught:
        read_checkpoint(tmp_path / "nothing.safetensors", "mine 1")
    assert caught.value.fix == "fit the estimator first"


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_checkpoint(path, "mine 1", {"net": nn.Linear(2, 3).state_dict()}, {})
    kept = read_checkpoint(path, "mine 1")
    layer = nn.Linear(2, 3)
    kept.restore("net", layer)
    assert torch.equal(layer.weight, kept.parts["net"]["weight"])
    for module, part in ((nn.Linear(3, 3), "net"), (nn.Linear(2, 3), "other")):
        with pytest.raises(CheckpointError, match="another problem or other options"):
            kept.restore(part, module)
    kept.restore("other", nn.SiLU())


def test_another_problem_is_refused_by_name(tmp_path: Path) -> None:
    class Wider(GaussianVector):
        prior = Prior({"a": Normal(1.0, 0.6), "b": Normal(-2.0, 1.5)})

    path = tmp_path / "file.safetensors"
    right = GaussianVector()
    problem = describe_problem(right, right.spec)
    write_checkpoint(path, "mine 1", {}, {"problem": problem, "identity": fingerprint(problem, 1)})
    kept = read_checkpoint(path, "mine 1")
    kept.check_problem(problem)
    kept.check_identity(fingerprint(problem, 1))
    for other, key in ((Wider(), "prior"), (GaussianField(), "latents")):
        with pytest.raises(CheckpointError, match=f"another problem: its {key} differ"):
            kept.check_problem(describe_problem(other, other.spec))
    with pytest.raises(CheckpointError, match="other options, another seed or another problem"):
        kept.check_identity(fingerprint(problem, 2))


def test_a_law_without_words_is_told_by_its_class() -> None:
    class Plain(Normal):
        __repr__ = object.__repr__

    class Mine(GaussianVector):
        def __init__(self) -> None:
            super().__init__()
            self.prior = Prior({"a": Plain(0.0, 1.0)})

    first, second = (describe_problem(mine, mine.spec)["prior"] for mine in (Mine(), Mine()))
    assert first == second
    assert "Plain" in first["a"]


def test_a_channel_that_never_varies_is_left_alone() -> None:
    x = torch.stack(
        [torch.full((50, 4), 1e6), torch.randn(50, 4, generator=torch.Generator().manual_seed(0))], 1
    )
    scale = Standardise(2)
    scale.fit(x)
    assert float(scale(x)[:, 0].abs().max()) == 0.0
    torch.testing.assert_close(scale(x)[:, 1].std(), torch.tensor(1.0))


def test_networks_see_observables_and_summaries_by_name() -> None:
    class Summed(GaussianField):
        def summaries(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"data": 2 * values["data"]}

    seen = seen_by_networks(
        Summed(), Summed().spec, {"data": torch.ones(2, 1, 16, 16), "other": torch.ones(1)}
    )
    assert list(seen) == ["data", "summary data"]
    assert torch.equal(seen["summary data"], 2 * seen["data"])


@pytest.mark.parametrize("fact", ["stationary", "periodic"])
def test_a_field_of_which_another_fact_is_true_is_another_problem(fact: str) -> None:
    toy = GaussianField()
    other = GaussianField()
    other.outputs = tuple(replace(field, **{fact: False}) for field in toy.outputs)
    one, two = (describe_problem(simulator, simulator.spec) for simulator in (toy, other))
    assert one["latents"] != two["latents"]
    assert one["observables"] != two["observables"]
    assert fingerprint(one) != fingerprint(two)
    other.summarised = (replace(toy.outputs[0], name="mean"),)
    assert describe_problem(other, other.spec)["summaries"] != one["summaries"]
