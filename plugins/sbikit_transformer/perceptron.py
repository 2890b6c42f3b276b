"""The network of problems of vectors alone: a residual perceptron in a transformer's place.

Where there is neither a field nor a map a sequence would hold scalars and a summary: attention among so few
tokens costs much and brings nothing. Blocks are normalised, modulated by noise level and data (adaLN,
arXiv:2212.09748), and drop hidden numbers (Srivastava et al. 2014, JMLR 15, 1929), so that what kept
simulations teach is not learned by heart. The output starts at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of 10,000 simulations of two moons draws of such a network are told from exact ones in 52 % of the cases,
# where a transformer's were in 59 % after six times as long. Of slcp a width of 256 has the greater loss of
# others.
_WIDTH, _DEPTH, _HIDDEN = 128, 3, 2
DROPPED = 0.2
"""Share of hidden numbers that is dropped in training.

Of slcp the loss of others is .81 with none, .76 with a tenth and .744 with three and five tenths, of two
moons .4145 with none and .4138 with a fifth.
"""
_FREQUENCIES = (-1.5, 2.5)  # logarithms of those in ln sigma, as a transformer's
_WAVES = 16


class Perceptron(nn.Module):
    """Residuals of a law's scalars.

    Args:
        scalars: P.
        summary: length of what is told of data.
    """

    frequencies: Tensor

    def __init__(self, scalars: int, summary: int) -> None:
        super().__init__()
        self.scalars = scalars
        self.hidden = (_DEPTH, _HIDDEN * _WIDTH)
        self.embed_scalars = nn.Linear(2 * scalars, _WIDTH)
        self.embed_summary = nn.Sequential(
            nn.Linear(summary, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU()
        )
        self.embed_noise = nn.Sequential(nn.Linear(2 * _WAVES, _WIDTH), nn.SiLU())
        self.blocks = nn.ModuleList(_Block() for _ in range(_DEPTH))
        self.out_scalar = _zero(nn.Linear(_WIDTH, scalars))
        frequencies = torch.exp(torch.linspace(*_FREQUENCIES, _WAVES))
        self.register_buffer("frequencies", frequencies, persistent=False)

    @property
    def tokens(self) -> int:
        """How much a draw costs, in tokens of a transformer."""
        return 1

    @property
    def numbers(self) -> int:
        """Of a layer, for one draw."""
        return _WIDTH

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights that are not zero from `generator`."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and bool(module.weight.any()):
                module.weight.data.normal_(0.0, module.in_features**-0.5, generator=generator)
                module.bias.data.zero_()

    def forward(
        self,
        scalars: Tensor,
        innovation: Tensor,
        summary: Tensor,
        log_sigma: Tensor,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Residuals of the scalars (B, P).

        Args:
            scalars: (B, P), noisy, in units of their spread.
            innovation: (B, P), what of a noisy scalar the law did not expect.
            summary: (B, summary).
            log_sigma: (B,).
            kept: (B, depth, hidden), which hidden numbers are kept, over the share that is; all where left
                out.
        """
        phase = log_sigma[:, None] * self.frequencies
        condition = self.embed_noise(torch.cat([phase.sin(), phase.cos()], -1)) + self.embed_summary(summary)
        found = self.embed_scalars(torch.cat([scalars, innovation], 1)) + condition
        for i, block in enumerate(self.blocks):
            found = block(found, condition, None if kept is None else kept[:, i])
        total: Tensor = self.out_scalar(found)
        return total


class _Block(nn.Module):
    """A layer of `_HIDDEN` times the width, modulated."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH, elementwise_affine=False)
        self.up = nn.Linear(_WIDTH, _HIDDEN * _WIDTH)
        self.down = _zero(nn.Linear(_HIDDEN * _WIDTH, _WIDTH))
        self.modulation = nn.Linear(_WIDTH, 3 * _WIDTH)

    def forward(self, x: Tensor, condition: Tensor, kept: Tensor | None) -> Tensor:
        scale, shift, gate = self.modulation(condition).chunk(3, -1)
        hidden = F.silu(self.up(torch.addcmul(shift, self.norm(x), 1 + scale)))
        return x + (1 + gate) * self.down(hidden if kept is None else hidden * kept)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
