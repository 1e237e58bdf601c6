"""On a machine with a GPU: a run there, and on to the CPU and back."""

import pytest
import torch
from conftest import summary, training_of
from formats import write_images

import optim
from data import Dataset, Facts
from trainer.training.compiled import Recorded
from trainer.training.loop import train_epoch
from trainer.training.objectives import CrossEntropy
from trainer.training.step import take_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_train_there_and_resume_elsewhere(cli, tmp_path):
    options = ["model=cnn", "model.dropout=0.2", "optim=cgd", "hydra.run.dir=run"]
    code, text = cli(*options, "train.epochs=2")
    assert code == 0, text
    assert summary(tmp_path / "run")["device"] == "cuda:0"
    for epochs, device in ((3, "cpu"), (4, "cuda"), (20, "cuda:0")):
        code, text = cli("train.resume=run", f"train.epochs={epochs}", f"train.device={device}")
        assert code == 0, text
        assert summary(tmp_path / "run")["device"].startswith(device)
    assert summary(tmp_path / "run")["test"]["accuracy"] > 0.9


def test_augmented_and_streamed_images_train_there(cli, tmp_path):
    write_images(tmp_path / "images", {"cat": 30, "dog": 30}, size=(16, 16))
    options = ["data=image_folder", f"data.path={tmp_path / 'images'}", "data.size=16", "model=resnet18"]
    augment = [
        "crop=2",
        "pad=reflect",
        "flip=true",
        "rotate=10",
        "translate=0.1",
        "erase=0.5",
        "mixup=0.2",
        "cutmix=1.0",
    ]
    options += [f"data.augment.{name}" for name in augment]
    for memory_gb in (1, 0):
        code, text = cli(*options, f"data.memory_gb={memory_gb}", "train.epochs=2", f"hydra.run.dir=run{memory_gb}")
        assert code == 0, text
        assert summary(tmp_path / f"run{memory_gb}")["device"] == "cuda:0"


@pytest.mark.parametrize("choice", ["mlp", "cnn", "wrn", "lstm"])
def test_the_same_seed_gives_the_same_weights_there(cli, tmp_path, choice):
    for device in ("cpu", "cuda"):
        options = [f"model={choice}", "optim.lr=0", "optim.momentum=0", "train.epochs=1", "data.limit=20"]
        code, text = cli(*options, f"train.device={device}", f"hydra.run.dir={device}")
        assert code == 0, text
    one, other = (torch.load(tmp_path / d / "checkpoints" / "last.pt", weights_only=True) for d in ("cpu", "cuda"))
    for name, value in one["model"].items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(value, other["model"][name].cpu()), name


SETS = [
    optim.LInf(),
    optim.L2(),
    optim.L1(),
    optim.Lp(),
    optim.KSparse(),
    optim.KSupport(),
    optim.UnitSimplex(),
    optim.ProbabilitySimplex(),
    optim.Box(),
    optim.Permutahedron(),
    optim.Spectral(method="iterative"),
    optim.Nuclear(method="iterative"),
    optim.SpectralKSupport(method="iterative"),
    optim.GroupL1(),
    optim.GroupKSupport(),
    optim.ScionNorms(method="iterative"),
]


def stepping(constraint, **options):
    """An optimizer over a convolution, a matrix and a vector, with gradients."""
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (20, 30), (20,)]
    xs = [torch.nn.Parameter(0.1 * torch.randn(shape, device="cuda")) for shape in shapes]
    for x in xs:
        x.grad = torch.randn_like(x)
    return xs, optim.SFW(xs, constraint, lr=0.01, **options)


@pytest.mark.parametrize("rescale", ["none", "gradient"])
@pytest.mark.parametrize("constraint", SETS, ids=lambda C: type(C).__name__)
def test_a_step_waits_for_nothing(constraint, rescale):
    _, optimizer = stepping(constraint, rescale=rescale, gap_every=2)
    optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


FEATURES = {
    "plain": {},
    "accumulation": {"accumulate": 3},
    "clipping": {"clip_norm": 0.1},
    "averages": {"ema": 0.9},
    "bf16": {"precision": "bf16"},
    "float64": {"precision": "float64"},
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("weights", [False, True])
def test_a_step_with_its_features_waits_for_nothing(feature, weights):
    device, settings = torch.device("cuda", 0), FEATURES[feature]
    dtype = torch.float64 if feature == "float64" else None
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)).to(device, dtype)
    numbers = {"mean": torch.zeros(()), "std": torch.ones(()), "class_counts": (30, 20, 10)}
    facts = Facts("random", "classification", (6,), 3, None, None, {"train": 60}, **numbers)
    parts = (torch.randn(60, 6), torch.randint(0, 3, (60,)), *([torch.rand(60)] if weights else []))
    dataset = Dataset({"train": parts}, facts, 16).to(device, dtype)
    objective = CrossEntropy(facts, class_weights="balanced" if weights else "none", l2=1e-3)
    t = training_of(model, dataset, objective, torch.optim.SGD(model.parameters(), lr=0.1), device=device, **settings)
    batches = list(t.batches(t.epoch_parts(), 0))
    k = t.settings.accumulate
    take_step(t, batches[:k], None)  # the first one moves constants to the device
    try:
        torch.cuda.set_sync_debug_mode("error")
        take_step(t, batches[:k], None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(p).all() for p in model.parameters())


