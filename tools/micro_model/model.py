"""The micro model: a plain Llama decoder, small enough to train on two CPU cores.

The layout is the one every Llama loader knows (RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied
embeddings). Rotary pairs are interleaved as in Meta's own weights, so the GGUF export needs no permutation.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelShape:
    """Every number that decides the size of the model."""

    vocab_size: int
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 512
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    max_positions: int = 4096

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rotary_tables(shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [max_positions, head_width / 2]."""
    steps = torch.arange(0, shape.head_width, 2).float() / shape.head_width
    angles = torch.outer(torch.arange(shape.max_positions).float(), shape.rope_theta**-steps)
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn neighbouring pairs of the last axis by their position's angle."""
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    return torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), dim=-1).flatten(-2)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention written out: compiled on a CPU it runs about twice as fast as the library's fused kernel."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
    return torch.softmax(scores.float(), dim=-1).to(value.dtype) @ value


class Block(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """One decoder layer: attention, then the gated feed-forward, both with a residual."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, kv_width, bias=False)
        self.value = nn.Linear(shape.width, kv_width, bias=False)
        self.attention_out = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.gate = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.up = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.down = nn.Linear(shape.ffn_width, shape.width, bias=False)

    def forward(self, hidden: Tensor, bias: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        shape, (rows, length, _) = self.shape, hidden.shape
        normed = self.attention_norm(hidden)
        query = self.query(normed).view(rows, length, shape.heads, shape.head_width).transpose(1, 2)
        key = self.key(normed).view(rows, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        value = self.value(normed).view(rows, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        query, key = rotate(query, cosines, sines), rotate(key, cosines, sines)
        group = shape.heads // shape.kv_heads
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        mixed = masked_attention(query, key, value, bias)
        hidden = hidden + self.attention_out(mixed.transpose(1, 2).reshape(rows, length, -1))
        normed = self.ffn_norm(hidden)
        return hidden + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class MicroLlama(nn.Module):  # type: ignore[misc]  # as above
    """The whole model; `forward` gives the normed hidden states, `logits` turns some of them into scores."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        cosines, sines = rotary_tables(shape)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        residual_std = 0.02 / math.sqrt(2 * shape.layers)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(
                    weight, std=residual_std if name.endswith(("attention_out.weight", "down.weight")) else 0.02
                )

    def forward(self, tokens: Tensor, bias: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Hidden states [rows, length, width]; `bias` is 0 where a query may look and very negative elsewhere."""
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden, bias, cosines, sines)
        return self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.embedding.weight)

    def parameter_count(self) -> int:
        return sum(weight.numel() for weight in self.parameters())
