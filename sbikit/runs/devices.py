"""What networks run on: which device, how many of them, in which precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sbikit.problem.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """The device behind "cpu", "cuda" or "auto".

    Raises:
        DeviceError: it is another word, or "cuda" was asked for and there is no GPU.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise DeviceError("There is no such device.", where="device", expected="cpu, cuda or auto", got=name)
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DeviceError(
            "There is no GPU that torch can use.",
            where="device",
            expected="a CUDA device",
            got=f"torch {torch.__version__}, none visible",
            fix="use --device cpu, or install a CUDA build of torch and check `nvidia-smi`",
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@dataclass(frozen=True)
class Devices:
    """What an estimator is fitted on.

    Args:
        count: GPUs, or CPU processes.
        batch: most simulations at once on each; None: all of its share of a step.
        precision: "float32" or "auto", see `choose_precision`.

    Raises:
        DeviceError: there is no such precision.
    """

    count: int = 1
    batch: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "auto"):
            raise DeviceError(
                "There is no such precision.",
                where="precision",
                expected="float32 or auto",
                got=self.precision,
            )


def check_devices(device: torch.device, count: int) -> None:
    """Refuse more devices than there are.

    Raises:
        DeviceError: there are fewer GPUs.
        PluginError: several are asked for and lightning-fabric is not installed.
    """
    if count == 1:
        return
    there = torch.cuda.device_count()
    if device.type == "cuda" and count > there:
        raise DeviceError(
            "There are fewer GPUs than asked for.",
            where="devices",
            expected=f"1 to {there}",
            got=str(count),
            fix=f"use --devices {there}",
        )
    from sbikit.learning.devices import check_fabric

    check_fabric()


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Precision of products inside networks: bfloat16 for "auto" on a GPU or processor that multiplies in it,
    else float32.
    """
    return torch.bfloat16 if name == "auto" and _multiplies_in_bfloat16(device) else torch.float32


def _multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether it does so itself: where bfloat16 is imitated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Not of the oldest torch that will do, which then is taken to have none.
    capabilities: Callable[[], dict[str, bool]] = getattr(torch.cpu, "get_capabilities", dict)
    known = capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
