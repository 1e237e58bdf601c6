"""Pictures of runs: what is drawn, read back from the figures, against numpy; files; one line for a mistake."""

import csv
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from conftest import ROOT
from hand_made import CHOICES, with_keys, write_run
from matplotlib.colors import to_hex, to_rgb

from trainer.plot import look, points, sweep
from trainer.plot.command import figure_of as asked
from trainer.plot.curves import curves_figure
from trainer.plot.heatmap import heatmap_figure
from trainer.plot.parallel import parallel_figure
from trainer.plot.scale import Scale, labels, logarithmic
from trainer.plot.values import cells
from trainer.rundir.records import find_runs

TWO = ("optim.lr", "optim.momentum")


@pytest.fixture
def run_plot(command):
    return partial(command, "plot")


@pytest.fixture
def make(tmp_path):
    """make(optim__lr=…, loss=[…], accuracy=…, status=…) -> a run below tmp_path/runs."""
    numbers = iter(range(1000))

    def make(loss=(0.9, 0.5, 0.6), accuracy=0.8, status="finished", choices=None, seconds=1.0, **keys):
        test = {"loss": 1 - accuracy, "accuracy": accuracy} if status == "finished" else {}
        path = tmp_path / "runs" / str(next(numbers))
        write_run(path, with_keys(**keys), CHOICES | (choices or {}), losses=loss, test=test, status=status)
        with open(path / "metrics.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["epoch", "step", "train/loss", "train/accuracy", "val/loss", "time/epoch_s"])
            table.writerows([i + 1, 10 * i + 10, x / 2, 1 - x / 2, x, seconds] for i, x in enumerate(loss))
        return path

    return make


@pytest.fixture
def records(tmp_path):
    return lambda: find_runs([tmp_path / "runs"])


def texts(figure):
    """Everything that a legend, the title and the caption say."""
    said = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    said += [legend.get_title().get_text() for legend in figure.legends]
    said += [text.get_text() for text in (figure._suptitle, figure._supxlabel) if text is not None]
    return [text.replace("\n", " ") for text in said]  # long ones are folded


def drawn(axis):
    """The lines of an axis that have points and are no crosses."""
    return [line for line in axis.lines if len(line.get_xdata()) and line.get_marker() != "x"]


def crosses(axis):
    return [line.get_xydata().tolist() for line in axis.lines if line.get_marker() == "x"]


# Scales


@pytest.mark.parametrize("low", [1e-5, 0.3, 2])
@pytest.mark.parametrize("ratio", [2, 10, 3.7])
@pytest.mark.parametrize("n", [4, 7])
def test_equal_ratios_are_logarithmic_and_equal_steps_are_not(low, ratio, n):
    geometric = [low * ratio**i for i in range(n)]
    scale = Scale.of("key", geometric)
    if ratio**n < 10 * ratio:  # less than a factor of ten between them
        assert scale.kind == "linear"
    else:
        assert scale.kind == "log"
        steps = np.diff([scale.place(v) for v in geometric])
        np.testing.assert_allclose(steps, np.log10(ratio))
    arithmetic = [low + ratio * i for i in range(n)]
    assert Scale.of("key", arithmetic).kind == "linear" or not np.allclose(np.diff(arithmetic), ratio)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.1], True),
        ([0.1, 0.9], False),
        ([0, 1e-4, 1e-3, 1e-2], True),
        ([-1, 10, 100], False),
        ([1, 2, 3, 10], True),
        (list(range(1, 21)), False),
        ([32, 64, 128, 512], True),
        ([1e-3, 1e-2, 1e-1, 1e35, 1e36], True),
        ([1], False),
    ],
)
def test_which_numbers_are_logarithmic(values, expected):
    assert logarithmic(values) is expected


def test_zero_among_powers_of_ten_stands_a_step_below():
    scale = Scale.of("l2", [1e-2, 0, 1e-4, 1e-3])
    assert [scale.place(v) for v in scale.values] == pytest.approx([-5, -4, -3, -2])
    assert scale.ticks()[1] == ["0", "1e-4", "1e-3", "1e-2"]


