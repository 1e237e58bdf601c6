"""The Transformer against torch's own layers, what its masks hide, and its decoding step by step."""

import pytest
import torch
from torch import nn

from models.transformer import END, PAD, START, Attention, Layer, Transformer

SMALL = {"width": 12, "heads": 3, "hidden": 20, "layers": 2}


def copied(attention):
    """The same weights in torch's attention."""
    width = attention.out.out_features
    theirs = nn.MultiheadAttention(width, attention.heads, batch_first=True)
    parts = attention.query, attention.key, attention.value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(attention.out.state_dict())
    return theirs


def test_attention_and_its_maps_are_torchs():
    torch.manual_seed(0)
    attention, x, memory = Attention(12, 3, 4), torch.randn(5, 4, 12), torch.randn(5, 6, 12)
    there = torch.arange(6) < torch.tensor([6, 1, 2, 3, 4])[:, None]
    mask = there[:, None, None]
    wanted, maps = copied(attention)(x, memory, memory, key_padding_mask=~there, average_attn_weights=False)
    torch.testing.assert_close(attention(x, memory, mask), wanted)
    torch.testing.assert_close(attention.maps(x, memory, mask), maps)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_decoder_layer_is_torchs(norm):
    torch.manual_seed(0)
    layer = Layer(12, 3, 4, 20, 0.0, norm, cross=True)
    theirs = nn.TransformerDecoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=norm == "pre")
    for norm_layer in layer.norms:
        nn.init.normal_(norm_layer.weight)
    theirs.self_attn, theirs.multihead_attn = copied(layer.own), copied(layer.cross)
    theirs.linear1, theirs.linear2 = layer.dense[0], layer.dense[2]
    theirs.norm1, theirs.norm2, theirs.norm3 = layer.norms
    x, memory = torch.randn(2, 4, 12), torch.randn(2, 6, 12)
    there = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    wanted = theirs(x, memory, causal, memory_key_padding_mask=~there)
    torch.testing.assert_close(layer(x, there[:, None, None], memory), wanted)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_no_token_sees_later_ones_and_filling_is_not_seen(norm):
    torch.manual_seed(0)
    model = Transformer((6,), 9, norm=norm, **SMALL).eval()
    x, before = torch.randint(3, 9, (4, 6)), torch.randint(3, 9, (4, 6))
    first = model(x, before)
    for t in range(6):
        other = before.clone()
        other[:, t] = 3 + (other[:, t] - 2) % 6
        changed = (model(x, other) - first).abs().amax((0, 2)) > 1e-6
        assert not changed[:t].any()
        assert changed[t:].all()
    filled = torch.cat([x[:, :4], torch.full((4, 2), PAD)], 1)
    shorter = Transformer((4,), 9, norm=norm, **SMALL).eval()
    state = model.state_dict()
    state["source.position.weight"] = state["source.position.weight"][:4]
    state["target.position.weight"] = state["target.position.weight"][:4]
    shorter.load_state_dict(state)
    torch.testing.assert_close(shorter(x[:, :4], before[:, :4]), model(filled, before)[:, :4])
    assert model(torch.zeros_like(x), before).isfinite().all()


def test_decoding_takes_the_most_probable_token_up_to_the_end():
    torch.manual_seed(3)
    model, x = Transformer((5,), 6, **SMALL).eval(), torch.randint(3, 6, (40, 5))
    nn.init.normal_(model.output[1].weight)
    wrote = model.generate(x)
    assert len({(row == END).any().item() for row in wrote}) == 2  # some end, others do not
    for sample, row in zip(x, wrote.tolist(), strict=True):
        said = [START]
        while len(said) < 6 and said[-1] != END:
            logits = model(sample[None], torch.tensor([said]))[0, -1].tolist()
            said.append(max((k for k in range(6) if k not in (PAD, START)), key=logits.__getitem__))
        assert row == said[1:] + [PAD] * (6 - len(said))


def test_the_size_of_the_example_of_keras():
    model = Transformer((20,), 15_000, width=256, heads=8, head_width=256, hidden=2048, layers=1)
    assert sum(p.numel() for p in model.parameters()) == 19_960_216


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"heads": 5}, "heads=5: must divide width=12"),
        ({"layers": 0}, "layers=0: must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: must be"),
        ({"head_width": 0}, "head_width=0: must be at least 1"),
    ],
)
def test_a_wrong_size_is_refused(wrong, line):
    with pytest.raises(ValueError, match=line):
        Transformer((5,), 6, **SMALL | wrong)


def test_images_are_refused():
    with pytest.raises(ValueError, match="a Transformer takes sequences of tokens"):
        Transformer((1, 8, 8), 10, **SMALL)
