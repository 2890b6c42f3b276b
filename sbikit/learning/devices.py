"""A team of processes on one machine, by lightning-fabric: gradients go through DDP, a device each.

CPU processes talk through gloo, GPUs through NCCL. They meet in a file, so that no port is needed, and wait
for each other without limit: who started them ends all when one of them fails.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbikit.problem.errors import PluginError

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
# A simulation may take days, and the others wait for it. Fabric has no word for "for ever".
_PATIENCE = timedelta(days=365)


def check_fabric() -> None:
    """See that lightning-fabric is installed, without importing it, which takes as long as torch.

    Raises:
        PluginError: it is not.
    """
    if find_spec("lightning_fabric") is None:
        raise PluginError(
            "Training on several devices needs lightning-fabric, which is not installed.",
            where="devices",
            fix="pip install 'sbikit[devices]', or use --devices 1",
        )


class FabricTeam:
    """A `Team` whose processes have met.

    Args:
        fabric: launched, with one device a process.
    """

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.rank, self.size = int(fabric.global_rank), int(fabric.world_size)

    def add(self, value: Tensor) -> Tensor:
        """See `Team.add`."""
        found: Tensor = self._fabric.all_reduce(value.clone(), reduce_op="sum")
        return found

    def join(self, part: Tensor) -> Tensor:
        """See `Team.join`."""
        counts = torch.zeros(self.size, dtype=torch.long)
        counts[self.rank] = len(part)
        torch.distributed.all_reduce(counts)
        padded = part.new_zeros(int(counts.max()), *part.shape[1:])
        padded[: len(part)] = part
        found = [torch.empty_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(found, padded)
        return torch.cat([one[:count] for one, count in zip(found, counts.tolist(), strict=True)])

    @torch.no_grad()
    def agree(self, module: nn.Module) -> None:
        """See `Team.agree`."""
        tensors = list(module.state_dict().values())
        for device in {tensor.device for tensor in tensors}:
            here = [tensor for tensor in tensors if tensor.device == device and tensor.numel()]
            flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in here])
            torch.distributed.broadcast(flat, 0)
            parts = flat.split([tensor.numel() * tensor.element_size() for tensor in here])
            for tensor, part in zip(here, parts, strict=True):
                tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))

    def together(self, module: nn.Module) -> nn.Module:
        """See `Team.together`."""
        wrapped: nn.Module = self._fabric.setup_module(module, move_to_device=False)
        return wrapped

    @contextmanager
    def apart(self, module: nn.Module) -> Iterator[None]:
        """See `Team.apart`."""
        with self._fabric.no_backward_sync(module):
            yield


def meet(rank: int, size: int, device: str, place: Path) -> FabricTeam:
    """Wait for the other processes of a team; called once in each of them.

    Args:
        rank: number of this process.
        size: how many there are.
        device: "cpu", or "cuda" where process r has GPU r.
        place: a file that is not there yet, the same for all.

    Raises:
        PluginError: lightning-fabric is not installed.
    """
    check_fabric()
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    os.environ["LOCAL_RANK"] = str(rank)  # how Fabric is told that processes are started by others
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        _BACKENDS[device],
        init_method=place.absolute().as_uri(),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    strategy = DDPStrategy(
        cluster_environment=LightningEnvironment(),
        timeout=_PATIENCE,
        find_unused_parameters=True,  # a network may have weights that a problem does not need
    )
    fabric = Fabric(accelerator=device, devices=size, strategy=strategy, precision="32-true")
    fabric.launch()
    return FabricTeam(fabric)


def leave() -> None:
    """End what `meet` began."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
