"""The data card: numbers counted by hand, a picture of what is there, and one line for a mistake."""

import re
from functools import partial

import numpy as np
import pytest
from conftest import row
from formats import write_each, write_images
from PIL import Image


@pytest.fixture
def card(command):
    return partial(command, "data-card")


def colours(path):
    return len(np.unique(np.asarray(Image.open(path).convert("L"))))


def test_digits(card, tmp_path):
    from sklearn.datasets import load_digits

    code, text = card("data=digits")
    assert code == 0
    assert row(text, "samples") == ["1,294 train, 144 val, 359 test"]
    assert row(text, "values") == ["[0, 16]"]
    counts = np.bincount(load_digits().target)
    for digit in range(10):
        assert sum(int(cell.split()[0].replace(",", "")) for cell in row(text, str(digit))) == counts[digit]
    picture = tmp_path / "outputs" / "data_card_digits.png"
    assert str(picture.relative_to(tmp_path)) in text
    assert colours(picture) > 10


@pytest.mark.parametrize("data", ["wine", "wine data.limit=1", "linnerud", "multilabel", "multitask", "sine"])
def test_tables_and_series(card, tmp_path, data):
    code, text = card(*f"data={data}".split(), "--out", "cards/picture.png")
    assert code == 0, text
    assert colours(tmp_path / "cards" / "picture.png") > 10
    if data == "wine":
        assert row(text, "alcohol")[:2] == ["11.03", "14.75"]
    if data == "linnerud":
        assert len(re.findall(r"│ Weight +│ (train|val|test) ", text)) == 3
    if data == "multitask":
        assert "gender = 1" in text


@pytest.mark.slow
def test_every_kind_of_file(card, tmp_path):
    for choice, options in write_each(tmp_path).items():
        code, text = card(f"data={choice}", *options, f"--out={choice}.png")
        assert code == 0, text
        assert colours(tmp_path / f"{choice}.png") > 10


def test_images_that_do_not_fit_into_memory_and_augmentation(card, tmp_path):
    write_images(tmp_path / "images", {"cat": 9, "dog": 7})
    options = ["data=image_folder", "data.path=images", "data.size=8", "data.memory_gb=0", "data.workers=0"]
    code, text = card(*options, "data.augment.flip=true")
    assert code == 0, text
    assert row(text, "values") == ["[0, 255] (of 12 samples)"]
    assert row(text, "cat")[0].split()[0] == "6"


def test_samples_with_weights(card, tmp_path):
    rows = "".join(f"{i / 3},{'ab'[i % 3 == 0]},{i % 2 + 0.5}\n" for i in range(30))
    (tmp_path / "t.csv").write_text("size,kind,w\n" + rows)
    code, text = card("data=csv", "data.path=t.csv", "data.targets=kind", "data.weights=w")
    assert code == 0, text
    assert sum(int(cell.split()[0]) for cell in row(text, "b")) == 10


def test_names_in_brackets(card, tmp_path):
    rows = "".join(f"{i},{i % 3},{i}.5\n" for i in range(30))
    (tmp_path / "t.csv").write_text("size [m2],v [/s],rent [bold]\n" + rows)
    code, text = card("data=csv", "data.path=t.csv", "data.targets='rent [bold]'")
    assert code == 0, text
    assert all(name in text for name in ("size [m2]", "v [/s]", "rent [bold]"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data=digts"], "data=digts: no such choice; did you mean digits?"),
        (["data.limits=3"], "data.limits=3: unknown key; did you mean data.limit?"),
        (["data.augment.flp=true"], "data.augment.flp=true: unknown key; did you mean data.augment.flip?"),
        (["data.limit=0"], "data.limit=0: must be at least 1"),
        (["data=csv"], "data.path: missing; must be text"),
        (["data=npz", "data.path=nowhere.npz"], "data.path=nowhere.npz: no such file or folder"),
        (["--out=x.foo"], "--out=x.foo: its name must end in .png"),
        (["--out=/dev/null/x.png"], "--out=/dev/null/x.png: "),
        (["data.augment.crop=-1"], "data.augment.crop=-1: must be in [0, 32768]"),
    ],
)
def test_a_mistake_is_one_line(card, arguments, line):
    code, text = card(*arguments)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"conga: {line}")
