"""The picture of what a Transformer looks at while it writes: the attention of its last decoder layer to the input.

Shapes: B samples, H heads, S tokens of an input, T tokens of a target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from trainer.analysis.load import Run
from trainer.plot.figures import rendered

SAMPLES = 3
HEADS = 8  # columns of the picture


def attention_picture(run: Run, split: str, title: str) -> bytes | None:
    """Maps of the first samples of a split, as a PNG; None of a model without a method ``attention``."""
    model: Any = run.model
    if not hasattr(model, "attention"):
        return None
    facts, index = run.facts, torch.arange(min(SAMPLES, run.dataset.facts.sizes[split]), device=run.device)
    with torch.inference_mode(), run.cast():
        x, *_ = run.dataset.batch(split, index)
        wrote = model.generate(x)
        maps = model.attention(x, F.pad(wrote[:, :-1], (1, 0), value=facts.start))[-1].float().cpu().numpy()
    words = facts.vocabulary or (), facts.output_names[""]
    panels = []
    for source, target, of_heads in zip(x.tolist(), wrote.tolist(), maps, strict=True):
        S = source.index(facts.pad) if facts.pad in source else len(source)
        T = target.index(facts.end) + 1 if facts.end in target else len(target)
        texts = [[names[k] for k in tokens] for names, tokens in zip(words, (source[:S], target[:T]), strict=True)]
        panels.append((texts[0], texts[1], of_heads[:HEADS, :T, :S]))
    return rendered(attention_maps, title, panels, maps.shape[1])


def attention_maps(title: str, panels: list[tuple[list[str], list[str], np.ndarray]], heads: int) -> Figure:
    """A row for each sample, a column for each head: how much each written token (down) looks at the input (across).

    Args:
        panels: input, written tokens, and maps (H, T, S) of each sample.
        heads: their number in the model.
    """
    across = len(panels[0][2])
    longest = max(len(word) for read, wrote, _ in panels for word in (*read, *wrote))
    side = 0.4 + max(0.16 * max(len(read) for read, _, _ in panels), 1.2) + 0.07 * longest
    figure = Figure(figsize=(max(5.0, side * across), side * len(panels) + 0.9), layout="constrained")
    for axes, (read, wrote, maps) in zip(figure.subplots(len(panels), across, squeeze=False), panels, strict=True):
        for k, (axis, map_TS) in enumerate(zip(axes, maps, strict=True)):
            axis.imshow(map_TS, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axis.set_xticks(range(len(read)), read, fontsize=7, rotation=90 if max(map(len, read)) > 2 else 0)
            axis.set_yticks(range(len(wrote)), wrote if k == 0 else [""] * len(wrote), fontsize=7)
            axis.tick_params(length=0)
            if axis in figure.axes[:across]:
                axis.set_title(f"head {k + 1}", fontsize=8)
    fewer = f"; {across} of {heads} heads" if across < heads else ""
    words = f"attention of the last decoder layer: written (down), read (across){fewer}"
    figure.suptitle(f"{words}\n{title}", fontsize=9)
    return figure
