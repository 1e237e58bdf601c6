"""The model card: its rows and totals against numbers worked out by hand."""

from functools import partial

import pytest
from conftest import row
from formats import write_mnist


@pytest.fixture
def model_card(command):
    return partial(command, "model-card")


def test_layers_and_totals(model_card):
    code, text = model_card("model=cnn", "data=digits")
    assert code == 0, text
    assert row(text, "net.0") == ["Conv2d", "10 x 8 x 8", "100", "5,760"]  # 10 (9 + 1); 640 x 9
    assert row(text, "net.2") == ["MaxPool2d", "10 x 4 x 4", "", ""]
    assert row(text, "net.4") == ["Linear", "50", "8,050", "8,000"]  # 50 (160 + 1); 50 x 160
    assert row(text, "total")[2:] == ["8,660", "14,260"]


@pytest.mark.slow
def test_totals_are_whole_on_a_narrow_terminal(model_card, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, text = model_card("model=vgg16", "--input", "3x224x224", "--outputs", "1000")
    assert code == 0
    assert "138,357,544" in text
    assert "15,470,264,320" in text


def test_without_data(model_card):
    code, text = model_card("model=resnet18", "--input", "3x32x32", "--outputs", "100")
    assert code == 0, text
    assert row(text, "fc") == ["Linear", "100", "51,300", "51,200"]


def test_several_heads_and_files(model_card, tmp_path):
    write_mnist(tmp_path / "idx")
    code, text = model_card("model=linear", "data=fashion_mnist", "data.root=idx", "data.val_size=5")
    assert code == 0, text
    assert row(text, "total")[2] == "7,850"
    assert model_card("data=multitask")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model=vgg11"], "model=vgg11 data=digits: input_shape=(1, 8, 8): too small for VGG"),
        (["model=vgg11", "--input", "1x8x8"], "model: input_shape=(1, 8, 8): too small for VGG"),
        (["--input", "3x8x8", "--outputs", "0"], "--outputs=0: must be at least 1"),
        (["--outputs", "x"], "argument --outputs: invalid int value: 'x'; --help lists"),
        (["--input", "3y8"], "--input=3y8: must be numbers with x between them"),
        (["model.width=3"], "model.width=3: unknown key; did you mean model.widths?"),
    ],
)
def test_a_mistake_is_one_line(model_card, arguments, line):
    code, text = model_card(*arguments)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"conga: {line}")
