"""``train.eval_untrained``: what a model is before its first step, and that nobody notices having been looked at."""

import pytest
import torch
from conftest import COMMON, summary, training_of
from sklearn import metrics
from torch.nn import functional as F

from data.digits import Digits
from models.mlp import MLP
from trainer.training.loop import measure_epoch, measure_untrained, train_epoch
from trainer.training.objectives import CrossEntropy

RUN = ("train.epochs=1", "train.eval_untrained=true", "model.norm=batch", "model.dropout=0.3", "seed=3")


class Restless(CrossEntropy):
    """Draws a number for each batch, and keeps a tensor that it makes when it is first called."""

    def compare(self, logits_BK, y, reduction):
        if not hasattr(self, "ones"):
            self.ones = torch.ones_like(logits_BK[0])
        torch.rand(3)
        return super().compare(logits_BK * self.ones, y, reduction)


def test_it_is_the_model_as_it_was_made(trained):
    """With the same seed by hand, and scikit-learn's metrics."""
    run = trained(*RUN)
    found = summary(run)["untrained"]
    dataset = Digits(**COMMON).load()
    torch.manual_seed(3)
    model = MLP((1, 8, 8), 10, widths=[64, 64], norm="batch", dropout=0.3).eval()
    for split in ("train", "val"):
        x, y = dataset.batch(split, slice(None))
        logits = model(x).detach()
        assert found[f"{split}/loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
        assert found[f"{split}/accuracy"] == pytest.approx(metrics.accuracy_score(y, logits.argmax(1)))
        assert found[f"{split}/f1"] == pytest.approx(metrics.f1_score(y, logits.argmax(1), average="macro"))
    log = (run / "train.log").read_text().splitlines()
    (line,) = (line for line in log if line.startswith("untrained "))
    parts = [f"{s} loss {found[f'{s}/loss']:.4f} accuracy {found[f'{s}/accuracy']:.4f}" for s in ("train", "val")]
    assert line == "  ".join(["untrained ", *parts])


def test_it_changes_nothing():
    def trained_from(seed, look):
        torch.manual_seed(seed)
        dataset = Digits(**COMMON | {"limit": 200}).load()
        model, objective = MLP((1, 8, 8), 10, widths=[16], norm="batch", dropout=0.3), Restless(dataset.facts)
        t = training_of(model, dataset, objective, torch.optim.SGD(model.parameters(), lr=0.1), epochs=1)
        t.summary.writes = False
        if look:
            measure_untrained(t)
        train_epoch(t, None)
        return t, {k: v for k, v in measure_epoch(t)[0].items() if not k.startswith("time/")}

    (plain, row), (looked, same) = trained_from(0, look=False), trained_from(0, look=True)
    assert looked.summary.data["untrained"] == looked.progress.untrained
    assert row == same
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, looked.model.state_dict()[name]), name