def test_numbers_are_written_short_and_exactly():
    powers = [10.0**i for i in range(-5, 2)]
    assert labels(powers) == ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1", "10"]
    typed = [0.1, 0.25, 0.9375, 3, 128, 4096, 50000, 1e6, 2.5e-4, 0, -0.5]
    assert [float(text) for text in labels(typed)] == typed
    drawn_by_lot = np.random.default_rng(0).uniform(size=50).tolist()
    assert len(set(labels(drawn_by_lot))) == 50
    assert labels([None, True, "sgd", (64, 64)]) == ["null", "true", "sgd", "[64, 64]"]


# Curves


def test_mean_and_band_of_runs_of_different_length(make, records):
    losses = {0: [2.0, 1.0, 0.7, 0.6], 1: [2.2, 1.4, 0.9], 2: [1.9, 1.2, 0.5, 0.3]}
    for seed, loss in losses.items():
        make(loss, seed=seed)
    figure = curves_figure(records(), "epoch", ["val/loss"], band=["seed"])
    (axis,) = figure.axes
    (line,) = drawn(axis)
    by_epoch = [[loss[e] for loss in losses.values() if len(loss) > e] for e in range(4)]
    mean, sd = [np.mean(x) for x in by_epoch], np.array([np.std(x, ddof=1) for x in by_epoch])
    np.testing.assert_allclose(line.get_xydata(), np.stack([[1, 2, 3, 4], mean], 1))
    (band,) = axis.collections
    corners = {tuple(np.round(corner, 12)) for corner in band.get_paths()[0].vertices}
    for sign in (-1, 1):
        for point in zip([1, 2, 3, 4], mean + sign * sd, strict=True):
            assert tuple(np.round(point, 12)) in corners
    assert any("mean over seed (n = 2–3); band: ± 1 standard deviation" in text for text in texts(figure))


def test_groups_are_equal_up_to_the_seed(make, records):
    for momentum in (0.5, 0.9):
        for lr in (0.1, 0.2):
            for seed in (0, 1):
                make([lr, lr * momentum + seed], optim__lr=lr, optim__momentum=momentum, seed=seed)
    figure = curves_figure(records(), "step", ["val/loss"], by=["optim.lr"], band=["seed"])
    lines = drawn(figure.axes[0])
    assert sorted(line.get_ydata()[1] for line in lines) == pytest.approx([0.55, 0.59, 0.6, 0.68])
    assert {line.get_xdata().tolist()[1] for line in lines} == {20}
    assert len({line.get_color() for line in lines}) == 2
    assert {to_hex(line.get_color()).upper() for line in lines} <= set(look.CATEGORIES)
    assert "0.1" in texts(figure)
    assert any("mean over seed (n = 2);" in text for text in texts(figure))
    assert "optim.lr" in texts(figure)


def test_a_diverged_run_ends_in_a_cross_and_is_no_part_of_the_mean(make, records):
    make([2.0, 1.0, 0.5], seed=0)
    make([2.2, 1.2, 0.7], seed=1)
    make([2.5, float("nan")], seed=2, status="diverged")
    make([], seed=3, status="diverged")
    figure = curves_figure(records(), "epoch", ["val/loss"], by=["optim"], band=["seed"])
    (axis,) = figure.axes
    mean, lone = sorted(drawn(axis), key=lambda line: -len(line.get_xdata()))
    np.testing.assert_allclose(mean.get_ydata(), [2.1, 1.1, 0.6])
    assert lone.get_xydata().tolist() == [[1, 2.5]]
    assert crosses(axis) == [[[1, 2.5]]]
    assert {"diverged", "sgd"} <= set(texts(figure))


