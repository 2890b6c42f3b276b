"""The transformer's local head against torch's convolutions, and what it must leave as it is."""

from __future__ import annotations

import pytest
import torch
from small_transformer import small_transformer
from torch import Tensor
from torch.nn import functional as F

from sbikit import generator
from sbikit_transformer.network import LocalHead, patchify, unpatchify
from sbikit_transformer.shapes import COUNT

GRIDS = {1: ((12,), (4,)), 2: ((8, 12), (4, 3)), 3: ((4, 6, 8), (2, 3, 4))}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
WIDTH = 5


def head(axes: int, *, periodic: bool) -> LocalHead:
    """With all weights drawn."""
    made = LocalHead(3, 2, GRIDS[axes][1], WIDTH, periodic=periodic)
    source = generator(axes)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0.0, 0.3, generator=source)
    return made.double()


def inputs(axes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Field inputs, tokens and condition."""
    grid, patch = GRIDS[axes]
    patches = torch.Size(n // p for n, p in zip(grid, patch, strict=True)).numel()
    source = generator(7)
    shapes = ((4, 3, *grid), (4, patches, WIDTH), (4, WIDTH))
    field, tokens, condition = (torch.randn(shape, generator=source).double() for shape in shapes)
    return field, tokens, condition


def convolved(field: Tensor, kernel: Tensor, *, periodic: bool) -> Tensor:
    axes = field.ndim - 2
    padded = F.pad(field, [1] * (2 * axes), mode="circular" if periodic else "constant")
    return CONVOLUTIONS[axes](padded, kernel)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("axes", GRIDS)
def test_it_is_two_convolutions_of_torch(axes: int, periodic: bool) -> None:
    made = head(axes, periodic=periodic)
    field, tokens, condition = inputs(axes)
    grid, patch = GRIDS[axes]
    window = (3,) * axes
    hidden = made.first.out_features
    # Weights in the order of torch: (out, in, *window).
    first = made.first.weight.T.unflatten(0, (*window, 3)).permute(-1, axes, *range(axes))
    curved, straight = (
        part.unflatten(0, (*window, 2)).permute(axes, -1, *range(axes))
        for part in made.last.weight.chunk(2, 1)
    )
    spread = (..., *[None] * axes)
    shift, scale = made.modulation(condition)[spread].chunk(2, 1)
    local = convolved(field, first, periodic=periodic) + made.first.bias[(slice(None), *[None] * axes)]
    # `unpatchify` has the channel before the pixels of a patch, the head after them.
    by_channel = made.tokens(tokens).unflatten(-1, (-1, hidden)).transpose(-1, -2).flatten(-2)
    wide = unpatchify(by_channel, grid, patch)
    local = shift + local * (1 + scale)
    expected = convolved(F.silu(local + wide), curved, periodic=periodic)
    expected = expected + convolved(local, straight, periodic=periodic)
    torch.testing.assert_close(made(field, tokens, condition), expected)


@pytest.mark.parametrize("axes", GRIDS)
def test_a_periodic_field_moved_by_patches_moves_what_comes_out(axes: int) -> None:
    made = head(axes, periodic=True)
    field, tokens, condition = inputs(axes)
    grid, patch = GRIDS[axes]
    move, along = list(patch), list(range(2, 2 + axes))
    blocks = unpatchify(tokens, [n // p for n, p in zip(grid, patch, strict=True)], [1] * axes)
    moved = patchify(blocks.roll([1] * axes, along), [1] * axes)
    found = made(field.roll(move, along), moved, condition)
    torch.testing.assert_close(found, made(field, tokens, condition).roll(move, along))


@pytest.mark.parametrize("periodic", [True, False])
def test_an_untrained_network_corrects_nothing(periodic: bool) -> None:
    of_field, of_scalars = (small_transformer(channels_out=n, periodic=periodic) for n in (1, 0))
    for made in (of_field, of_scalars):
        made.reset(generator(3))
    source = generator(4)
    shapes = ((5, 3, 8, 8), (5, 2, 3), (5, 2), (5, 6), (5,))
    maps, scalars, innovation, summary, level = (torch.randn(shape, generator=source) for shape in shapes)
    shapes = torch.randn(5, 1, COUNT, 8, 8, generator=source), torch.randn(5, COUNT + 2, generator=source)
    field = of_field.of_field(maps, scalars, shapes, summary, level)
    scalar = of_scalars.of_scalars(maps, scalars, innovation, summary, level)
    assert field.shape == (5, 1, 8, 8)
    assert scalar.shape == (5, 2)
    assert not field.any()
    assert not scalar.any()


def test_a_seed_fixes_all_weights() -> None:
    first, second, other = small_transformer(), small_transformer(), small_transformer()
    for made, seed in ((first, 3), (second, 3), (other, 4)):
        made.reset(generator(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drawn = [(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True) if a.std() > 0]
    assert drawn
    assert all(not torch.equal(a, b) for a, b in drawn)


def test_innovations_enter_by_slopes_of_every_scalar_in_each() -> None:
    made = small_transformer(channels_out=0)
    made.reset(generator(3))
    source = generator(4)
    slopes = torch.tensor([0.5, -2.0])
    with torch.no_grad():
        assert made.out_scalar is not None
        made.out_scalar.bias.copy_(torch.tensor([0.7, *slopes]))
        shapes = ((5, 3, 8, 8), (5, 2, 3), (5, 2), (5, 6), (5,))
        field, scalars, innovation, summary, level = (
            torch.randn(shape, generator=source) for shape in shapes
        )
        found = made.of_scalars(field, scalars, innovation, summary, level)
    each = 0.7 + innovation @ slopes
    torch.testing.assert_close(found, each[:, None].expand(5, 2))
