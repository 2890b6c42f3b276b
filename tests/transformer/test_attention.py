"""Attention of a block: what torch's own layers make of each head by itself."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sbikit import generator
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
