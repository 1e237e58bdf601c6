"""Robustness: compression against torch's own and NumPy's, attacks where the worst is known, and the command."""

import copy
import csv
import time
from functools import partial

import numpy as np
import pytest
import torch
from conftest import Job, row
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from models.layer_list import LayerList
from models.mlp import MLP, Linear
from models.recurrent import Recurrent
from models.resnet import ResNet
from trainer.analysis import compression, robustness
from trainer.analysis import perturbed as trials
from trainer.analysis.load import load_run
from trainer.training import attacks
from trainer.training.evaluation import measure

PERCENTS = (0, 50, 70, 99)


@pytest.fixture
def cnn():
    torch.manual_seed(0)
    layers = [{"conv": 8}, {"norm": "batch"}, "activation", {"conv": 5}, "activation", {"dense": 12}, "activation"]
    network = LayerList((2, 6, 6), 3, layers=layers).eval()
    with torch.no_grad():
        norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        for t in (norm.weight, norm.bias, norm.running_mean):
            t.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def gru():
    torch.manual_seed(0)
    return Recurrent((5, 3), 2, cell="gru", hidden_size=10, layers=2, bidirectional=True, widths=[7]).eval()


def copies(models):
    return [copy.deepcopy(model) for model in models]


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


# Compression


def test_pruning_is_torchs(cnn):
    before = copy.deepcopy(cnn.state_dict())
    for percent, ours in zip(PERCENTS, copies(compression.pruned(cnn, PERCENTS, drawn())), strict=True):
        theirs = copy.deepcopy(cnn)
        places = [(m, "weight") for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        prune.global_unstructured(places, prune.L1Unstructured, amount=percent / 100)
        for place in places:
            prune.remove(*place)
        assert all(torch.equal(w, ours.state_dict()[name]) for name, w in theirs.state_dict().items())
    assert all(torch.equal(w, before[name]) for name, w in cnn.state_dict().items())


def test_pruning_leaves_biases_and_norms_of_any_shape():
    torch.manual_seed(0)
    layers = [{"conv": 4}, {"norm": "layer"}, "activation"]
    network = LayerList((1, 4, 4), 3, layers=layers, prelu="unit")
    (smaller,) = compression.pruned(network, [99], drawn())
    for name, p in smaller.named_parameters():
        untouched = p.ndim < 2 or p.shape == (4, 4, 4)  # the scales of the layer norm
        assert torch.equal(p, network.get_parameter(name)) == untouched, name


@pytest.mark.parametrize("percent", [50, 80])
def test_pruning_of_recurrent_weights_is_a_quantile(gru, percent):
    w = np.concatenate([p.detach().numpy().ravel() for p in gru.parameters() if p.ndim == 2])
    threshold = np.sort(np.abs(w))[round(percent / 100 * len(w))]
    (smaller,) = compression.pruned(gru, [percent], drawn())
    for name, p in gru.named_parameters():
        expected = p * (p.abs() >= threshold) if p.ndim == 2 else p
        assert torch.equal(smaller.get_parameter(name), expected), name


def test_equal_weights_are_pruned_everywhere():
    network = MLP((20,), 10, widths=[40])
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.3)
    (smaller,) = compression.pruned(network, [70], drawn())
    for w in compression.weights(smaller):
        assert (w == 0).float().mean() == pytest.approx(0.7, abs=0.06)


def test_transposed_convolutions_are_no_filters_and_no_norms():
    entries = [{"conv": 5}, {"conv_transpose": 3, "stride": 2}, {"conv": 4}]
    network = LayerList((2, 6, 6), 3, layers=entries)
    (smaller,) = compression.without_filters(network, [40], torch.zeros(1, 2, 6, 6))
    changed = [not torch.equal(p, q) for p, q in zip(network.parameters(), smaller.parameters(), strict=True)]
    assert changed == [True, True, False, False, True, True, False, False]


