"""How many CPU threads a run takes: a rule over the configuration, the same on every start."""

import pytest
import torch
from torch import nn

from bench.contestants import assembled, random_images
from models.size import layer_sizes, work_at_once
from trainer.__main__ import spin_briefly
from trainer.training import device
from trainer.training.device import WORK_OF_A_THREAD, pick_threads

CPU = torch.device("cpu")


def test_the_steps_of_a_recurrent_layer_wait_for_each_other():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.dense = nn.RNN(5, 7, batch_first=True), nn.Linear(7, 3)

        def forward(self, x):
            return self.dense(self.rnn(x)[0][:, -1])

    layers = layer_sizes(Rows(), (11, 5))
    assert sum(layer.multiply_adds for layer in layers) == 11 * (7 * 5 + 7 * 7) + 7 * 3
    assert work_at_once(layers) == 7 * 5 + 7 * 7 + 7 * 3


@pytest.mark.parametrize(
    ("work", "threads"),
    [(0, 1), (WORK_OF_A_THREAD - 1, 1), (2 * WORK_OF_A_THREAD - 1, 1), (2 * WORK_OF_A_THREAD, 2), (10**12, 4)],
)
def test_each_thread_has_enough_to_do(monkeypatch, work, threads):
    monkeypatch.setattr(device, "TORCH_THREADS", 4)
    assert pick_threads("auto", None, work, CPU) == threads


def test_a_number_a_resume_and_a_gpu_do_not_ask_the_rule(monkeypatch):
    monkeypatch.setattr(device, "TORCH_THREADS", 4)
    assert pick_threads(3, None, 0, CPU) == 3
    assert pick_threads(3, 2, 0, CPU) == 3
    assert pick_threads("auto", 2, 0, CPU) == 2
    assert pick_threads("auto", None, 0, torch.device("cuda")) == 4


@pytest.mark.parametrize(("batch", "threads"), [(32, 1), (100, 3)])
def test_a_run_goes_by_its_layers_and_its_batch(monkeypatch, batch, threads):
    """The CNN on digits has 14,260 multiply-adds a sample: 456,320 and 1,426,000 a step."""
    monkeypatch.setattr(device, "TORCH_THREADS", 4)
    before = torch.get_num_threads()
    try:
        with assembled(*random_images(200, 1, 8, 8), "model=cnn", f"data.batch_size={batch}") as t:
            assert torch.get_num_threads() == t.summary.data["threads"] == threads
    finally:
        torch.set_num_threads(before)


def test_waiting_threads_sleep_soon_unless_the_user_says_how_they_wait():
    for given, then in (({}, "20000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)):
        environment = dict(given)
        spin_briefly(environment)
        assert environment.get("GOMP_SPINCOUNT") == then
