"""Style transfer: its parts by hand, the picture stays one, and a run that goes on."""

import io

import numpy as np
import pytest
import torch
from conftest import summary
from PIL import Image

from data import Facts
from data.photo import photograph
from models.pixels import Pixels
from trainer.training.objectives.style import Style, gram

FACTS = Facts(
    *("photo", "regression", (3, 16, 24), 1, None, None, {"train": 1}, torch.zeros(1), torch.tensor(255.0)),
    value_range=(0, 255),
)
RUN = ["experiment=style_transfer", "data.size=16", "data.steps=5", "train.epochs=2", "train.threads=1"]


def test_gram_is_the_mean_of_products():
    f = torch.randn(2, 3, 4, 5)
    wanted = torch.stack(
        [sum(torch.outer(one[:, i, j], one[:, i, j]) for i in range(4) for j in range(5)) for one in f]
    )
    torch.testing.assert_close(gram(f), wanted / 20)


def test_the_parts_of_the_loss():
    """Without style it is the content, whose least is the photograph; the style is least at the picture itself."""
    objective = Style(FACTS, picture="flower")
    objective.begin()
    flower = torch.from_numpy(photograph("flower", 16))[None] / 255
    china = torch.from_numpy(photograph("china", 16))[None] / 255
    assert flower.shape == china.shape == (1, 3, 16, 24)
    model = Pixels((3, 16, 24), 1, mean=0.0, deviation=0.0)
    found = {}
    for name, start in (("china", china), ("flower", flower)):
        with torch.no_grad():
            model.pixels.copy_(start)
        loss, found[name] = objective(model, (china, torch.zeros(1, 1)))
        parts = found[name]["content"] + 10 * found[name]["style"] + found[name]["variation"]
        torch.testing.assert_close(loss.detach(), parts)
    assert found["china"]["content"] == 0 < found["flower"]["content"]
    assert found["flower"]["style"] < 1e-9 < found["china"]["style"]
    across = np.square(np.diff(china[0].numpy(), axis=2)).mean() + np.square(np.diff(china[0].numpy(), axis=1)).mean()
    assert found["china"]["variation"].item() == pytest.approx(across, rel=1e-4)


def test_a_picture_in_its_box(cli, tmp_path):
    code, text = cli(*RUN, "optim.lr=1.0", "hydra.run.dir=run")  # steps beyond the box
    assert code == 0, text
    pixels = torch.load(tmp_path / "run/checkpoints/last.pt")["model"]["pixels"]
    assert (pixels.min(), pixels.max()) == (0, 1)
    drawn = np.asarray(Image.open(io.BytesIO((tmp_path / "run/evaluation/picture.png").read_bytes())))
    best = torch.load(tmp_path / "run/checkpoints/best.pt")["model"]["pixels"]
    np.testing.assert_array_equal(drawn, (255 * best[0]).round().byte().permute(1, 2, 0))
    found = summary(tmp_path / "run")
    assert found["best"]["metric"] == "train/loss"


def test_your_own_photographs(cli, tmp_path):
    for name, colour in (("a", (250, 10, 10)), ("b", (10, 10, 250))):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    code, text = cli(*RUN, "data.path=a.png", "objective.picture=b.png", "hydra.run.dir=run")
    assert code == 0, text
    assert "input 3 x 16 x 24" in text
    (tmp_path / "b.png").unlink()  # the checkpoints have it
    code, text = cli("resume", "run", "train.epochs=3")
    assert code == 0, text


def test_it_goes_on_exactly(goes_on):
    assert goes_on("batch", *RUN, "logger=csv", "train.checkpoint_steps=1", at_most=3) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["objective.picture=nowhere.jpg"], "objective.picture=nowhere.jpg: no such file or folder"),
        (["data.path=nowhere.jpg"], "data.path=nowhere.jpg: no such file or folder"),
        (["objective.style=-1"], "objective.style=-1: must be at least 0"),
        (["data.normalize=global"], "pixels in colour, from 0 to 1"),
        (["objective.network=nowhere.pth"], "no such file"),
        (["model=mlp"], "Style compares outputs (1) with inputs (3 x 16 x 24)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(cli, tmp_path, words, line):
    code, text = cli(*RUN, *words, "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert line in text
    assert not (tmp_path / "run").exists()
