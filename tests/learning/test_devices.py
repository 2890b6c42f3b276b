"""Training on several devices: the loss curve of one process, each row drawn once, resumed by any number."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shared_work
import torch
from safetensors.torch import load_file
from shared_work import ROWS, STEPS, Network, Rows, mixed, trained
from team import in_two_processes
from torch import Tensor

from sbikit import Alone, PluginError, Simulations, UnsupportedError, Workspace, generator, shares
from sbikit.learning import devices
from sbikit.learning.gradients import gradients
from sbikit.testing import GaussianVector

KINDS = ("average", "best")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `shared_work.train_together` leaves."""
    folder = tmp_path_factory.mktemp("together")
    for kind in KINDS:
        (folder / f"{kind} by one").mkdir()
        (folder / f"{kind} by two").mkdir()
        trained(kind, Workspace(folder / f"{kind} by one"), cut=10)
    (folder / "measured").mkdir()
    in_two_processes(shared_work.train_together, folder)
    return folder


def weights(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if name not in ("asked", "losses")}


@pytest.mark.parametrize("at_once", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one_does(together: Path, kind: str, at_once: int | None) -> None:
    network, monitor, _ = trained(kind, Workspace())
    ranks = [load_file(together / f"{kind}-{at_once}-{rank}.safetensors") for rank in range(2)]
    losses = torch.tensor([float(record["loss"]) for record in monitor.records], dtype=torch.float64)
    assert len(losses) > 2
    for rank in ranks:
        torch.testing.assert_close(rank["losses"], losses, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(weights(rank), network.state_dict(), rtol=1e-9, atol=1e-10)
    for name, value in weights(ranks[0]).items():
        assert torch.equal(ranks[1][name], value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_drawn_once(together: Path, kind: str) -> None:
    """Of the step that has one row the second process draws that one, too: all go through the network."""
    for at_once, expected in ((None, {(0, 4), (4, 3)}), (2, {(0, 2), (2, 2), (4, 2), (6, 1)})):
        asked = [load_file(together / f"{kind}-{at_once}-{rank}.safetensors")["asked"] for rank in range(2)]
        for step in range(len({int(row[0]) for row in asked[0]})):
            rows = [(int(f), int(n)) for part in asked for s, f, n in part if int(s) == step]
            assert sorted(rows) == (sorted(expected) if step != 5 else [(0, 1), (0, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_with_another_number_of_processes(together: Path, tmp_path: Path, kind: str) -> None:
    whole, monitor, _ = trained(kind, Workspace())
    for rank in range(2):  # of two, from the step 8 that one process had reached
        found = load_file(together / f"{kind}-resumed-{rank}.safetensors")
        assert int(found["asked"][0, 0]) == 8
        torch.testing.assert_close(weights(found), whole.state_dict(), rtol=1e-9, atol=1e-10)
    kept = tmp_path / "one"
    shutil.copytree(together / f"{kind} by two", kept)
    again, monitor, _ = trained(kind, Workspace(kept))  # of one, from the end of two
    assert (monitor.records, monitor.lines[0][:24]) == ([], "training goes on at step")
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=1e-9, atol=1e-10)


def test_the_first_process_says_how_many_steps_are_measured(together: Path) -> None:
    network, _, _ = trained("average", Workspace(), steps=9)
    for rank in range(2):
        found = load_file(together / f"measured-{rank}.safetensors")
        assert int(found["asked"][-1, 0]) == 8
        torch.testing.assert_close(weights(found), network.state_dict(), rtol=1e-9, atol=1e-10)


def test_what_two_processes_share(together: Path) -> None:
    ranks = [load_file(together / f"shared-{rank}.safetensors") for rank in range(2)]
    assert [rank.pop("drawn").tolist() for rank in ranks] == [[[11, 4], [11, 1]], [[15, 3], [11, 1]]]
    for rank in ranks:
        for count in (7, 1):
            for name, value in Simulations(GaussianVector(), 3).training(11, count).items():
                assert torch.equal(rank[f"{name} {count}"], value)
        assert rank["sum"].tolist() == [4.5, 7.5]
        for name, value in mixed(0).items():
            assert torch.equal(rank[f"agreed {name}"], value)


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 7, 100])
def test_pieces_have_the_gradient_of_the_whole(at_once: int) -> None:
    """Against d/dW of the mean over N rows of |W x + b - t|^2 / 2 outputs."""
    network = Network()
    loss = Rows(network)
    found = gradients(network, loss, Alone(), at_once)(3)
    x = torch.randn(ROWS, 3, generator=generator(3), dtype=torch.float64)
    residual = x @ network.layer.weight.T + network.layer.bias - torch.tanh(x[:, :2])
    assert float(found) == pytest.approx(residual.square().mean().item(), rel=1e-12)
    assert network.layer.weight.grad is not None
    expected = 2.0 * residual.T @ x / (2 * ROWS)
    torch.testing.assert_close(network.layer.weight.grad, expected.detach())
    assert max(count for _, _, count in loss.asked) <= at_once
    assert sum(count for _, _, count in loss.asked) == ROWS
    assert len(loss.asked) == -(-ROWS // at_once)


def test_a_whole_batch_is_one_call() -> None:
    network, _, loss = trained("average", Workspace())
    assert loss.asked[:2] == [(0, 0, ROWS), (1, 0, ROWS)]
    assert len(loss.asked) == STEPS
    assert network.idle.weight.grad is None


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="cannot be divided"):
        gradients(Network(), lambda step: torch.zeros(()), Alone(), 4)


def test_shares() -> None:
    assert shares(7, 3) == [(0, 3), (3, 2), (5, 2)]
    assert shares(2, 4) == [(0, 1), (1, 1), (2, 0), (2, 0)]
    assert shares(0, 2) == [(0, 0), (0, 0)]


def test_without_fabric_several_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match="lightning-fabric") as refusal:
        devices.check_fabric()
    assert "pip install 'sbikit[devices]'" in refusal.value.fix


def test_one_device_never_imports_fabric() -> None:
    code = (
        "import sys; import sbikit.learning.trainer, sbikit.learning.devices, sbikit.runs.stages, "
        "sbikit_transformer.training; sys.exit('lightning_fabric' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
