"""Muon, an optimiser of hidden matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

The momentum M of the gradients, with Nesterov's step ahead, is replaced by the nearest orthogonal matrix, or
nearly: X = M / |M|_F goes five times through

    X <- a X + b (X X^T) X + c (X X^T)^2 X,

an odd polynomial of the singular values alone, which brings all of them near 1. A matrix of n x m weights
moves by the rate times sqrt(max(1, n / m)) X.

The update is that of `torch.optim.Muon`. That one iterates in bfloat16, for which most
processors have no instructions: with those of AVX2 alone it takes 15 times as long as in float32. Here
a processor iterates in float32, a GPU in bfloat16, and matrices of one shape go through one batched product.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Jordan et al. 2024: the steepest slope at zero that keeps singular values within about 0.7 to 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Jordan et al. 2024: fewer leave small singular values small, more cost products and change little.
_ITERATIONS = 5
# Jordan et al. 2024: of torch.optim.Muon too; a larger one averages more gradients and turns more slowly.
_MOMENTUM = 0.95
# A matrix without gradient stays as it is; of torch.optim.Muon.
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Moves matrices along the orthogonalised momentum of their gradients.

    Args:
        matrices: the weights, each (n, m).
        lr: the rate, the size of a square matrix's update in the spectral norm.
        dtype: of the iteration; float32 on a CPU and bfloat16 elsewhere where left out.
        decay: share of a matrix that a step takes away, a unit of the rate, as AdamW does (Loshchilov and
            Hutter 2019, arXiv:1711.05101).
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        dtype: torch.dtype | None = None,
        decay: float = 0.0,
    ) -> None:
        super().__init__(matrices, {"lr": lr})
        self._dtype, self._decay = dtype, decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrices in _by_shape(group["params"]):
                ahead = torch.stack([self._ahead(matrix, gradient) for matrix, gradient in matrices])
                dtype = self._dtype or (torch.float32 if ahead.device.type == "cpu" else torch.bfloat16)
                rows, columns = ahead.shape[1:]
                rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
                kept = 1.0 - group["lr"] * self._decay
                for (matrix, _), update in zip(matrices, orthogonalised(ahead.to(dtype)), strict=True):
                    matrix.mul_(kept).add_(update, alpha=-rate)

    def _ahead(self, matrix: nn.Parameter, gradient: Tensor) -> Tensor:
        """The momentum after this gradient, one step of Nesterov's ahead."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum_buffer"].lerp_(gradient, 1.0 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (K, n, m) of the same singular vectors, with singular values near 1, in their own dtype."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    a, b, c = _COEFFICIENTS
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_shape(matrices: Iterable[nn.Parameter]) -> list[list[tuple[nn.Parameter, Tensor]]]:
    """The matrices that have a gradient, with it, those of one shape together."""
    groups: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
    for matrix in matrices:
        if matrix.grad is not None:
            groups[matrix.shape].append((matrix, matrix.grad))
    return list(groups.values())