def test_what_only_diverged_says_so_and_does_not_stretch_the_axis(make, records):
    make([2.0, 1.0], optim__lr=0.1)
    make([50.0, 1e9], optim__lr=100.0, status="diverged")
    make([], optim__lr=1000.0, status="diverged")
    figure = curves_figure(records(), "epoch", ["val/loss"])
    (axis,) = figure.axes
    assert axis.get_ylim()[1] < 3
    assert axis.get_yscale() == "linear"
    assert [2, axis.get_ylim()[1]] in [cross[0] for cross in crosses(axis)]  # at the edge that the line leaves through
    assert {"0.1", "100  (diverged)", "1000  (diverged in its first epoch)"} <= set(texts(figure))


def test_seconds_add_up(make, records):
    make([0.9, 0.5, 0.6], seconds=2.0, seed=0)
    make([0.7, 0.3, 0.2], seconds=4.0, seed=1)
    (line,) = drawn(curves_figure(records(), "seconds", ["val/loss"], band=["seed"]).axes[0])
    np.testing.assert_allclose(line.get_xydata(), [[3, 0.8], [6, 0.4], [9, 0.4]])
    lines = drawn(curves_figure(records(), "seconds", ["val/loss"]).axes[0])
    assert [line.get_xdata().tolist() for line in lines] == [[2, 4, 6], [4, 8, 12]]


def test_logarithmic_axes(make, records):
    make([1.0, 0.01, 0.001])
    make([1.0, 0.02, 0.002])

    def scale(*ys, **how):
        return [axis.get_yscale() for axis in curves_figure(records(), "epoch", ys, **how).axes]

    assert scale("val/loss", "train/accuracy") == ["log", "linear"]
    assert scale("val/loss", log=(None, False)) == ["linear"]
    assert scale("train/accuracy", log=(None, True)) == ["log"]
    figure = curves_figure(records(), "epoch", ["val/loss"], log=(True, None))
    assert figure.axes[0].get_xscale() == "log"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("epoch", "validation loss")


def test_many_values_of_a_number_have_a_bar_of_colours(make, records):
    rates = np.geomspace(1e-4, 1, 12)
    for lr in rates:
        make([lr, lr], optim__lr=float(lr))
    figure = curves_figure(records(), "epoch", ["val/loss"])
    axis, bar = figure.axes
    assert bar.get_ylabel() == "optim.lr"
    assert bar.get_ylim() == pytest.approx((-4, 0))
    luminance = [sum(to_rgb(line.get_color())) for line in sorted(drawn(axis), key=lambda line: line.get_ydata()[0])]
    assert luminance[0] < luminance[-1]


# Heat maps


@pytest.fixture
def grid(make):
    """Learning rates and momenta, two seeds each -> accuracy; one cell diverged, one in half, one is missing."""
    rates, momenta = [1e-3, 1e-2, 0.1, 1.0], [0.1, 0.5, 0.9]
    found = {}
    for i, lr in enumerate(rates):
        for j, momentum in enumerate(momenta):
            for seed in (0, 1):
                place, keys = (lr, momentum), {"optim__lr": lr, "optim__momentum": momentum, "seed": seed}
                if place == (0.1, 0.1):
                    continue
                if place == (1.0, 0.9) or (place == (1.0, 0.5) and seed == 0):
                    make([], status="diverged", **keys)
                else:
                    value = 0.1 + 0.2 * i + 0.07 * j + 0.01 * seed
                    make(accuracy=value, **keys)
                    found.setdefault(place, []).append(value)
    return rates, momenta, found


