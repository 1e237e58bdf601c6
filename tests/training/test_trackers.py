"""Loggers besides metrics.csv: what other programs read of a run, and that none of them can stop or change it."""

import csv
import importlib.util
import json
import signal
import sqlite3
import struct
import time

import pytest
import torch
from conftest import assert_same, rows, summary
from omegaconf import OmegaConf

from trainer.analysis.loggers.mlflow import Mlflow, absolute
from trainer.analysis.loggers.tracked import needs
from trainer.analysis.loggers.wandb import Wandb
from trainer.rundir.errors import Interrupted
from trainer.training import checkpoint
from trainer.training.loggers import Guarded

RUN = ["train.threads=1", "train.device=cpu", "data.batch_size=100"]


def recorded(run):
    """metrics.csv: column -> epoch -> value."""
    with (run / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    return {k: {int(row["epoch"]): float(row[k]) for row in table if row[k]} for k in table[0] if k != "epoch"}


def events(run):
    """What TensorBoard shows of the run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def assert_scalars_are_those_of_csv(run):
    shown = events(run)
    for tag, values in recorded(run).items():
        assert [(e.step, e.value) for e in shown.Scalars(tag)] == [
            (epoch, pytest.approx(value, rel=1e-6)) for epoch, value in values.items()
        ], tag


def wandb_records(run):
    """Of the one offline file: LevelDB's log format (blocks of 32 KiB, records with a header of 7 bytes)."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    content, at, part = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        part, at = part + content[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield pb.Record.FromString(part)
            part = b""


def assert_history_is_that_of_csv(run):
    found = [r.history for r in wandb_records(run) if r.WhichOneof("record_type") == "history"]
    history = [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in h.item} for h in found]
    table = recorded(run)
    assert [h["_step"] for h in history] == list(table["train/loss"])
    for tag, values in table.items():
        assert [h[tag] for h in history] == list(values.values()), tag


def mlflow_metrics(folder, run):
    """Of the run in the database: key -> (step, value) in the order of steps; its status; its parameters."""
    own = json.loads((run / "mlflow.json").read_text())["id"]
    with sqlite3.connect(folder / "outputs" / "mlflow.db") as db:
        ((uid, status),) = db.execute(
            "select r.run_uuid, r.status from runs r join tags t using (run_uuid) where t.value = ?", (own,)
        ).fetchall()
        found = {}
        for key, step, value in db.execute(
            "select key, step, value from metrics where run_uuid = ? order by step", (uid,)
        ):
            found.setdefault(key, []).append((step, value))
        return found, status, dict(db.execute("select key, value from params where run_uuid = ?", (uid,)))


def assert_metrics_are_those_of_csv(folder, run):
    found, status, _ = mlflow_metrics(folder, run)
    assert status == "FINISHED"
    for tag, values in recorded(run).items():
        if tag.startswith("time/"):  # an epoch that was done again took another time
            assert [step for step, _ in found[tag]] == list(values), tag
        else:
            assert found[tag] == list(values.items()), tag


@pytest.mark.parametrize(
    ("argv", "chosen"),
    [
        ([], ["csv"]),
        (["logger=csv"], ["csv"]),
        (["logger=[]"], ["csv"]),
        (["logger=tensorboard"], ["csv", "tensorboard"]),
        (["logger=[tensorboard,wandb]"], ["csv", "tensorboard", "wandb"]),
        (["logger=[csv,mlflow]", "logger.mlflow.experiment=mine"], ["csv", "mlflow"]),
        (["experiment=ours", "--config-dir", "mine"], ["csv", "mlflow", "wandb"]),
        (["experiment=ours", "--config-dir", "mine", "logger=tensorboard"], ["csv", "tensorboard"]),
    ],
)
def test_one_choice_or_a_list_and_always_csv(cli, tmp_path, argv, chosen):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /logger: [mlflow, wandb]\n"
    )
    code, text = cli(*argv, "--cfg", "job")
    assert code == 0, text
    assert list(OmegaConf.create(text).logger) == chosen


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["logger=[csv,tensorbord]"], "logger=tensorbord: no such choice; did you mean tensorboard? logger can be csv"),
        (["logger=tensorbord"], "logger=tensorbord: no such choice; did you mean tensorboard? logger can be csv"),
        (["~logger.csv"], "logger.csv: missing; every run writes metrics.csv"),
        (["logger=wandb", "logger.wandb.mode=of"], "logger.wandb.mode=of: must be one of offline, online, disabled"),
    ],
)
def test_a_bad_choice_is_named(mistake, argv, line):
    assert mistake(*argv).startswith(line)