@pytest.mark.parametrize("percent", [0, 30, 70])
def test_filters_are_torchs(cnn, percent):
    (ours,) = compression.without_filters(cnn, [percent], torch.zeros(1, 2, 6, 6))
    convolutions = [name for name, m in cnn.named_modules() if isinstance(m, nn.Conv2d)]
    for name in convolutions:
        theirs = prune.ln_structured(copy.deepcopy(cnn.get_submodule(name)), "weight", percent / 100, n=2, dim=0)
        assert torch.equal(ours.get_submodule(name).weight, theirs.weight)
        gone = (theirs.weight == 0).flatten(1).all(1)
        assert gone.sum() == round(percent / 100 * len(gone))
        assert (ours.get_submodule(name).bias[gone] == 0).all()
        assert torch.equal(ours.get_submodule(name).bias[~gone], cnn.get_submodule(name).bias[~gone])
    norm = next(name for name, m in cnn.named_modules() if isinstance(m, nn.BatchNorm2d))
    first = ours.get_submodule(convolutions[0])
    read = ours.get_submodule(norm)(first(torch.randn(4, 2, 6, 6)))
    assert ((read == 0).transpose(0, 1).flatten(1).all(1) == (first.weight == 0).flatten(1).all(1)).all()
    for name, m in cnn.named_modules():
        if isinstance(m, nn.Linear):
            assert torch.equal(m.weight, ours.get_submodule(name).weight)


def test_neurons_of_dense_and_recurrent_layers(gru):
    (smaller,) = compression.without_filters(gru, [40], torch.zeros(1, 5, 3))
    steps, _ = smaller.recurrent(torch.randn(6, 5, 3))
    for half in steps.split(10, dim=2):  # the directions of the last layer
        assert (half == 0).flatten(0, 1).all(0).sum() == 4
    dense, output = (m for m in smaller.head if isinstance(m, nn.Linear))
    assert (dense.weight == 0).all(1).sum() == 3  # 2.8 of 7
    assert torch.equal(output.weight, gru.head[-1].weight)
    assert list(compression.without_filters(Linear((4,), 2), [50], torch.zeros(1, 4))) == []
    narrow = MLP((4,), {"a": 2, "b": 3}, widths=[1])
    (smaller,) = compression.without_filters(narrow, [70], torch.zeros(1, 4))
    assert all(torch.equal(p, narrow.get_parameter(name)) for name, p in smaller.named_parameters())


