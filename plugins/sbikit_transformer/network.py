"""Transformers over one sequence: a token a field patch, a token a scalar, a summary token; beside that of
the field two convolutions for what is local, and shapes of the whole field.

Pre-norm blocks with RMSNorm (arXiv:1910.07467), queries and keys normalised (arXiv:2302.05442),
SwiGLU (arXiv:2002.05202), learned positions, and adaLN-zero modulation by noise level and summary
(arXiv:2212.09748). The output starts at zero, so an untrained network corrects nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbikit_transformer.perceptron import Perceptron
from sbikit_transformer.shapes import COUNT

# Width of SwiGLU's hidden layer in widths of a token: 2/3 of 4 has as many weights as a plain layer of 4
# (arXiv:2002.05202). Rounded down to a multiple of 8, which processors' vectors hold.
_HIDDEN = 8 / 3
# Logarithms of the frequencies in ln sigma, which runs over 8: the slowest wave is 28 long, the fastest
# 0.5. Slower ones would be straight lines, faster ones tell noise levels apart that need no other
# treatment.
_FREQUENCIES = (-1.5, 2.5)
# Standard deviation of the positions at the start, as in vision transformers (arXiv:2010.11929): small
# beside what patches say.
_POSITION = 0.02
# Channels of the local head: with 32, skewness, minima and maxima of drawn convergence maps are those of the
# posterior; without it they are not (docs/results). Other numbers were not tried.
_LOCAL = 32
# Of scores whose exponentials, summed over all tokens, bfloat16 holds, as float32 does: up to e^88.
_MOST_SCORE = 60.0
# Width of the layers that read the summary, in widths of a token.
_ABOUT = 4


def patchify(field: Tensor, patch: Sequence[int]) -> Tensor:
    """(B, C, *grid) -> (B, patches, C * pixels of a patch)."""
    for axis, size in enumerate(patch):
        field = field.unflatten(2 + 2 * axis, (-1, size))
    axes = len(patch)
    outer, inner = [2 + 2 * a for a in range(axes)], [3 + 2 * a for a in range(axes)]
    return field.permute(0, *outer, 1, *inner).flatten(1 + axes).flatten(1, axes)


def unpatchify(tokens: Tensor, grid: Sequence[int], patch: Sequence[int]) -> Tensor:
    """The inverse of `patchify`, (B, patches, C * pixels) -> (B, C, *grid)."""
    axes = len(grid)
    blocks = [n // p for n, p in zip(grid, patch, strict=True)]
    field = tokens.unflatten(1, blocks).unflatten(1 + axes, (-1, *patch))
    order = [0, 1 + axes]
    for axis in range(axes):
        order += [1 + axis, 2 + axes + axis]
    field = field.permute(order)
    for axis in range(axes):
        field = field.flatten(2 + axis, 3 + axis)
    return field


class Block(nn.Module):
    """Attention and SwiGLU, both modulated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        hidden = int(_HIDDEN * width) // 8 * 8
        self.norm_attention = nn.RMSNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.RMSNorm(width, elementwise_affine=False)
        self.norm_query = nn.RMSNorm(width // heads)
        self.norm_key = nn.RMSNorm(width // heads)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """tokens (B, T, width), condition (B, width)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[:, None].chunk(6, -1)
        mixed = self._attend(torch.addcmul(shift_a, self.norm_attention(tokens), 1 + scale_a))
        tokens = torch.addcmul(tokens, gate_a, mixed)
        value, gate = self.up(torch.addcmul(shift_m, self.norm_mlp(tokens), 1 + scale_m)).chunk(2, -1)
        return torch.addcmul(tokens, gate_m, self.down(value * F.silu(gate)))

    def _attend(self, tokens: Tensor) -> Tensor:
        # Contiguous: of strided heads norms and attention take longer on processors.
        by_head = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = by_head.contiguous()
        weight = self.norm_query.weight
        query, key = query.to(weight.dtype), key.to(weight.dtype)  # where products are of lower precision
        query, key = self.norm_query(query), self.norm_key(key)
        if value.dtype != weight.dtype and value.device.type == "cpu" and self._largest_score() < _MOST_SCORE:
            mixed = _attend_by_small_scores(query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _largest_score(self) -> float:
        """What no score exceeds: queries and keys are normalised, and each number has a weight."""
        weights = (self.norm_query.weight * self.norm_key.weight).detach()
        return len(weights) ** 0.5 * float(weights.abs().max())


def _attend_by_small_scores(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention (B, heads, T, numbers) of scores that are known to be small, in the precision of `value`.

    Their exponentials need no largest one taken off first. Torch's own attention takes up to twice as long on
    processors that multiply in bfloat16.
    """
    many = query.shape[:2]
    scaled = (query * query.shape[-1] ** -0.5).to(value.dtype)
    weights = (scaled.flatten(0, 1) @ key.to(value.dtype).flatten(0, 1).mT).exp_()
    found = weights @ value.flatten(0, 1) / weights.sum(-1, keepdim=True)
    return found.unflatten(0, many)


class LocalHead(nn.Module):
    """Two convolutions over three pixels an axis, modulated, with the tokens in between, and a part that is
    linear in the fields.

    Patches of many pixels through few numbers cannot draw what is local and not Gaussian. The second
    convolution is a matrix product, shifted, channels last: of few channels torch's own takes twice as long.

    Args:
        channels_in, channels_out: of the fields.
        patch: pixels of a patch along each axis.
        width: of a token.
        periodic: whether the grid closes on itself; else zeros lie outside.
    """

    def __init__(
        self, channels_in: int, channels_out: int, patch: Sequence[int], width: int, *, periodic: bool
    ) -> None:
        super().__init__()
        self.patch, self.periodic = tuple(patch), periodic
        self.shifts = tuple(itertools.product((-1, 0, 1), repeat=len(patch)))
        self.first = nn.Linear(len(self.shifts) * channels_in, _LOCAL)
        self.last = _zero(nn.Linear(2 * _LOCAL, len(self.shifts) * channels_out, bias=False))
        self.modulation = _zero(nn.Linear(width, 2 * _LOCAL))
        self.tokens = nn.Linear(width, _LOCAL * math.prod(patch), bias=False)

    def forward(self, field: Tensor, tokens: Tensor, condition: Tensor) -> Tensor:
        """Of field inputs (B, C_in, *grid) and tokens of their patches (B, T, width): (B, C_out, *grid)."""
        grid = field.shape[2:]
        shift, scale = self.modulation(condition)[(slice(None), *[None] * len(grid))].chunk(2, -1)
        local = self._convolved(field).movedim(1, -1)
        local = torch.addcmul(shift, local, 1 + scale)
        bent = F.silu(self._by_patch(local) + self._wide(tokens, grid)).view_as(local)
        of_bent, of_local = self.last.weight.chunk(2, 1)
        found = F.linear(bent, of_bent) + F.linear(local, of_local)
        parts = found.unflatten(-1, (len(self.shifts), -1)).unbind(-2)
        total = torch.zeros_like(parts[0])
        for part, by in zip(parts, self.shifts, strict=True):
            total = total + self._shifted(part, by)
        return total.movedim(-1, 1)

    def _convolved(self, field: Tensor) -> Tensor:
        """The first convolution, (B, _LOCAL, *grid)."""
        axes = len(self.patch)
        padded = F.pad(field, (1, 1) * axes, mode="circular" if self.periodic else "constant")
        kernel = self.first.weight.unflatten(1, (*(3,) * axes, -1)).movedim(-1, 1)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        return convolve(padded, kernel.to(padded.dtype), self.first.bias)

    def _shifted(self, pixels: Tensor, by: tuple[int, ...]) -> Tensor:
        """(B, *grid, C): at each pixel what is `by` pixels away."""
        axes = tuple(range(1, 1 + len(by)))
        if self.periodic:
            return pixels.roll([-step for step in by], axes) if any(by) else pixels
        around = [0, 0, *(side for step in reversed(by) for side in (max(-step, 0), max(step, 0)))]
        padded = F.pad(pixels, around)
        for axis, step in zip(axes, by, strict=True):
            padded = padded.narrow(axis, max(step, 0), pixels.shape[axis])
        return padded

    def _by_patch(self, pixels: Tensor) -> Tensor:
        """(B, *grid, C) -> (B, blocks, pixels of a block, ..., C), axis by axis, without a copy."""
        for axis, size in enumerate(self.patch):
            pixels = pixels.unflatten(1 + 2 * axis, (-1, size))
        return pixels

    def _wide(self, tokens: Tensor, grid: Sequence[int]) -> Tensor:
        """Of tokens (B, T, width) the hidden layer of each pixel, laid out as `_by_patch`."""
        axes = len(self.patch)
        blocks = [n // p for n, p in zip(grid, self.patch, strict=True)]
        by_patch = self.tokens(tokens).unflatten(1, blocks).unflatten(-1, (*self.patch, _LOCAL))
        order = [1 + part * axes + axis for axis in range(axes) for part in range(2)]
        return by_patch.permute(0, *order, -1)


class Transformer(nn.Module):
    """Residuals of the guide's field, or of a law's scalars.

    Args:
        grid: grid of all fields, empty where there is none.
        patch: pixels of a patch along each axis.
        channels_in: channels of the field input: noisy field, guide, conditioning maps.
        channels_out: channels of the latent field; 0 where the scalars are denoised, and not the field.
        scalars: P.
        scalar_features: inputs of a scalar's token.
        summary: length of the summary vector.
        width, depth, heads: of the transformer.
        periodic: whether the grid closes on itself.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, ...],
        patch: tuple[int, ...],
        channels_in: int,
        channels_out: int,
        scalars: int,
        scalar_features: int,
        summary: int,
        width: int,
        depth: int,
        heads: int,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch
        self.channels_out, self.scalars = channels_out, scalars
        pixels = math.prod(patch)
        self.patches = math.prod(n // p for n, p in zip(grid, patch, strict=True)) if grid else 0
        if self.patches:
            self.embed_field = nn.Linear(channels_in * pixels, width)
        if self.patches and channels_out:
            self.out_field = _zero(nn.Linear(width, channels_out * pixels))
        self.local = None
        if self.patches and channels_out:
            of_shapes = channels_out * COUNT * (1 + COUNT * channels_out + scalars)
            self.out_shapes = _zero(nn.Linear(width, of_shapes))
            self.local = LocalHead(channels_in, channels_out, patch, width, periodic=periodic)
        self.embed_scalar = nn.Linear(scalar_features, width)
        about = _ABOUT * width
        self.embed_summary = nn.Sequential(
            nn.Linear(summary, about), nn.SiLU(), nn.Linear(about, about), nn.SiLU(), nn.Linear(about, width)
        )
        self.embed_noise = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.position = nn.Parameter(torch.zeros(self.patches + scalars + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.modulation = _zero(nn.Linear(width, 2 * width))
        self.out_scalar = None if channels_out else _zero(nn.Linear(width, 1 + scalars))
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(*_FREQUENCIES, width // 2)), persistent=False
        )

    frequencies: Tensor

    @property
    def tokens(self) -> int:
        """Of a sequence."""
        return self.position.shape[0]

    @property
    def numbers(self) -> int:
        """Of all tokens of one draw."""
        return self.position.numel()

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights that are not zero from `generator`, so that a seed fixes the network."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and bool(module.weight.any()):
                module.weight.data.normal_(0.0, module.in_features**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.data.zero_()
        self.position.data.normal_(0.0, _POSITION, generator=generator)

    def of_scalars(
        self, maps: Tensor, scalars: Tensor, innovation: Tensor, summary: Tensor, log_sigma: Tensor
    ) -> Tensor:
        """Residuals of the scalars (B, P).

        Each is a number and, of every scalar's innovation, a multiple: the width of what is drawn is
        the slope of the denoised in the noisy scalar, which so is learned in the open.

        Args:
            maps: (B, channels_in, *grid).
            scalars: (B, P, scalar_features).
            innovation: (B, P), what of a noisy scalar the law did not expect.
            summary: (B, summary).
            log_sigma: (B,), log of the noise level.
        """
        tokens, _ = self._tokens(maps, scalars, summary, log_sigma)
        assert self.out_scalar is not None, "made for a field"
        found = self.out_scalar(tokens[:, self.patches : self.patches + self.scalars])
        residual, slopes = found.split([1, self.scalars], -1)
        total: Tensor = (residual + slopes @ innovation[..., None])[..., 0]
        return total

    def of_field(
        self,
        field: Tensor,
        scalars: Tensor,
        shapes: tuple[Tensor, Tensor],
        summary: Tensor,
        log_sigma: Tensor,
    ) -> Tensor:
        """Residuals of the field (B, C, *grid): of patches, of what is local, and of shapes of the whole
        field, each by a number and a multiple of every innovation, as scalars.

        Args:
            field: (B, channels_in, *grid).
            scalars: (B, P, scalar_features), clean.
            shapes: (B, C, COUNT, *grid), and the innovations of all of these and of the scalars,
                (B, C COUNT + P).
            summary: (B, summary).
            log_sigma: (B,), log of the noise level.
        """
        tokens, condition = self._tokens(field, scalars, summary, log_sigma)
        of_patches = tokens[:, : self.patches]
        residual = unpatchify(self.out_field(of_patches), self.grid, self.patch)
        assert self.local is not None, "made for scalars"
        phi, innovations = shapes
        found = self.out_shapes(tokens[:, -1]).unflatten(-1, (*phi.shape[1:3], -1))
        along = found[..., 0] + (found[..., 1:] @ innovations[:, None, :, None])[..., 0]
        together = (along[..., None, :] @ phi.flatten(3))[..., 0, :].unflatten(-1, phi.shape[3:])
        return residual + self.local(field, of_patches, condition) + together

    def _tokens(
        self, field: Tensor, scalars: Tensor, summary: Tensor, log_sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sequence after all blocks, (B, T, width), and what modulates it, (B, width)."""
        phase = log_sigma[:, None] * self.frequencies
        condition = self.embed_noise(torch.cat([phase.sin(), phase.cos()], -1))
        about = self.embed_summary(summary)
        condition = F.silu(condition + about)
        sequence = [self.embed_scalar(scalars), about[:, None]]
        if self.patches:
            sequence.insert(0, self.embed_field(patchify(field, self.patch)))
        tokens = torch.cat(sequence, 1) + self.position
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        return self.norm(tokens) * (1 + scale) + shift, condition


class Networks(nn.Module):
    """The network of the scalars and, where there is a latent field, that of the field."""

    def __init__(self, scalars: Transformer | Perceptron, field: Transformer | None) -> None:
        super().__init__()
        self.scalars = scalars
        self.of_field = field

    @property
    def field(self) -> Transformer:
        """That of the field, where there is one."""
        assert self.of_field is not None, "there is no latent field"
        return self.of_field

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights of both, see `Transformer.reset`."""
        for part in (self.scalars, self.of_field):
            if part is not None:
                part.reset(generator)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
