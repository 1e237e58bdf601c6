"""Recurrent networks against their equations, step by step."""

import pytest
import torch
from test_models import count, make

from models.size import layer_sizes

B, T, D, H, K = 3, 5, 2, 4, 6


def pieces(model, gates, suffix="l0"):
    """Weights of a layer, one matrix a gate: W (H, D), U (H, H), and the sum of the two biases."""
    w, u = (getattr(model.recurrent, f"weight_{k}_{suffix}").chunk(gates) for k in ("ih", "hh"))
    biases = [getattr(model.recurrent, f"bias_{k}_{suffix}").chunk(gates) for k in ("ih", "hh")]
    return w, u, *biases


def lstm(model, x, suffix="l0"):
    """Gate by gate: forget, input, candidate, output; (B, T, D) -> hidden states (B, T, H)."""
    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o), b, d = pieces(model, 4, suffix)
    b_i, b_f, b_c, b_o = (p + q for p, q in zip(b, d, strict=True))
    h = c = torch.zeros(len(x), H)
    states = []
    for t in range(x.shape[1]):
        f = torch.sigmoid(x[:, t] @ w_f.T + h @ u_f.T + b_f)
        i = torch.sigmoid(x[:, t] @ w_i.T + h @ u_i.T + b_i)
        candidate = torch.tanh(x[:, t] @ w_c.T + h @ u_c.T + b_c)
        c = f * c + i * candidate
        o = torch.sigmoid(x[:, t] @ w_o.T + h @ u_o.T + b_o)
        h = o * torch.tanh(c)
        states.append(h)
    return torch.stack(states, 1)


def gru(model, x, suffix="l0"):
    """Reset and update gate (Cho et al. 2014, with torch's bias inside the reset)."""
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (d_r, d_z, d_n) = pieces(model, 3, suffix)
    h, states = torch.zeros(len(x), H), []
    for t in range(x.shape[1]):
        r = torch.sigmoid(x[:, t] @ w_r.T + h @ u_r.T + b_r + d_r)
        z = torch.sigmoid(x[:, t] @ w_z.T + h @ u_z.T + b_z + d_z)
        n = torch.tanh(x[:, t] @ w_n.T + b_n + r * (h @ u_n.T + d_n))
        h = (1 - z) * n + z * h
        states.append(h)
    return torch.stack(states, 1)


def rnn(model, x, suffix="l0", nonlinearity=torch.tanh):
    (w,), (u,), (b,), (d,) = pieces(model, 1, suffix)
    h, states = torch.zeros(len(x), H), []
    for t in range(x.shape[1]):
        h = nonlinearity(x[:, t] @ w.T + h @ u.T + b + d)
        states.append(h)
    return torch.stack(states, 1)


CELLS = {"lstm": lstm, "gru": gru, "rnn": rnn}


@pytest.mark.parametrize("cell", CELLS)
def test_equations(cell):
    model, x = make(cell, (T, D), K, hidden_size=H), torch.randn(B, T, D)
    w, b = model.head[-1].parameters()
    torch.testing.assert_close(model(x), CELLS[cell](model, x)[:, -1] @ w.T + b)
    model = make(cell, (T, D), K, hidden_size=H, pooling="mean")
    w, b = model.head[-1].parameters()
    torch.testing.assert_close(model(x), CELLS[cell](model, x).mean(1) @ w.T + b)


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_and_two_layers(cell):
    model, x = make(cell, (T, D), K, hidden_size=H, bidirectional=True), torch.randn(B, T, D)
    w, b = model.head[-1].parameters()
    forward = CELLS[cell](model, x)[:, -1]
    backward = CELLS[cell](model, x.flip(1), "l0_reverse")[:, -1]
    torch.testing.assert_close(model(x), torch.cat([forward, backward], 1) @ w.T + b)
    model = make(cell, (T, D), K, hidden_size=H, layers=2)
    w, b = model.head[-1].parameters()
    torch.testing.assert_close(model(x), CELLS[cell](model, CELLS[cell](model, x), "l1")[:, -1] @ w.T + b)


def test_relu_and_dense_layers_on_top():
    """SimpleRNN(32, ReLU) - dense 8 - 1 on one step of four values; torch has two biases where Keras has one."""
    model = make("rnn", (1, 4), 1, nonlinearity="relu", widths=[8])
    assert count(model) == (4 * 32 + 32 * 32 + 2 * 32) + (32 * 8 + 8) + (8 + 1)
    x = torch.randn(B, 1, 4)
    cell = model.recurrent
    hidden = (x[:, 0] @ cell.weight_ih_l0.T + cell.bias_ih_l0 + cell.bias_hh_l0).relu()
    w1, b1, w2, b2 = model.head.parameters()
    torch.testing.assert_close(model(x), (hidden @ w1.T + b1).relu() @ w2.T + b2)


def test_an_image_is_a_sequence_of_rows():
    model, x = make("gru", (3, 8, 5), K, hidden_size=H), torch.randn(B, 3, 8, 5)
    rows = torch.stack([x[:, :, r].reshape(B, 15) for r in range(8)], 1)
    w, b = model.head[-1].parameters()
    torch.testing.assert_close(model(x), gru(model, rows)[:, -1] @ w.T + b)


def test_multiply_adds_of_a_sequence():
    """Each step multiplies the input and the state by the matrices of four gates."""
    rows = layer_sizes(make("lstm", (T, D), K, hidden_size=H), (T, D))
    assert [row.multiply_adds for row in rows] == [T * 4 * (D * H + H * H), H * K]
