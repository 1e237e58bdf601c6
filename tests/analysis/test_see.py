"""``see``: images that climb, against closed forms, and what is refused."""

import numpy as np
import pytest
import torch

from trainer.analysis.load import load_run
from trainer.analysis.see import Climb, climb, layer_of, penalty

RUN = ("model=cnn", "train.epochs=2", "train.threads=1", "optim=adam")


@pytest.fixture(scope="module")
def run(trained):
    return trained(*RUN)


def test_every_filter_is_raised_and_pixels_stay_in_range(run):
    loaded = load_run(run, device="cpu")
    name, layer = layer_of(loaded, None)
    assert name == "net.0"
    images, before, after = climb(loaded, layer, list(range(10)), Climb())
    assert (after > before).all()
    assert images.shape == (10, 1, 8, 8)
    assert 0 <= images.min() < images.max() <= 16
    x = torch.from_numpy(images)
    with torch.no_grad():  # the answers are those of the printed images
        out = layer((x - loaded.facts.mean) / loaded.facts.std)
    torch.testing.assert_close(out.mean((2, 3)).diagonal(), after)


def test_a_dense_unit_of_a_linear_model_gets_its_best_image(cli, tmp_path, trained):
    """Of an affine map the best pixels are at an end of the range, by the sign of their weight."""
    run = load_run(trained("model=linear", "train.epochs=2"), device="cpu")
    _, layer = layer_of(run, None)
    images, _, _ = climb(run, layer, [3, 7], Climb(steps=400, rate=0.1))
    weight = layer.weight[[3, 7]].detach()
    clear = weight.abs() > 0.05 * weight.abs().max()
    wanted = torch.where(weight > 0, 16.0, 0.0)
    np.testing.assert_allclose(images.reshape(2, -1)[clear], wanted[clear], atol=1e-3)


def test_penalties():
    u = torch.full((2, 1, 4, 4), 0.5)
    u[1] = torch.arange(4) / 4.0  # a ramp across
    found = penalty(u, Climb(l2=2.0, smooth=3.0))
    square = ((torch.arange(4) / 4 - 0.5) ** 2).mean().item()
    assert found.tolist() == pytest.approx([0, 2 * square + 3 * 0.25])


def test_smooth_images_differ_less_between_neighbours(run):
    loaded = load_run(run, device="cpu")
    _, layer = layer_of(loaded, "net.4")
    rough, smooth = (climb(loaded, layer, [0, 1], Climb(smooth=s))[0] for s in (0.0, 100.0))
    assert np.abs(np.diff(smooth)).mean() < 0.7 * np.abs(np.diff(rough)).mean()


def test_the_command(cli, run, tmp_path, trained):
    code, text = cli("see", str(run), "--filters", "0,4", "--out", "seen.png", "--steps", "5")
    assert code == 0, text
    assert "raised   2 of 2 filters of net.0" in text
    assert (tmp_path / "seen.png").read_bytes()[:4] == b"\x89PNG"
    for wrong, words in [
        (("--layer", "net.1"), "--layer=net.1: must be one of net.0, net.4, net.6"),
        (("--filters", "0,10"), "--filters=0,10: must be numbers with commas between them, from 0 to 9 for net.0"),
        (("--steps", "0"), "--steps=0: must be at least 1"),
        (("--rate", "0"), "--rate=0.0: must be more than 0"),
    ]:
        code, text = cli("see", str(run), *wrong)
        assert (code, text.count("\n")) == (2, 1), text
        assert words in text
    code, text = cli("see", str(trained("data=wine", "train.epochs=1")))
    assert (code, text.count("\n")) == (2, 1), text
    assert "no images" in text
