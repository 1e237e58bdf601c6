"""Objectives of models that write sequences of tokens.

Shapes: B batch, T tokens of a target (filled up with ``facts.pad``, after ``facts.end``), K words.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch
from trainer.training.objectives.objective import Objective, Sums, in_full


class NextToken(Objective):
    """The cross-entropy of each next token, given the input and the tokens before it (teacher forcing).

    ``model(x, before)`` gives logits (B, T, K) of each token from those before it, which begin with ``facts.start``;
    ``model.generate(x)`` gives (B, T) tokens, one after the other. The loss is the mean over all tokens up to the end,
    each weighing the same; ``token_accuracy`` the share of them that are right; ``exact_match`` the share of sequences
    that ``generate`` writes without a mistake up to the end.

    Args:
        facts: of the dataset; its task must be ``sequence``.
        l2, l1: see :class:`Objective`.
    """

    task = "sequence"
    metrics = ("loss", "token_accuracy")
    evaluated = ("exact_match",)
    higher_is_better = ("token_accuracy", "exact_match")
    needs = ("generate",)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x, y = batch[:2]
        before = F.pad(y[:, :-1], (1, 0), value=self.facts.start)
        logits = in_full(model(x, before))
        there = y != self.facts.pad
        tokens = there.sum()
        losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=self.facts.pad, reduction="sum")
        loss = losses / tokens + self.penalty(model)
        with torch.no_grad():
            right = ((logits.argmax(2) == y) & there).sum()
        sums = {"loss": loss.detach() * tokens, "weight": tokens, "samples": len(x), "right": right, "tokens": tokens}
        return loss, sums

    def evaluate(self, model: Any, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        wrote, y = model.generate(batch[0]), batch[1]
        match = (self.truth(wrote) == self.truth(y)).all(1).sum()
        return self(model, batch)[1] | {"match": match}, {}

    def finish(self, sums: Any, kept: Any = None) -> dict[str, float]:
        found = super().finish(sums, kept) | {"token_accuracy": sums["right"] / sums["tokens"]}
        return found | ({"exact_match": sums["match"] / sums["samples"]} if "match" in sums else {})

    def predict(self, model: Any, x: Tensor) -> Tensor:
        """Tokens (B, T)."""
        return self.truth(model.generate(x))

    def truth(self, y: Tensor) -> Tensor:
        """Tokens (B, T) with ``facts.pad`` after the first ``facts.end``."""
        after = (y == self.facts.end).cumsum(1) - (y == self.facts.end).long() > 0
        return y.masked_fill(after, self.facts.pad)