def test_cells_of_a_heat_map(grid, records):
    rates, momenta, found = grid
    figure = heatmap_figure([("", records())], TWO, ["train/accuracy", "test/accuracy"], ["seed"])
    train, test, bar = figure.axes
    assert (train.get_title(), test.get_title(), bar.get_ylabel()) == ("train accuracy", "test accuracy", "accuracy")
    said = {text.get_position(): text for text in test.texts}
    norm_low, norm_high = bar.get_ylim()
    trained = {text.get_text().partition("\n")[0] for text in train.texts}
    assert trained == {"0.750", "div."}  # in the row of the best epoch, and not of the last one
    assert norm_high == pytest.approx(max(0.75, *(np.mean(v) for v in found.values())))
    assert norm_low == pytest.approx(min(np.mean(v) for v in found.values()))
    faces = {}
    for patch in test.patches:
        if patch.get_fill():
            faces[patch.get_x() + 0.5, patch.get_y() + 0.5] = patch
    for i, lr in enumerate(rates):
        for j, momentum in enumerate(momenta):
            values = found.get((lr, momentum))
            if (lr, momentum) == (0.1, 0.1):
                assert (i, j) not in said
                assert (i, j) not in faces
            elif values is None:
                assert said[i, j].get_text() == "div."
                assert faces[i, j].get_hatch()
            else:
                number, _, lost = said[i, j].get_text().partition("\n")
                assert number == f"{np.mean(values):.3f}"
                assert lost == ("1 div." if (lr, momentum) == (1.0, 0.5) else "")
                assert bool(faces[i, j].get_hatch()) == bool(lost)
    assert [tick.get_text() for tick in test.get_xticklabels()] == ["1e-3", "1e-2", "1e-1", "1"]
    assert test.get_xticks().tolist() == [0, 1, 2, 3]
    assert (train.get_xlabel(), train.get_ylabel()) == TWO
    assert any(
        "mean over seed (n = 1–2)" in text and "train accuracy at the best epoch" in text for text in texts(figure)
    )