def test_filters_of_a_residual_network():
    torch.manual_seed(0)
    network = ResNet((3, 16, 16), 4, depth=18).eval()
    layers = compression.hidden_layers(network, torch.zeros(1, 3, 16, 16))
    assert len(layers) == 20  # 17 convolutions of 3 x 3, three of 1 x 1
    assert all(len(readers) == 1 for readers in layers.values())
    (smaller,) = compression.without_filters(network, [70], torch.zeros(1, 3, 16, 16))
    assert smaller(torch.randn(2, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize("percent", [100, 50, 10, 2])
def test_low_rank_is_numpys(cnn, percent):
    (smaller,) = compression.low_rank(cnn, [percent])
    for ours, whole in zip(compression.weights(smaller), compression.weights(cnn), strict=True):
        matrix = whole.detach().flatten(1).numpy().astype(np.float64)
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        k = max(1, -(-percent * len(s) // 100))
        np.testing.assert_allclose(ours.detach().flatten(1), (u[:, :k] * s[:k]) @ vh[:k], atol=1e-6)
        assert np.linalg.matrix_rank(ours.detach().flatten(1).numpy(), tol=1e-5) == k
        if percent == 100:
            assert torch.equal(ours, whole)


# Attacks


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_of_a_linear_model_is_found(norm):
    """The loss <w_b, x_b> with weights of each sample: the worst is x0 + eps sign(w), or x0 + eps w / ||w||."""
    w, x0, eps = torch.randn(6, 2, 5, generator=drawn(1)), torch.randn(6, 2, 5, generator=drawn(2)), 0.3
    length = w.flatten(1).norm(dim=1).view(-1, 1, 1)
    worst = x0 + eps * (w.sign() if norm == "linf" else w / length)
    ball = attacks.BALLS[norm](radius=eps)

    def loss(x):
        return (w * x).sum()

    for x in (
        attacks.fgsm(loss, x0, ball, None),
        attacks.pgd(loss, x0, ball, None, x0),
        attacks.frank_wolfe(loss, x0, ball, None),
    ):
        torch.testing.assert_close(x, worst, atol=1e-6, rtol=1e-6)
    start = attacks.anywhere(ball, x0, None, drawn(3))
    x = attacks.pgd(loss, x0, ball, None, start)  # from anywhere in the l2 ball it comes close in twenty steps
    assert (loss(x) - loss(x0)) > (0.999999 if norm == "linf" else 0.95) * (loss(worst) - loss(x0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["linf", "l2"]), st.floats(1e-3, 3), st.booleans())
def test_attacks_stay_in_the_ball_and_in_the_range(seed, norm, eps, clipped):
    generator = drawn(seed)
    x0 = torch.rand(4, 1, 3, 3, generator=generator).mul(3).sub(1).clamp(0, 1)  # many at the ends
    w, box = torch.randn(9, 5, generator=generator), (0.0, 1.0) if clipped else None
    ball = attacks.BALLS[norm](radius=eps)

    def loss(x):
        return (x.flatten(1) @ w).tanh().square().sum()

    assert_in = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
    for x in (
        attacks.fgsm(loss, x0, ball, box),
        attacks.pgd(loss, x0, ball, box, attacks.anywhere(ball, x0, box, generator)),
        attacks.frank_wolfe(loss, x0, ball, box),
    ):
        moved = (x - x0).flatten(1)
        length = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
        assert_in(length, length.clamp(max=eps))
        if clipped:
            assert x.min() >= 0
            assert x.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    x = attacks.uniform(attacks.BALLS[norm](radius=2.0), torch.zeros(4000, 3), drawn())
    share = (x.abs().amax(1) if norm == "linf" else x.norm(dim=1)).div(2).pow(3)  # of the volume within: uniform
    assert share.max() <= 1 + 1e-6
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert x.mean(0).abs().max() < 0.1


def test_no_gradient_no_move():
    x0 = torch.rand(3, 4)
    for norm in ("linf", "l2"):
        x = attacks.frank_wolfe(lambda x: 0 * x.sum(), x0, attacks.BALLS[norm](radius=0.5), (0.0, 1.0))
        assert torch.equal(x, x0)


# The command


@pytest.fixture(scope="session")
def trained(zygote, tmp_path_factory):
    """Name -> a trained run."""
    root = tmp_path_factory.mktemp("robust")
    wanted = {
        "cnn": ["model=cnn", "data.normalize=pixel", "train.epochs=4"],
        "cgd": ["model=cnn", "optim=cgd", "train.epochs=2"],
        "diabetes": ["data=diabetes", "objective.l2=1e-3", "train.epochs=2"],
        "cancer": ["data=breast_cancer", "train.epochs=1"],
        "multitask": ["data=multitask", "data.limit=200", "train.epochs=2"],
        "multilabel": ["data=multilabel", "model=linear", "train.epochs=1"],
        "lstm": ["data=sine", "model=lstm", "model.hidden_size=8", "data.limit=40", "train.epochs=1"],
    }
    jobs = {}
    for name, options in wanted.items():
        request = {"argv": [*options, f"hydra.run.dir={root / name}", "train.device=cpu"], "cwd": str(root)}
        log = root / f"{name}.log"
        answer = zygote.ask(**request, output=str(log), env={}, limit=None, trip=None)
        jobs[name] = Job(zygote, answer["pid"], log)
    for job in jobs.values():
        code, text = job.wait()
        assert code == 0, text
    return {name: root / name for name in wanted}


@pytest.fixture
def robust(command):
    return partial(command, "robustness")


def read(path):
    """(test, norm, level) -> the value, and the rows."""
    rows = list(csv.DictReader(path.open()))
    return {(r["test"], r["norm"], float(r["level"])): float(r["value"]) for r in rows}, rows


def test_every_test_of_a_run(robust, trained):
    code, text = robust(str(trained["cnn"]), "--limit=100")
    assert code == 0, text
    folder = trained["cnn"] / "robustness"
    values, rows = read(folder / "robustness.csv")
    assert list(rows[0]) == ["run", "test", "norm", "level", "metric", "value", "samples"]
    assert {(r["metric"], r["samples"]) for r in rows} == {("accuracy", "100")}
    assert len(values) == sum(len(v) for (test, _), v in robustness.LEVELS.items() if not test.endswith("_finetuned"))
    whole = {values[key] for key in values if key[2] == (100 if key[0] == "low_rank" else 0)}
    assert len(whole) == 1
    for norm in ("linf", "l2"):
        worst = max(robustness.RADII[norm])
        for attack in ("pgd", "fw"):
            assert values[attack, norm, worst] <= values["fgsm", norm, worst] + 0.02
        assert values["pgd", norm, worst] < values["pgd", norm, 0] - 0.5
    assert values["prune", "", 99] < 0.5
    assert row(text, "prune")[:2] == ["0 %", f"{whole.pop():.4f}"]
    from PIL import Image

    assert np.asarray(Image.open(folder / "robustness.png").convert("L")).std() > 5


@pytest.mark.parametrize("name", ["cnn", "diabetes", "cancer", "multitask", "multilabel", "lstm"])
def test_unchanged_is_the_evaluation(robust, trained, name, tmp_path):
    code, text = robust(str(trained[name]), "--tests=low_rank,noise,fw", "--split=val", "--out=x.png")
    assert code == 0, text
    run = load_run(trained[name], device="cpu")
    metric = "rmse" if run.facts.task == "regression" else "accuracy"
    expected = measure(run.model, run.objective, run.dataset, "val", seed=0)[metric]
    values, rows = read(tmp_path / "x.csv")
    assert {r["metric"] for r in rows} == {metric}
    assert {r["samples"] for r in rows} == {str(run.facts.sizes["val"])}
    for (test, _, level), value in values.items():
        if level == (100 if test == "low_rank" else 0):
            assert value == pytest.approx(expected, rel=1e-6)
    worse = 1 if metric == "rmse" else -1
    assert worse * (values["fw", "l2", 2] - expected) > 0
    if name == "diabetes":
        assert "lower is better" in text
        assert values["fw", "linf", 0.2] > values["noise", "", 0.2]


def test_sizes_are_of_pixels_whatever_the_normalization(trained):
    run = load_run(trained["cnn"], device="cpu")
    s = trials.subject(run, "test", 50, 0)
    assert run.facts.std.shape == (1, 8, 8)
    raw = run.dataset.splits["test"][0].float() / 16
    ((x0, *_),) = s.batches
    u0 = s.units.enter(x0)
    assert all((raw - u).flatten(1).abs().amax(1).min() < 1e-5 for u in u0)
    for test, norm, level in (("pgd", "linf", 0.1), ("fw", "linf", 0.1), ("fw", "l2", 0.5), ("noise", "", 0.2)):
        ((x, *_),) = trials.changed(s, test, norm, level)
        u = (x * run.facts.std + run.facts.mean) / 16
        moved = (u - u0).flatten(1)
        assert u.min() > -1e-5
        assert u.max() < 1 + 1e-5
        if test != "noise":
            length = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
            assert length.max() == pytest.approx(level, rel=1e-3)
        else:
            assert moved[(u0.flatten(1) > 0.4) & (u0.flatten(1) < 0.6)].std() == pytest.approx(level, rel=0.15)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file_whatever_else_is_measured(robust, trained, tmp_path):
    options = [str(trained["cnn"]), "--limit=20"]
    texts = {}
    for name, more in {
        "a": ["--tests=prune,noise,pgd"],
        "b": ["--tests=noise,prune,pgd"],
        "c": ["--tests=pgd"],
        "d": ["--tests=pgd,noise,prune", "--seed=1"],
    }.items():
        assert robust(*options, *more, f"--out={name}.png")[0] == 0
        texts[name] = (tmp_path / f"{name}.csv").read_text()
    assert texts["a"] == texts["b"]
    assert set(texts["c"].splitlines()) < set(texts["a"].splitlines())
    assert texts["d"] != texts["a"]


def test_several_runs(robust, trained, tmp_path):
    runs = [str(trained["cnn"]), str(trained["cgd"]), str(trained["cnn"])]
    code, text = robust(*runs, "--tests=prune,filters", "--limit=80")
    assert code == 0, text
    joint, _ = read(tmp_path / "outputs" / "robustness.csv")
    _, rows = read(tmp_path / "outputs" / "robustness.csv")
    assert list(dict.fromkeys(r["run"] for r in rows)) == runs[:2]
    assert len(rows) == 2 * len(joint)
    values = [read(trained[name] / "robustness" / "robustness.csv")[0] for name in ("cnn", "cgd")]
    assert row(text, "filters") == ["0 %", *(f"{v['filters', '', 0]:.4f}" for v in values)]
    assert (tmp_path / "outputs" / "robustness.png").stat().st_size > 10_000
    assert robustness.short_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]


def test_a_model_without_hidden_layers(robust, trained):
    run = str(trained["multilabel"])
    code, text = robust(run, "--tests=filters,noise")
    assert code == 0
    assert "note: multilabel: its model has no hidden layer with filters to prune" in text
    code, text = robust(run, "--tests=filters")
    assert code == 2
    assert text.endswith("nothing to measure; multilabel: its model has no hidden layer with filters to prune\n")


def test_a_place_that_cannot_be_written_is_told_before_the_work(robust, trained, monkeypatch):
    (trained["multitask"] / "robustness").write_text("a file")
    monkeypatch.setattr(robustness, "measure", None)
    for runs in ([str(trained["multitask"])], [str(trained["multitask"]), str(trained["cancer"])]):
        code, text = robust(*runs)
        assert code == 2
        assert text.startswith(f"conga: --out={trained['multitask']}/robustness/robustness.png: ")


def test_a_saturated_loss_is_told(trained):
    run = load_run(trained["cnn"], device="cpu")
    assert trials.without_direction(trials.subject(run, "test", 50, 0)) == 0
    for p in run.model.parameters():
        p.mul_(100)
    assert trials.without_direction(trials.subject(run, "test", 50, 0)) > 0


@pytest.mark.slow
def test_a_run_that_is_still_writing(robust, start, tmp_path):
    job = start("train.epochs=100000", "hydra.run.dir=run", "train.device=cpu")
    until = time.monotonic() + 600
    while not (tmp_path / "run" / "checkpoints" / "best.pt").exists() and time.monotonic() < until:
        time.sleep(0.05)
    try:
        for kind in ("best", "last"):
            code, text = robust("run", "--tests=prune,fgsm", "--limit=50", f"--checkpoint={kind}")
            assert code == 0, text
        assert not job.over()
    finally:
        job.kill()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: must be the directory of a run"),
        (
            ["CNN", "--tests=prun"],
            "--tests=prun: no such test: 'prun'; did you mean prune? there are prune, filters",
        ),
        (["CNN", "--tests="], "--tests=: no such test: ''; there are prune"),
        (["CNN", "--split=dev"], "--split=dev: the data of "),
        (["CNN", "--checkpoint=first"], "CNN/checkpoints/first.pt: no such checkpoint"),
        (["CNN", "--limit=0"], "--limit=0: must be at least 1"),
        (["CNN", "--limit=many"], "argument --limit: invalid int value: 'many'"),
        (["CNN", "--seed=-1"], "--seed=-1: must be at least 0"),
        (["CNN", "--device=tpu"], "--device=tpu: must be auto, cpu, cuda"),
        (["CNN", "--out=x.foo"], "--out=x.foo: its name must end in .png"),
        (["CNN", "--out=/dev/null/x.png"], "--out=/dev/null/x.png: "),
        (
            ["CNN", "DIABETES"],
            "DIABETES: cannot be compared with CNN: it has rmse, over changes in units of the normalized",
        ),
        ([], "missing: RUN_DIR"),
    ],
)
def test_a_mistake_is_one_line(robust, trained, arguments, line):
    places = {"CNN": str(trained["cnn"]), "DIABETES": str(trained["diabetes"])}
    code, text = robust(*(places.get(a, a) for a in arguments))
    for name, place in places.items():
        line = line.replace(name, place)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"conga: {line}")
