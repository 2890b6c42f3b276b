"""Attention of a block: what torch's own layers make of each head by itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sbikit import generator
from sbikit_transformer import network
from sbikit_transformer.network import Block


def test_a_block_attends_as_each_of_its_heads_does_alone() -> None:
    """softmax(q k^T / sqrt(D)) v with q and k normalised, written out head by head."""
    width, heads, source = 24, 3, generator(1)
    block = Block(width, heads)
    for weight in block.parameters():
        weight.data = torch.randn(weight.shape, generator=source)
    tokens = torch.randn(2, 5, width, generator=source)
    size = width // heads
    query, key, value = F.linear(tokens, block.qkv.weight).split(width, -1)
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q = F.rms_norm(query[..., part], (size,), block.norm_query.weight)
        k = F.rms_norm(key[..., part], (size,), block.norm_key.weight)
        mixed.append(torch.softmax(q @ k.mT / size**0.5, -1) @ value[..., part])
    expected = torch.cat(mixed, -1) @ block.out.weight.T
    torch.testing.assert_close(block._attend(tokens), expected, rtol=1e-4, atol=1e-4)


def test_attention_by_small_scores_is_torchs() -> None:
    """Within what bfloat16 holds, in its precision; to rounding in float32."""
    source = generator(2)
    query, key, value = torch.randn(3, 2, 4, 50, 16, generator=source)
    expected = F.scaled_dot_product_attention(query, key, value)
    found = network._attend_by_small_scores(query, key, value)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    lower = network._attend_by_small_scores(query, key, value.bfloat16())
    assert lower.dtype == torch.bfloat16
    torch.testing.assert_close(lower.float(), expected, rtol=0, atol=0.02)
    assert float((lower.float() - expected).square().mean().sqrt()) < 0.005


@pytest.mark.parametrize(("weight", "small"), [(1.5, True), (8.0, False)])
def test_scores_that_may_be_large_are_torchs_own(
    weight: float, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of 16 numbers with weights 1.5 are 9 at most, with 8 up to 256, whose exponentials overflow."""
    asked = []
    own = network._attend_by_small_scores
    monkeypatch.setattr(network, "_attend_by_small_scores", lambda *told: asked.append(1) or own(*told))
    source, block = generator(3), Block(32, 2)
    for layer in (block.qkv, block.out):
        layer.weight.data = torch.randn(layer.weight.shape, generator=source) * 32**-0.5
    for norm in (block.norm_query, block.norm_key):
        norm.weight.data.fill_(weight)
    tokens = torch.randn(3, 20, 32, generator=source)
    with torch.no_grad():
        plain = block._attend(tokens)
        assert asked == []
        with torch.autocast("cpu", torch.bfloat16):
            found = block._attend(tokens)
        by_head = block.qkv(tokens).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        query, key = block.norm_query(by_head[0]), block.norm_key(by_head[1])
        largest = float((query @ key.mT / 16**0.5).abs().max())
    assert bool(asked) == small
    assert 0.5 * block._largest_score() < largest <= block._largest_score()
    assert float((found.float() - plain).square().mean().sqrt()) < 0.02 * weight * float(plain.std())
