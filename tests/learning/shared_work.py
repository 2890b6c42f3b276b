"""What each of two processes does in the tests of `test_devices`, and one process alone for comparison."""

from __future__ import annotations

from pathlib import Path

import torch
from interruption import CuttingMonitor, Interrupted
from safetensors.torch import save_file
from torch import Tensor, nn

from sbikit import Simulations, Team, Workspace, generator
from sbikit.learning import (
    Average,
    Best,
    Duration,
    FinalWeights,
    Muon,
    Plan,
    SharedDraws,
    Trainer,
    cosine,
    unfinished,
)
from sbikit.testing import GaussianVector

STEPS, ROWS = 24, 7


class Rows:
    """Learns y = W x + b from `ROWS` rows of each step, and writes down which rows it was asked for."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.asked = network, []

    asked: list[tuple[int, int, int]]

    def rows(self, step: int) -> int:
        return 1 if step == 5 else ROWS

    def __call__(self, step: int) -> Tensor:
        return self.of(step, 0, self.rows(step))

    def of(self, step: int, first: int, count: int) -> Tensor:
        self.asked.append((step, first, count))
        x = torch.randn(ROWS, 3, generator=generator(step), dtype=torch.float64)[first : first + count]
        return (self.network(x) - torch.tanh(x[:, :2])).square().mean()


class Network(nn.Module):
    """One layer that is used and one that is not, as a problem may leave part of a network without use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(3, 2), nn.Linear(2, 2)
        for weight in self.parameters():
            nn.init.constant_(weight, 0.1)
        self.double()  # so that rounding is far below all that could be wrong

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def trained(
    kind: str, workspace: Workspace, cut: int | None = None, steps: int | Duration = STEPS
) -> tuple[Network, CuttingMonitor, Rows]:
    """A training to its end, or to the step `cut`."""
    network, monitor = Network(), CuttingMonitor(cut if workspace.team.rank == 0 else None)
    loss = Rows(network)

    def judge() -> float:
        # What a process finds of its own must not part it from the others.
        found = float(loss(1000).detach()) + 0.3 * workspace.team.rank
        loss.asked.pop()
        return found

    final: FinalWeights = Average(network, 0.9) if kind == "average" else Best(network, judge, 1, falls=3)
    plan = Plan(
        steps=steps,
        round=4,
        clip=1.0,
        rate=lambda step, steps: cosine(step, steps, 3) * getattr(final, "factor", 1.0),
        simulations=lambda step: ROWS * step,
        keep_seconds=0.0,
    )
    optimisers = {
        "muon": Muon([network.layer.weight], lr=0.2, dtype=torch.float64),
        "adamw": torch.optim.AdamW(
            [network.layer.bias, *network.idle.parameters()], lr=0.2, weight_decay=0.1
        ),
    }
    trainer = Trainer(network, optimisers, loss, final, plan)
    try:
        trainer.run(workspace, monitor, "me")
    except Interrupted:
        assert cut is not None
    return network, monitor, loss


def save(path: Path, network: nn.Module, monitor: CuttingMonitor, loss: Rows) -> None:
    """Weights, logged losses and asked rows."""
    losses = [float(record["loss"]) for record in monitor.records]
    asked = torch.tensor(loss.asked)
    logged = torch.tensor(losses, dtype=torch.float64)
    save_file(network.state_dict() | {"asked": asked, "losses": logged}, path)


def train_together(team: Team, folder: Path) -> None:
    """Two trainings from their start; one goes on from where one process was; half of one for one process."""
    for kind in ("average", "best"):
        for at_once in (None, 2):
            made = trained(kind, Workspace(None, team=team, at_once=at_once))
            save(folder / f"{kind}-{at_once}-{team.rank}.safetensors", *made)
        made = trained(kind, Workspace(folder / f"{kind} by one", team=team))
        save(folder / f"{kind}-resumed-{team.rank}.safetensors", *made)
        workspace = Workspace(folder / f"{kind} by two", team=team)
        trained(kind, workspace)
        assert unfinished(workspace) is not None
    # The second process is slower and would count other steps.
    Duration.steps = lambda self, spent, a_step: 9 + 4 * team.rank  # type: ignore[method-assign]
    made = trained("average", Workspace(folder / "measured", team=team), steps=Duration(0.01))
    save(folder / f"measured-{team.rank}.safetensors", *made)
    share(team, folder)


def share(team: Team, folder: Path) -> None:
    """Draws that both need all of, with what each drew; sums; agreement."""
    drawn: list[tuple[int, int]] = []

    class Watched(Simulations):
        def training(self, first: int, count: int) -> dict[str, Tensor]:
            drawn.append((first, count))
            return super().training(first, count)

    simulations = SharedDraws(Watched(GaussianVector(), 3), team)
    found = {
        f"{name} {count}": value
        for count in (7, 1)
        for name, value in simulations.training(11, count).items()
    }
    found["drawn"] = torch.tensor(drawn)
    found["sum"] = team.add(torch.tensor([1.5, 2.5]) * (team.rank + 1))
    module = nn.Module()
    for name, value in mixed(team.rank).items():
        module.register_buffer(f"{name}_", value)
    team.agree(module)
    save_file(
        found | {f"agreed {name[:-1]}": value.contiguous() for name, value in module.state_dict().items()},
        folder / f"shared-{team.rank}.safetensors",
    )


def mixed(rank: int) -> dict[str, Tensor]:
    """Buffers of several kinds, other ones in each process."""
    source = generator(rank)
    return {
        "double": torch.randn(3, 2, generator=source, dtype=torch.float64),
        "half": torch.randn(5, generator=source).bfloat16(),
        "count": torch.tensor(rank),
        "flags": torch.rand(4, generator=source) > 0.5,
        "none": torch.zeros(0, 3),
        "turned": torch.randn(2, 3, generator=source).T,
    }
