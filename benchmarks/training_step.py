"""What a training step of the quick preset costs, and Muon in it: `python benchmarks/training_step.py`.

Before: torch.optim.Muon, whose iteration runs in bfloat16. After: sbikit.learning.Muon, in float32 on a
processor. Both train on one thread in one process, block after block of steps in turn, beside a fixed matrix
product; errors are standard errors over pairs of blocks. `--avx2` allows libraries the instructions of AVX2
alone, to imitate a processor that has none for bfloat16.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from _product import product_seconds
from _quick_training import OPTIONS, quick_denoiser, train_steps
from _record import record

import sbikit
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.training import make_optimisers

BLOCKS, STEPS, SKIPPED = 12, 25, 5  # steps of a block, and how many of them are not counted
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # read when torch is loaded
BEFORE, AFTER = "torch.optim.Muon, bfloat16", "sbikit.learning.Muon, float32"


def block(kind: str, denoiser: Denoiser, simulations: sbikit.Simulations) -> tuple[float, float]:
    """CPU seconds of a step and of Muon in it, means over a block of steps."""
    optimisers = make_optimisers(denoiser.network, OPTIONS.rate)
    if kind == BEFORE:
        (group,) = optimisers["muon"].param_groups
        optimisers["muon"] = torch.optim.Muon(group["params"], lr=group["lr"], weight_decay=0.0)
    ticks, spent = [time.process_time()], []
    optimisers["muon"].register_step_pre_hook(lambda *_: spent.append(-time.process_time()))
    optimisers["muon"].register_step_post_hook(lambda *_: spent.append(spent.pop() + time.process_time()))
    train_steps(denoiser, simulations, optimisers, STEPS, lambda: ticks.append(time.process_time()))
    return (ticks[-1] - ticks[SKIPPED]) / (STEPS - SKIPPED), statistics.fmean(spent[SKIPPED:])


def told(name: str, values: Sequence[float], ratio_to: str | None = None) -> None:
    """One figure: the mean over blocks and its standard error."""
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    device = f"{torch.backends.cpu.get_cpu_capability()}, oneDNN {held}, 1 thread"
    record(name, *sbikit.mean_and_error(np.array(values)), ratio_to=ratio_to, device=device)


def main() -> None:
    """Train in turn, then tell."""
    torch.set_num_threads(1)
    simulations = sbikit.Simulations(sbikit.load("simulator", "lognormal"), 0)
    denoisers = {kind: quick_denoiser(simulations) for kind in (BEFORE, AFTER)}
    products: list[float] = []
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in denoisers}
    for _ in range(BLOCKS):
        products.append(product_seconds())
        for kind, denoiser in denoisers.items():
            found[kind].append(block(kind, denoiser, simulations))
    told("CPU ms of a product of two 1024 x 1024 float32 matrices", [1e3 * seconds for seconds in products])
    for kind, blocks in found.items():
        told(f"CPU ms of a training step, {kind}", [1e3 * step for step, _ in blocks])
        relative = [step / product for (step, _), product in zip(blocks, products, strict=True)]
        told(f"CPU time of a training step, {kind}", relative, "the matrix product")
        told(f"CPU ms of Muon in a training step, {kind}", [1e3 * muon for _, muon in blocks])
        told(f"share of Muon in a training step, {kind}", [muon / step for step, muon in blocks], "the step")
    ratios = [new[0] / old[0] for old, new in zip(found[BEFORE], found[AFTER], strict=True)]
    told(f"CPU time of a training step, {AFTER}", ratios, f"that with {BEFORE}")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--avx2"]):
        sys.exit("usage: python benchmarks/training_step.py [--avx2]")
    if "--avx2" in sys.argv and not os.environ.keys() >= AVX2.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **AVX2})
    main()