def epochs_of(recorded, choice="sgd", epochs=3, **settings):
    """A run's state after some epochs there, none of whose steps waits for the device."""
    device = torch.device("cuda", 0)
    torch.manual_seed(0)
    layers = (
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(288, 10),
    )
    model = torch.nn.Sequential(*layers).to(device)
    numbers = {"mean": torch.tensor(128.0), "std": torch.tensor(50.0)}
    facts = Facts("random", "classification", (1, 8, 8), 10, None, None, {"train": 500}, **numbers)
    parts = torch.randint(0, 256, (500, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 10, (500,))
    dataset = Dataset({"train": parts}, facts, 64).to(device)
    makes = {"sgd": optim.sgd, "adam": optim.adam, "cgd": lambda xs, lr: optim.CGD(xs, optim.LInf(1.0), lr=lr)}
    optimizer = makes[choice](model.parameters(), lr=0.01)
    t = training_of(model, dataset, CrossEntropy(facts), optimizer, device=device, epochs=9, **settings)
    t.schedule, t.pulse_at = optim.cosine(optimizer, epochs=9, steps_per_epoch=8, max_steps=None), float("inf")
    t.recorded = recorded(t)
    sums = []
    for epoch in range(epochs):
        t.progress.epoch, t.progress.position, t.progress.sums = epoch, 0, {}
        torch.cuda.set_sync_debug_mode("error" if epoch > 0 else "default")  # in the first, the step is recorded
        try:
            train_epoch(t, None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        sums.append({k: float(v) for k, v in t.progress.sums.items()})
    return t, sums


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("choice", ["sgd", "adam", "cgd"])
def test_an_epoch_waits_for_nothing_and_its_captured_steps_are_the_plain_ones(choice, precision):
    t, sums = epochs_of(lambda t: None, choice, precision=precision)
    u, theirs = epochs_of(lambda t: Recorded(t, compiled=False, captured=True), choice, precision=precision)
    assert u.recorded.replay is not None
    for a, b in zip(sums, theirs, strict=True):
        assert a == pytest.approx(b, rel=0.05)
    for x, y in zip(t.model.parameters(), u.model.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0.02, atol=1e-3)


def test_a_captured_run_goes_on_bit_for_bit(cli, tmp_path):
    options = [
        "model=cnn",
        "model.dropout=0.2",
        "train.device=cuda",
        "train.cuda_graph=true",
        "train.deterministic=true",
    ]
    assert cli(*options, "train.epochs=4", "hydra.run.dir=whole")[0] == 0
    assert cli(*options, "train.epochs=4", "train.max_steps=60", "hydra.run.dir=parts")[0] == 0
    assert cli("train.resume=parts", "train.max_steps=null")[0] == 0
    one, other = (torch.load(tmp_path / d / "checkpoints" / "last.pt", weights_only=True) for d in ("whole", "parts"))
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name


@pytest.mark.parametrize("options", [["train.cuda_graph=true"], ["train.compile=true"], ["train.precision=bf16"]])
@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_recorded_runs_train_there(cli, tmp_path, model, options):
    few = [] if model == "cnn" else ["data.limit=100"]
    code, text = cli(f"model={model}", *options, *few, "train.epochs=3", "train.device=cuda", "hydra.run.dir=run")
    assert code == 0, text


@pytest.mark.parametrize("precision", ["fp16", "bf16", "float64"])
@pytest.mark.parametrize("model", ["cnn", "resnet18", "lstm"])
def test_precisions_train_there(cli, tmp_path, precision, model):
    few = [] if model == "cnn" else ["data.limit=100"]
    options = [f"model={model}", f"train.precision={precision}", "train.epochs=3", *few]
    code, text = cli(*options, "train.device=cuda", "hydra.run.dir=run")
    assert code == 0, text


def test_commands_read_a_run_of_the_gpu(command, cli, tmp_path):
    assert cli("model=lstm", "train.epochs=1", "train.device=cuda", "hydra.run.dir=run")[0] == 0
    for main, options in (("evaluate", []), ("robustness", ["--limit=20"])):
        code, text = command(main, str(tmp_path / "run"), *options)
        assert code == 0, text


@pytest.mark.parametrize("constraint", SETS, ids=lambda C: type(C).__name__)
def test_a_step_can_be_captured(constraint):
    xs, optimizer = stepping(constraint, rescale="gradient", gap_every=0)
    ys, eager = stepping(constraint, rescale="gradient", gap_every=0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    graph.replay()
    graph.replay()
    for _ in range(5):
        eager.step()
    for x, y in zip(xs, ys, strict=True):
        torch.testing.assert_close(x, y)
