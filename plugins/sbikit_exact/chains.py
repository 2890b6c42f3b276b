"""From Markov chains in the coordinates of a log density to draws of the latents: what the samplers share.

Arrays of chains are (chains, draws, B, size): B observations, each with its own chains.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import LogDensity, Spec, Values

# Maps, 16 MiB an array at 128 x 128 pixels: fewer pay for more calls, more take memory.
_DECODED_AT_ONCE = 128


def chain_sizes(n: int, chains: int) -> tuple[int, ...]:
    """How many of `n` chain-major draws each of an even number of chains gives.

    The first n // 2 come from the first half of the chains and the rest from the others, so that the two
    halves of the draws are independent of each other. Within a half, chains give equally many, the first
    ones one more.
    """
    return _shares(n // 2, chains // 2) + _shares(n - n // 2, chains - chains // 2)


def thin(z: Tensor, n: int) -> Tensor:
    """`n` draws, chain-major (n, ...), evenly spaced along each chain of (chains, draws, ...).

    No chain gives more than its draws: `max(chain_sizes(n, chains))` of them are needed.
    """
    kept = []
    for chain, size in zip(z, chain_sizes(n, len(z)), strict=True):
        # The last draw of each of `size` equal stretches.
        index = (torch.arange(1, size + 1) * len(chain)) // max(size, 1) - 1
        kept.append(chain[index.to(chain.device)])
    return torch.cat(kept)


def decode(density: LogDensity, z: Tensor, spec: Spec) -> dict[str, Tensor]:
    """Latents of `spec`, each (n, B, *shape), float32 on the CPU, at coordinates (n, B, size)."""
    rows = max(1, _DECODED_AT_ONCE // z.shape[1])
    with torch.no_grad():
        parts = [_latents(density.decode(some), spec) for some in z.split(rows)]
    return {v.name: torch.cat([part[v.name] for part in parts]) for v in spec.latents}


def judged(density: LogDensity, z: Tensor, spec: Spec) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """What convergence is judged on: every latent vector, or all coordinates where there is none.

    Args:
        density: whose coordinates these are.
        z: coordinates (chains, draws, B, size).
        spec: the latents.

    Returns:
        Names of the scalars, and their values (B, scalars, chains, draws).
    """
    vectors = spec.vectors
    if not vectors:
        labels, values = tuple(f"z{i}" for i in range(density.size)), z
    else:
        labels = tuple(label for vector in vectors for label in vector.labels)
        found = decode(density, z.flatten(0, 1), spec.select(*(vector.name for vector in vectors)))
        values = torch.cat([found[vector.name] for vector in vectors], -1).unflatten(0, z.shape[:2])
    return labels, values.permute(2, 3, 0, 1).cpu().double().numpy()


def _shares(n: int, chains: int) -> tuple[int, ...]:
    share, rest = divmod(n, chains)
    return tuple(share + (chain < rest) for chain in range(chains))


def _latents(values: Values, spec: Spec) -> dict[str, Tensor]:
    return {v.name: values[v.name].float().cpu() for v in spec.latents}