def test_numbers_are_legible_on_their_cells(grid, records):
    figure = heatmap_figure([("", records())], TWO, ["test/accuracy"])
    axis = figure.axes[0]
    faces = {(p.get_x() + 0.5, p.get_y() + 0.5): p.get_facecolor() for p in axis.patches if p.get_fill()}

    def luminance(colour):  # WCAG 2
        c = np.array(to_rgb(colour))
        return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for text in axis.texts:
        dark, light = sorted(map(luminance, (text.get_color(), faces[text.get_position()])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
        assert text.get_fontsize() >= 6


def test_low_is_bright_in_a_map_of_losses(make, records):
    for lr in (0.1, 1.0):
        for momentum in (0.5, 0.9):
            make(accuracy=1 - 0.005 * 20 ** ((lr > 0.5) + (momentum > 0.6)) / 4, optim__lr=lr, optim__momentum=momentum)
    axis, bar = heatmap_figure([("", records())], TWO, ["test/loss"]).axes
    faces = {(p.get_x() + 0.5, p.get_y() + 0.5): sum(p.get_facecolor()) for p in axis.patches if p.get_fill()}
    assert faces[0, 0] > faces[1, 0] > faces[1, 1]
    assert bar.get_yscale() == "log"  # 0.00125 to 0.5


def test_rates_drawn_by_lot_are_points(make, records):
    rng = np.random.default_rng(0)
    for lr, momentum in zip(10 ** rng.uniform(-4, 0, 30), rng.uniform(0, 1, 30), strict=True):
        make(optim__lr=float(lr), optim__momentum=float(momentum), status="diverged" if lr > 0.3 else "finished")
    lost = sum(r.status == "diverged" for r in records())
    axis = heatmap_figure([("", records())], TWO, ["test/accuracy"]).axes[0]
    kept, crossed = axis.collections
    assert (len(kept.get_offsets()), len(crossed.get_offsets())) == (30 - lost, lost)
    where = sorted(np.log10([r.config["optim.lr"] for r in records() if r.status == "finished"]))
    np.testing.assert_allclose(sorted(kept.get_offsets()[:, 0]), where)


# Parallel coordinates


def test_parallel_coordinates(make, records):
    for lr, optim, accuracy in ((1e-3, "sgd", 0.5), (1e-2, "adam", 0.9), (1e-1, "cgd", 0.7)):
        make(optim__lr=lr, accuracy=accuracy, choices={"optim": optim})
    make([], status="diverged", optim__lr=1.0, choices={"optim": "sgd"})
    figure = parallel_figure(records(), ["optim", "optim.lr"], "test/accuracy")
    (axis,) = figure.axes
    lost, kept = axis.collections
    (gone,), lines = ([tuple(np.round(path.vertices[:, 1], 9)) for path in c.get_paths()] for c in (lost, kept))
    # adam, cgd, sgd in order; 1e-3 … 1 by logarithms; 0.5 … 0.9; the best is drawn last, on top
    assert lines == [(1, 0, 0), (0.5, round(2 / 3, 9), 0.5), (0, round(1 / 3, 9), 1)]
    assert gone[:2] == (1, 1)
    assert gone[2] < 0  # below the axis
    assert lost.get_linestyle()[0][1] is not None  # dashed
    assert len(set(lost.get_colors()[0][:3])) == 1  # grey
    colours = kept.get_colors()
    assert sum(colours[-1][:3]) > sum(colours[0][:3])
    assert any("diverged (1)" in text.get_text() for text in axis.texts)


def test_many_lines_are_as_they_are_one_by_one(make, records):
    """From some number on they are one artist: the same points, colours and dashes; dots and crosses besides."""
    for i in range(25):
        make([0.5 + i, 0.25] if i else [0.5], optim__lr=float(i), status="diverged" if i in (3, 4) else "finished")
    figure = curves_figure(records(), "epoch", ["val/loss"], by=["optim.lr"])
    (lines, dots), axis = figure.axes[0].collections[:2], figure.axes[0]
    found = [line.tolist() for line in lines.get_segments()]
    assert sorted(found) == [[[1, 0.5]], *([[1, 0.5 + i], [2, 0.25]] for i in range(1, 25))]
    assert len({tuple(colour) for colour in lines.get_colors()}) == 25
    assert dots.get_offsets().tolist() == [[1, 0.5]]
    assert sorted(crosses(axis)) == [[[2, 0.25]], [[2, 0.25]]]
    assert axis.dataLim.extents.tolist() == [1, 0.25, 2, 24.5]


# Sweeps


def figure_of(records, swept):
    """The figure that sweep_picture makes a file of."""
    figure, *arguments = sweep.rendering(records, swept)
    return figure(*arguments)


def test_the_picture_suits_what_was_swept(make, records):
    for optim in ("sgd", "adam"):
        for lr in (0.01, 0.1):
            for momentum in (0.5, 0.9):
                for seed in (0, 1):
                    keys = {"optim__lr": lr, "optim__momentum": momentum, "seed": seed}
                    make(accuracy=lr + seed / 10, choices={"optim": optim}, **keys)
    found = records()
    kinds = {
        (*TWO, "seed"): heatmap_figure,
        (*TWO, "optim"): heatmap_figure,
        ("optim.lr", "seed"): points.over_figure,
        ("optim.lr", "optim"): points.over_figure,
        ("optim", "seed"): points.dots_figure,
        ("seed",): points.dots_figure,
    }
    for swept, expected in kinds.items():
        assert sweep.rendering(found, swept)[0] is expected, swept
    figure = figure_of(found, (*TWO, "optim", "seed"))
    assert len(figure.axes) == 5  # train and test of two optimizers, and the bar
    assert sweep.sweep_picture(found, ("optim", "seed"))[:4] == b"\x89PNG"
    three = [record for record in found if record.config["seed"] == 0]
    for i, record in enumerate(three):
        record.config["train.epochs"] = 10 + i % 2
    assert sweep.rendering(three, (*TWO, "train.epochs"))[0] is parallel_figure


def test_a_sweep_over_one_number(make, records):
    values = {}
    for lr in (1e-3, 1e-2, 1e-1):
        for seed in (0, 1, 2):
            values.setdefault(lr, []).append(0.5 + lr * (1 + seed))
            make(accuracy=values[lr][-1], optim__lr=lr, seed=seed)
    make([], status="diverged", optim__lr=1.0)
    make([0.5], status="running", optim__lr=10.0)
    figure = figure_of(records(), ("optim.lr", "seed"))
    (axis,) = figure.axes
    train, test = drawn(axis)
    np.testing.assert_allclose(train.get_ydata(), 0.75)  # of the best epoch, whose loss is 0.5
    np.testing.assert_allclose(test.get_xdata(), [-3, -2, -1])
    np.testing.assert_allclose(test.get_ydata(), [np.mean(v) for v in values.values()])
    high = axis.collections[-1].get_paths()[0].vertices[:, 1].max()
    assert high == pytest.approx(np.mean(values[0.1]) + np.std(values[0.1], ddof=1))
    assert [cross[0][0] for cross in crosses(axis)] == [0]
    assert {"train accuracy", "test accuracy", "diverged"} <= set(texts(figure))
    assert any("left out: 1 run without a result" in text for text in texts(figure))


def test_a_sweep_over_choices(make, records):
    for optim, accuracy in (("sgd", 0.5), ("adam", 0.7)):
        for seed in (0, 1):
            make(accuracy=accuracy + seed / 10, choices={"optim": optim}, seed=seed)
    make([], status="diverged", choices={"optim": "cgd"})
    (axis,) = figure_of(records(), ("optim", "seed")).axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["adam", "cgd", "sgd"]
    assert axis.get_ylabel() == "optim"
    means = {round(line.get_xdata()[0], 6) for line in axis.lines if len(line.get_xdata()) == 1}
    assert {0.55, 0.75} <= means
    assert [(text.get_position()[1], text.get_text()) for text in axis.texts] == [(1, "1 diverged")]


def test_nothing_to_draw(make, records):
    make([], status="diverged", optim__lr=1.0)
    make([0.5], status="running", optim__lr=2.0)
    assert sweep.sweep_picture(records(), ["optim.lr"]) is None
    assert sweep.sweep_picture([], ["optim.lr"]) is None


def test_validation_stands_in_for_a_test_that_was_not_made(make, records):
    for lr in (0.1, 0.2):
        path = make(optim__lr=lr)
        data = json.loads((path / "summary.json").read_text())
        (path / "summary.json").write_text(json.dumps(data | {"test": None}))
    assert sweep.rendering(records(), ["optim.lr"])[4] == ["train/accuracy"]
    assert cells(records(), ["optim.lr"], "val/loss")[0.1,].mean == 0.5
    assert sweep.splits_of(records(), "loss") == ["train/loss", "val/loss"]


# The command


def test_files(grid, run_plot, tmp_path):
    starts = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-1.", "svg": b"<?xml"}
    for kind, start in starts.items():
        ask = ("runs", "--heatmap=lr,momentum", f"--out=out/picture.{kind}", "--title=Two numbers")
        assert run_plot(*ask) == (0, f"picture  out/picture.{kind}\n")
        content = (tmp_path / "out" / f"picture.{kind}").read_bytes()
        assert content.startswith(start)
        run_plot(*ask)
        assert (tmp_path / "out" / f"picture.{kind}").read_bytes() == content  # the same bytes again
        if kind == "svg":
            for text in (b">Two numbers<", b">optim.lr<", b">1e-3<", b">div.<", b">0.105<"):
                assert text in content
        if kind == "pdf":
            assert b"/FontFile2" in content  # TrueType
            assert b"/Type3" not in content
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"picture.png", "picture.svg", "picture.pdf"}


def test_names_of_files_and_sizes(grid, run_plot, tmp_path):
    from PIL import Image

    asked = {
        "curves_val-loss.png": ("--y=val/loss", "--size=3x2"),
        "heatmap_train-accuracy_test-accuracy.png": ("--heatmap=lr,momentum", "--value=train/accuracy,test"),
        "parallel_test-accuracy.png": ("--parallel", "--where=momentum>0.1"),
        "sweep.png": ("--sweep",),
        "parallel_test-loss.png": ("--value=test/loss", "--parallel"),
        "curves_val-loss_train-loss.png": ("--y=val/loss,train/loss", "--x=seconds", "--by=lr", "--band=seed"),
    }
    for name, options in asked.items():
        assert run_plot("runs", *options) == (0, f"picture  runs/{name}\n")
        assert Image.open(tmp_path / "runs" / name).size[0] > 500
    assert Image.open(tmp_path / "runs" / "curves_val-loss.png").size == (3 * look.DPI, 2 * look.DPI)


@pytest.mark.parametrize("options", [["--sweep", "--where=momentum=0.5"], ["--by=lr,momentum", "--title=Title"]])
def test_a_figure_for_a_column(grid, tmp_path, options):
    """With only a width: plot, legend, caption below each other, nothing cut, half of the width for the plot."""
    figure = asked([str(tmp_path / "runs"), "--size=3.3", *options])
    assert figure.get_figwidth() == 3.3
    figure.draw_without_rendering()
    plot, all_of_it = figure.axes[0].get_window_extent(), figure.axes[0].get_tightbbox()
    (legend,), caption = figure.legends, figure._supxlabel.get_window_extent()
    box = legend.get_window_extent()
    assert 0 <= caption.y0 < caption.y1 <= box.y0 < box.y1 <= all_of_it.y0
    assert min(caption.x0, box.x0, all_of_it.x0) >= 0
    assert max(caption.x1, box.x1, all_of_it.x1) <= figure.bbox.width
    assert plot.width > figure.bbox.width / 2
    assert plot.height > 1.2 * figure.dpi


def test_words_of_ones_own(grid, tmp_path):
    """--label puts a text in place of a key and a metric, in axes and legend; --no-caption leaves the caption out."""
    runs = str(tmp_path / "runs")
    own = ["--label=lr=step size", "--label=test/loss=Error", "--label=loss=Errors", "--legend=below"]
    figure = asked([runs, "--sweep", "--value=train/loss,test/loss", "--where=momentum=0.5", "--no-caption", *own])
    axis = figure.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel(), figure._supxlabel) == ("step size", "Errors", None)
    assert "Error" in texts(figure)
    assert not asked([runs, "--by=lr,momentum", "--legend=none"]).legends