def test_tensorboard(cli, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
    from tensorboard.plugins.hparams import metadata

    code, text = cli(*RUN, "logger=tensorboard", "train.epochs=3", "hydra.run.dir=run")
    assert code == 0, text
    assert "failed" not in text
    run = tmp_path / "run"
    assert_scalars_are_those_of_csv(run)
    shown = events(run)
    s = summary(run)
    assert [(e.step, e.value) for e in shown.Scalars("test/accuracy")] == [(3, pytest.approx(s["test"]["accuracy"]))]
    assert shown.Scalars("best/val/loss")[0].value == pytest.approx(s["best"]["value"])

    layout = layout_pb2.Layout.FromString(shown.Tensors(CONFIG_SUMMARY_TAG)[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["loss"] == ["^train/loss$", "^val/loss$", "^ema/loss$"]
    content = shown.PluginTagToContent("hparams")
    assert metadata.EXPERIMENT_TAG not in content  # a reader would take it for that of every run of a sweep
    given = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]).hparams
    assert given["optim"].string_value == "sgd"
    assert given["optim.lr"].number_value == 0.05
    assert given["model.widths"].string_value == "[64, 64]"
    (image,) = shown.Images("confusion matrix")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 300


def test_tensorboard_compares_a_sweep_by_all_its_hyper_parameters(cli, tmp_path):
    """Of both optimizers, though each run knows its own only; read by the plugin that makes the page."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import backend_context

    code, text = cli(*RUN, "-m", "optim=sgd,adam", "logger=tensorboard", "train.epochs=1")
    assert code == 0, text
    runs = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "outputs"))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, "outputs")
    reader = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    ctx = RequestContext()
    experiment = reader.experiment_from_metadata(ctx, "", True, reader.hparams_metadata(ctx, ""), None)
    keys = {info.name for info in experiment.hparam_infos}
    assert {"optim", "optim.lr", "optim.nesterov", "optim.betas", "seed"} <= keys, keys
    assert {"test/accuracy", "best/val/loss"} <= {info.name.tag for info in experiment.metric_infos}


def test_a_run_with_tensorboard_is_the_same_bit_for_bit(cli, tmp_path):
    pytest.importorskip("tensorboard")
    options = ["model=cnn", "model.dropout=0.3", "optim=cgd", *RUN, "train.epochs=3"]
    for name, logger in (("with", "tensorboard"), ("without", "csv")):
        code, text = cli(*options, f"logger={logger}", f"hydra.run.dir={name}")
        assert code == 0, text
    one, other = tmp_path / "with", tmp_path / "without"
    assert rows(one) == rows(other)
    assert summary(one)["test"] == summary(other)["test"]
    a, b = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (one, other))
    for part in ("model", "optimizer", "processes"):
        assert_same(a[part], b[part], part)


@pytest.mark.parametrize("place", [26, pytest.param(23, marks=pytest.mark.slow)])  # 26: after its events
def test_tensorboard_after_a_kill_shows_each_epoch_once(cli, tmp_path, place):
    """Between the writes of an epoch: its events are there, and its checkpoint is not."""
    pytest.importorskip("tensorboard")
    options = [*RUN, "logger=tensorboard", "train.epochs=4", "hydra.run.dir=run"]
    code, text = cli(*options, trip=("file", place, signal.SIGKILL))
    assert code == -signal.SIGKILL, text
    code, text = cli(*options)
    assert code == 0, text
    assert_scalars_are_those_of_csv(tmp_path / "run")


def test_a_diverged_run_has_its_confusion_matrix(cli, tmp_path):
    """That of the best checkpoint, which is of the epoch before; a resume brings the weights to overflow."""
    pytest.importorskip("tensorboard")
    assert cli(*RUN, "logger=tensorboard", "train.epochs=1", "hydra.run.dir=run")[0] == 0
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    state["optimizer"]["param_groups"][0]["lr"] = 1e20
    checkpoint.save(last, "last", {key: value for key, value in state.items() if key not in ("format", "kind")})
    code, text = cli("train.resume=run", "train.epochs=2")
    assert code == 3, text
    assert "failed" not in text
    assert len(events(tmp_path / "run").Images("confusion matrix")) == 2


def test_a_tracker_that_fails_says_so_once_and_the_run_goes_on(cli, tmp_path):
    """Where TensorBoard wants a folder stands a file."""
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").touch()
    code, text = cli(*RUN, "logger=tensorboard", "train.epochs=2", "hydra.run.dir=run")
    assert code == 0, text
    notes = [line for line in text.splitlines() if "failed" in line]
    assert len(notes) == 1, text
    assert notes[0].startswith("note        logger.tensorboard failed: ")
    assert notes[0].endswith("; the run continues without it")
    assert summary(tmp_path / "run")["status"] == "finished"
    assert list(recorded(tmp_path / "run")["step"]) == [1, 2]


class Broken:
    """A tracker whose `where` raises, and which draws random numbers before that."""

    def __init__(self, where, error):
        self.where, self.error, self.calls = where, error, []

    def __getattr__(self, method):
        def call(*arguments):
            torch.rand(3)
            self.calls.append(method)
            for argument in arguments:
                if isinstance(argument, dict):
                    argument["train/loss"] = -1.0
            if method == self.where:
                raise self.error

        return call


def live(tracker, tmp_path):
    tracker.start(tmp_path, [], [], 0)
    row = {"epoch": 1, "train/loss": 0.5}
    tracker.log(row, [])
    tracker.log(row, [])
    tracker.end({"status": "finished"}, lambda: None)
    return row


@pytest.mark.parametrize(("where", "calls"), [("start", 1), ("log", 2), ("end", 4)])
def test_the_first_failure_is_the_last(tmp_path, where, calls):
    said, tracker = [], Broken(where, OSError("no space\nleft"))
    before = torch.get_rng_state()
    row = live(Guarded("logger.mine", tracker, said.append), tmp_path)
    assert said == ["note        logger.mine failed: OSError: no space; the run continues without it"]
    assert len(tracker.calls) == calls
    assert torch.equal(torch.get_rng_state(), before)
    assert row == {"epoch": 1, "train/loss": 0.5}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(signal.SIGTERM)])
def test_a_signal_passes_through(tmp_path, error):
    said = []
    with pytest.raises(type(error)):
        live(Guarded("logger.mine", Broken("end", error), said.append), tmp_path)
    assert said == []


def test_a_missing_package_is_one_line_before_the_run(command, monkeypatch, tmp_path):
    from trainer.__main__ import main

    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    line = "conga: logger.tensorboard: needs tensorboard: pip install -e '.[tensorboard]'\n"
    assert command(main, "logger=tensorboard") == (2, line)
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_folder_is_not_the_package(monkeypatch, tmp_path):
    """wandb writes to a folder of its own name, and Python would import it."""
    (tmp_path / "offline_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("offline_tracker") is not None
    with pytest.raises(ValueError, match=r"needs offline_tracker: pip install -e '\.\[extra\]'"):
        needs("extra", "offline_tracker")


@pytest.mark.parametrize(("module", "make"), [
    ("wandb", lambda: Wandb(project="p", mode="offline", name=None, group=None)),
    ("sqlalchemy", lambda: Mlflow(uri="sqlite:///m.db", experiment="e", name=None)),
])  # fmt: skip
def test_each_tracker_names_what_it_lacks(monkeypatch, module, make):
    find = importlib.util.find_spec
    spec = find("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else spec)
    with pytest.raises(ValueError, match=f"needs {module}: pip install"):
        make()


def test_an_address_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///outputs/mlflow.db") == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert absolute("sqlite:////there/mlflow.db") == "sqlite:////there/mlflow.db"
    assert absolute("http://host:5000") == "http://host:5000"


@pytest.mark.slow
def test_wandb_offline(cli, tmp_path):
    """All in the run's own folder, and nothing printed."""
    pytest.importorskip("wandb")
    (tmp_path / "home").mkdir()
    options = [*RUN, "logger=wandb", "train.epochs=3", "hydra.run.dir=run"]
    code, text = cli(*options, env={"HOME": str(tmp_path / "home")})
    assert code == 0, text
    assert "wandb" not in text
    run = tmp_path / "run"
    assert (run / "train.log").read_text() == text
    assert_history_is_that_of_csv(run)
    records = list(wandb_records(run))
    config = {}
    for record in records:
        for item in record.run.config.update:
            config[item.key] = json.loads(item.value_json)
    assert config["optim"]["lr"] == 0.05
    final = {"/".join(i.nested_key) or i.key: i.value_json for r in records for i in r.summary.update}
    assert json.loads(final["test/accuracy"]) == summary(run)["test"]["accuracy"]
    assert json.loads(final["status"]) == "finished"
    assert json.loads(final["confusion matrix"])["_type"] == "image-file"
    assert any(r.WhichOneof("record_type") == "exit" for r in records)
    assert not list((tmp_path / "home").rglob("*wandb*"))
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["home", "run"]


@pytest.mark.slow
def test_mlflow(cli, tmp_path):
    pytest.importorskip("mlflow")
    code, text = cli(*RUN, "logger=mlflow", "train.epochs=3", "hydra.run.dir=run")
    assert code == 0, text
    assert "mlflow" not in text.lower()
    run = tmp_path / "run"
    assert_metrics_are_those_of_csv(tmp_path, run)
    found, _, params = mlflow_metrics(tmp_path, run)
    assert found["test/accuracy"] == [(3, summary(run)["test"]["accuracy"])]
    assert params["optim.lr"] == "0.05"
    assert params["model"] == "MLP"
    assert len(list(tmp_path.glob("outputs/mlflow_artifacts/*/artifacts/confusion_matrix.png"))) == 1
    code, text = cli("train.resume=run", "train.epochs=5")
    assert code == 0, text
    assert_metrics_are_those_of_csv(tmp_path, run)
    assert [step for step, _ in mlflow_metrics(tmp_path, run)[0]["test/accuracy"]] == [3, 5]


@pytest.mark.slow
def test_mlflow_gets_a_name_that_it_takes():
    """A column of a table may be called anything; MLflow refuses other characters."""
    pytest.importorskip("mlflow")
    from mlflow.utils.validation import _validate_metric_name

    (metric,) = Mlflow._metrics({"coefficient/Größe, in [m²]": 7.0}, 1)
    _validate_metric_name(metric.key)
    assert (metric.key, metric.value, metric.step) == ("coefficient/Größe_ in _m²_", 7.0, 1)


def test_parallel_jobs_on_a_fresh_mlflow_store(start, tmp_path):
    pytest.importorskip("mlflow")
    runs = [tmp_path / f"run{i}" for i in range(4)]
    jobs = [start(*RUN, "logger=mlflow", "train.epochs=4", f"hydra.run.dir={run}") for run in runs]
    for code, text in [job.wait() for job in jobs]:
        assert code == 0, text
        assert "failed" not in text
    for run in runs:
        assert_metrics_are_those_of_csv(tmp_path, run)
    with sqlite3.connect(tmp_path / "outputs" / "mlflow.db") as db:
        assert db.execute("select count(*) from runs").fetchone() == (4,)
        assert db.execute("select count(*) from experiments where name = 'conga'").fetchone() == (1,)


@pytest.mark.slow
def test_all_at_once_killed_and_resumed(start, cli, tmp_path):
    for name in ("tensorboard", "wandb", "mlflow"):
        pytest.importorskip(name)
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = [*RUN, "logger=[tensorboard,wandb,mlflow]", "train.epochs=30"]
    for epochs in (4, 12):
        job = start(*options, f"hydra.run.dir={run}")
        deadline = time.monotonic() + 600
        while not (run / "metrics.csv").exists() or len(rows(run)) <= epochs:
            assert time.monotonic() < deadline, job.kill()
            time.sleep(0.01)
        assert job.kill()[0] == -signal.SIGKILL
    code, text = cli(*options, f"hydra.run.dir={run}")
    assert code == 0, text
    assert "failed" not in text
    assert_scalars_are_those_of_csv(run)
    assert_history_is_that_of_csv(run)
    assert_metrics_are_those_of_csv(tmp_path, run)
    assert cli(*RUN, "train.epochs=30", f"hydra.run.dir={whole}")[0] == 0
    assert rows(run) == rows(whole)
