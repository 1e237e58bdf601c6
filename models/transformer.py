"""The encoder-decoder Transformer: from one sequence of tokens to another.

Source: A. Vaswani et al., Attention Is All You Need, 2017; learned positions, as in the Keras example of translation.
Run: ``python -m trainer model=transformer data=sequences optim=adam``

Shapes: B batch, S tokens of an input, T tokens of a target, D width, H heads, K words.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import check_probability, check_sizes, initialize

PAD, START, END = range(3)  # unless a dataset says otherwise


class Attention(nn.Module):
    """Multi-head attention: ``softmax(q k^T / sqrt(d)) v`` of each head, with projections of all (§3.2).

    Args:
        width: D of what comes in and goes out.
        heads: H.
        head_width: d of each head.
    """

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, heads * head_width) for _ in range(3))
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, T, D) that asks, (B, S, D) that is asked, and which it may see, as a mask (B, 1, 1, S) -> (B, T, D)"""
        q, k, v = self.split(self.query, x), self.split(self.key, memory), self.split(self.value, memory)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(seen.transpose(1, 2).flatten(2))

    def maps(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """How much each position of `x` looks at each of `memory`, for pictures: (B, H, T, S), each row with sum 1."""
        q, k = self.split(self.query, x), self.split(self.key, memory)
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(3)

    def split(self, projection: nn.Linear, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d)"""
        return projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)


class Embedding(nn.Module):
    """The sum of a token's vector and that of its position.

    The position tells the order only; that no token sees those after it is up to the decoder's mask.
    """

    def __init__(self, words: int, length: int, width: int, dropout: float):
        super().__init__()
        self.token, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, D)"""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.dropout(self.token(tokens) + self.position(places))


class Layer(nn.Module):
    """A layer of the encoder, or with `cross` of the decoder: attentions, then two dense layers, each with a skip.

    Args:
        norm: ``post``: the norm follows each sum (as published); ``pre``: it stands before each attention.
        cross: whether there is an attention to a memory, too.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float, norm: str, cross: bool):
        super().__init__()
        self.pre = norm == "pre"
        self.own = Attention(width, heads, head_width)
        self.cross = Attention(width, heads, head_width) if cross else None
        self.dense = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Tensor | None = None) -> Tensor:
        """(B, T, D), and of the decoder (B, S, D) with its mask -> (B, T, D)"""
        if self.cross is None:
            x = self.add(0, x, lambda z: self.own(z, z, mask))
        else:
            cross = self.cross
            x = self.add(0, x, lambda z: self.own(z, z, causal=True))
            x = self.add(1, x, lambda z: cross(z, memory, mask))
        return self.add(-1, x, self.dense)

    def add(self, number: int, x: Tensor, part: Any) -> Tensor:
        """`x` and what a part makes of it."""
        norm = self.norms[number]
        if self.pre:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class Transformer(nn.Module):
    """An encoder of the input, and a decoder that writes the target, one token after the other.

    Args:
        input_shape: (S,).
        num_outputs: K words of the targets.
        facts: of the dataset: words of the inputs, length of the targets, and the tokens ``pad``, ``start`` and
            ``end``; without them K words, length S, and tokens 0, 1, 2.
        width: D, of a token's vector.
        heads: H of each attention.
        head_width: of each head; null: ``width / heads``.
        hidden: units of the dense layers.
        layers: of the encoder, and as many of the decoder.
        norm: ``post`` | ``pre``, see :class:`Layer`; the latter has a norm at the end of encoder and decoder.
        dropout: probability of zeroing in embeddings and each layer's parts (§5.4), in [0, 1).
        output_dropout: the same before the output layer.
        init: how weights are drawn, see :func:`models.layers.initialize`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        facts: Any = None,
        width: int,
        heads: int,
        hidden: int,
        layers: int,
        head_width: int | None = None,
        norm: Literal["post", "pre"] = "post",
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        init: str = "default",
    ):
        super().__init__()
        if len(input_shape) != 1 or not isinstance(num_outputs, int) or (facts and facts.vocabulary is None):
            raise ValueError(f"input_shape={tuple(input_shape)}: a Transformer takes sequences of tokens")
        check_sizes(width=width, heads=heads, hidden=hidden, layers=layers)
        if head_width is None and width % heads:
            raise ValueError(f"heads={heads}: must divide width={width}, or give head_width")
        head_width = width // heads if head_width is None else head_width
        check_sizes(head_width=head_width)
        check_probability("dropout", dropout)
        check_probability("output_dropout", output_dropout)
        words = len(facts.vocabulary) if facts else num_outputs
        self.length = facts.target_shape[0] if facts else input_shape[0]
        self.pad: int = facts.pad if facts else PAD
        self.start: int = facts.start if facts else START
        self.end: int = facts.end if facts else END
        of = (width, heads, head_width, hidden, dropout, norm)
        self.source = Embedding(words, input_shape[0], width, dropout)
        self.encoder = nn.ModuleList(Layer(*of, cross=False) for _ in range(layers))
        self.target = Embedding(num_outputs, self.length, width, dropout)
        self.decoder = nn.ModuleList(Layer(*of, cross=True) for _ in range(layers))
        pre = norm == "pre"
        self.encoded, self.decoded = (nn.LayerNorm(width) if pre else nn.Identity() for _ in range(2))
        self.output = nn.Sequential(nn.Dropout(output_dropout), nn.Linear(width, num_outputs))
        initialize(self, init)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) -> (B, S, D), and which of them are no filling, (B, 1, 1, S)"""
        x = x.long()
        there = x != self.pad
        there[:, 0] = True  # an attention to nothing would be NaN
        memory, mask = self.source(x), there[:, None, None]
        for layer in self.encoder:
            memory = layer(memory, mask)
        return self.encoded(memory), mask

    def decode(self, before: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, T) from the start on, and what :meth:`encode` gives -> logits of the next of each, (B, T, K)"""
        x = self.target(before)
        for layer in self.decoder:
            x = layer(x, mask, memory)
        return self.output(self.decoded(x))

    def walk(self, x: Tensor) -> None:
        """Sends inputs (B, S), and targets of starts, through all layers, to measure these."""
        self(x, torch.full((len(x), self.length), self.start, device=x.device))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Logits of each next token.

        Args:
            x: (B, S).
            before: (B, T), the target's tokens before each.

        Returns:
            (B, T, K)
        """
        return self.decode(before, *self.encode(x))

    @torch.no_grad()
    def generate(self, x: Tensor) -> Tensor:
        """The most probable next token, again and again up to the end: (B, S) -> (B, T), filled up with ``pad``"""
        memory, mask = self.encode(x)
        wrote = torch.full((len(x), self.length + 1), self.pad, device=x.device)
        wrote[:, 0] = self.start
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for t in range(self.length):
            logits = self.decode(wrote[:, : t + 1], memory, mask)[:, -1]
            logits[:, [self.pad, self.start]] = -torch.inf  # no target has them
            wrote[:, t + 1] = logits.argmax(1).where(going, self.pad)
            going = going & (wrote[:, t + 1] != self.end)
            if not going.any():
                break
        return wrote[:, 1:]

    @torch.no_grad()
    def attention(self, x: Tensor, before: Tensor) -> list[Tensor]:
        """The maps of each decoder layer's attention to the input: (B, H, T, S) each"""
        maps: list[Tensor] = []
        hooks = [
            part.cross.register_forward_pre_hook(lambda part, inputs: maps.append(part.maps(*inputs)))
            for part in self.decoder
            if isinstance(part, Layer) and part.cross is not None
        ]
        try:
            self(x, before)
        finally:
            for hook in hooks:
                hook.remove()
        return maps