def test_an_axis_has_one_kind_of_number(make, records):
    make(loss=(418_923.0, 90_000.0, 30_000.0, 3_100.0))
    figure = curves_figure(records(), "epoch", ["val/loss"])
    figure.draw_without_rendering()
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "1e5" in shown
    assert not any(text.endswith("000") for text in shown)
    assert labels([1000, 10_000, 300_000]) == ["1e3", "1e4", "3e5"]
    assert labels([100, 1000, 10_000]) == ["100", "1000", "10000"]


def test_short_names_of_metrics(grid, make, run_plot, tmp_path):
    """The end of a name is enough where only one metric, or only one with numbers, ends in it."""
    assert run_plot("runs", "--y=epoch_s") == (0, "picture  runs/curves_time-epoch_s.png\n")
    assert run_plot("runs", "--parallel", "--value=test") == (0, "picture  runs/parallel_test-accuracy.png\n")
    (tmp_path / "runs").rename(tmp_path / "grid")
    run = make()
    head, *rows = csv.reader((run / "metrics.csv").read_text().splitlines())
    with open(run / "metrics.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *([*row[:4], "", row[5]] for row in rows)])
    for options in ((), ("--y=loss",)):  # val/loss is empty
        assert run_plot("runs", *options) == (0, "picture  runs/curves_train-loss.png\n")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            "--y=val/los",
            "--y=val/los: did you mean val/loss? no run has that column; there are epoch, step, train/",
        ),
        ("--x=time", "--x=time: no run has that column"),
        ("--y=loss", "--y=loss: loss could be train/loss, val/loss; say which"),
        ("--parallel --value=accuracy", "--value=accuracy: accuracy could be test/accuracy, train/accuracy"),
        (
            "--by=optimizer",
            "--by=optimizer: did you mean optim? no run has a key optimizer; the runs differ in optim.lr",
        ),
        ("--band=sed", "--band=sed: did you mean seed? no run has a key sed"),
        ("--by=seed --band=seed", "--band=seed: --by=seed separates"),
        ("--heatmap=optim,lr", "--heatmap=optim,lr: optim is sgd in all runs; they differ in optim.lr, optim.momentum"),
        ("--heatmap=lr", "--heatmap=lr: must be two keys"),
        ("--heatmap=lr,activation", "--heatmap=lr,activation: model.activation is relu in all runs"),
        (
            "--heatmap=lr,momentum --value=test/f1",
            "--value=test/f1: no run has it; there are best, test/loss, test/acc",
        ),
        ("--heatmap=lr,momentum --y=val/loss", "--y: no option of --heatmap; it takes --value, --by"),
        ("--parallel=lr,foo", "--parallel=lr,foo: no run has a key foo"),
        ("--parallel --value=best,seconds", "--value=best,seconds: parallel coordinates show one metric"),
        ("--heatmap=lr,momentum --sweep", "argument --sweep: not allowed with argument --heatmap"),
        ("--out=picture.gif", "--out=picture.gif: its name must end in .png, .svg or .pdf"),
        ("--out=file/picture.png", "--out=file/picture.png: "),
        ("--size=3x", "--size=3x: must be inches"),
        ("--label=foo=bar", "--label=foo=bar: the picture has no name foo"),
        ("--label=lr", "--label=lr: must be NAME=TEXT"),
        ("--parallel --legend=below", "--legend: no option of --parallel; it takes --value"),
        ("--legend=left", "argument --legend: invalid choice: 'left'"),
        ("--size=0x9999", "--size=0x9999: must be inches"),
        ("--where=lr>5", "--where=lr>5: true for none of the 22 runs in runs"),
        ("nowhere", "nowhere: no such directory"),
        ("--frobnicate", "unrecognized arguments: --frobnicate"),
    ],
)
def test_mistakes_in_one_line(grid, run_plot, tmp_path, options, line):
    (tmp_path / "file").write_text("")
    code, text = run_plot("runs", *options.split())
    assert code == 2
    assert text.startswith(f"conga: {line}")
    assert text.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))


def test_nothing_finished(make, run_plot, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run_plot("empty")[1].startswith("conga: empty: no runs below; ")
    make([], status="diverged", optim__lr=1.0)
    make([], status="failed", optim__lr=2.0)
    code, text = run_plot("runs", "--sweep")
    assert (code, text.count("\n")) == (2, 1)
    assert "no run has finished (1 diverged, 1 failed)" in text
    code, text = run_plot("runs")
    assert (code, text) == (2, "conga: nothing to draw: none of the 2 runs has finished an epoch\n")


def test_choices_are_no_numbers(make, run_plot):
    make(optim__lr=0.1, choices={"optim": "sgd"})
    make(optim__lr=0.2, choices={"optim": "adam"})
    code, text = run_plot("runs", "--heatmap=optim,lr")
    assert (code, text) == (
        2,
        "conga: --heatmap=optim,lr: optim is not a number in every run (adam); --where chooses runs\n",
    )


def test_damaged_runs_are_named_and_left_out(make, run_plot):
    make(optim__lr=0.1)
    (make(optim__lr=0.2) / "summary.json").write_text("{")
    code, text = run_plot("runs")
    assert code == 0
    assert text.startswith("note     1: left out, damaged: summary.json: ")


def test_pictures_do_not_import_torch():
    code = "import sys, trainer.plot.command; assert not {'torch', 'pandas', 'matplotlib.pyplot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=600)


@pytest.mark.parametrize(
    "other", [None, "$a_1$", "日本", [1, [2]], float("nan"), float("inf"), 10**400, True, 1e-310, ""]
)
def test_a_sweep_over_anything_is_drawn(make, records, other):
    for i, value in enumerate((0.1, 0.01, other, other)):
        make(accuracy=i / 10, model__activation=value, optim__lr=0.1 + i % 2)
    make([], status="diverged", model__activation=other)
    for swept in (["model.activation"], ["model.activation", "optim.lr"], ["optim.lr", "seed", "nothing"]):
        assert sweep.sweep_picture(records(), swept)[:4] == b"\x89PNG"
