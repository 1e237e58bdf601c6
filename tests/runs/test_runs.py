"""Runs read back: what a directory says, in any state that it may be left in."""

import json
import os
import platform
import random
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hand_made import CHOICES, COLUMNS, CONFIG, with_keys, write_run
from omegaconf import OmegaConf

from trainer.rundir import configuration, records
from trainer.rundir.errors import Refused
from trainer.rundir.files import to_yaml
from trainer.rundir.lock import locked
from trainer.runs import differing, find_runs, load_curves, load_runs, metric_direction
from trainer.runs.sweep import sweep_rows, write_csv

FILES = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/resumed.yaml", "summary.json", "metrics.csv")


def only(path):
    (record,) = find_runs([path])
    return record


def test_what_a_run_says(tmp_path):
    run = write_run(tmp_path / "outputs/2026-01-02/10-00-00_mlp")
    record = only(tmp_path / "outputs")
    assert (record.path, record.name, record.status) == (run, "2026-01-02/10-00-00_mlp", "finished")
    assert record.error is None
    assert record.config["optim.lr"] == 0.1
    assert record.config["model.widths"] == [64, 64]
    assert record.config["train.max_steps"] is None
    assert (record.config["optim"], record.config["data"]) == ("sgd", "digits")
    assert "hydra/env" not in record.config
    assert record.best == {"metric": "val/loss", "value": 0.5, "epoch": 2, "mode": "min"}
    assert record.test == {"loss": 0.7, "accuracy": 0.3}
    assert record.final["val/loss"] == 0.6
    frame = pd.read_csv(run / "metrics.csv")
    assert list(record.curves) == list(frame)
    for name in frame:
        np.testing.assert_array_equal(record.curves[name], frame[name])


def test_natural_order_and_names(tmp_path):
    for name in ("job/10_a", "job/2_a", "job/1_a"):
        write_run(tmp_path / name)
    assert [r.name for r in find_runs([tmp_path])] == ["job/1_a", "job/2_a", "job/10_a"]
    assert [r.name for r in find_runs([tmp_path / "job/2_a"])] == ["2_a"]
    assert [r.name for r in find_runs([tmp_path / "job/10_a", tmp_path / "job/2_a"])] == ["2_a", "10_a"]
    assert len(find_runs([tmp_path, tmp_path / "job"])) == 3
    with pytest.raises(Refused, match="nowhere: no such directory"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="file: not a directory"):
        find_runs([tmp_path / "file"])


def test_symbolic_links_lead_to_a_run_once(tmp_path):
    write_run(tmp_path / "outputs/a")
    (tmp_path / "outputs/again").symlink_to(tmp_path / "outputs")
    (tmp_path / "outputs/loop").symlink_to("loop")
    (tmp_path / "outputs/gone").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "outputs")
    for root in ("outputs", "link"):
        assert [(r.name, r.status) for r in find_runs([tmp_path / root])] == [("a", "finished")]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1e-3\nb: .inf\nc: 2024-01-02\nd: 'null'\ne: yes\nf: 010\n",
        "a:\n- 1\n- [x, {y: null}]\nb: 'two\n  lines'\n\n# a remark\nc: |\n  text\n  more\n",
        "deep: {er: {x: 1.0, empty: {}}}\nlist: []\n? odd\n: 3\n",
        "---\na: 1\nb: &anchor 2\n",
        "{a: 1, b: [2,\n3]}\n",
    ],
)
def test_yaml_means_what_it_means_to_omegaconf(tmp_path, text):
    """Blocks are parsed one by one and by another parser."""
    run = write_run(tmp_path / "run")
    both = OmegaConf.to_yaml(OmegaConf.create(CONFIG)) + text if text[0] not in "{-" else text
    (run / ".hydra/resumed.yaml").write_text(both)
    expected = flat(OmegaConf.to_container(OmegaConf.create(both)))
    config = only(run).config
    assert {key: config[key] for key in expected} == expected
    assert all(type(config[key]) is type(value) for key, value in expected.items())


def flat(node, prefix=""):
    found = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def test_a_real_run(trained):
    run = trained("train.epochs=2")
    record = only(run)
    expected = flat(OmegaConf.to_container(OmegaConf.load(run / ".hydra/config.yaml")))
    choices = OmegaConf.load(run / ".hydra/hydra.yaml").hydra.runtime.choices
    assert record.status == "finished"
    assert record.config == expected | {k: v for k, v in choices.items() if not k.startswith("hydra/") and k != "sweep"}
    assert record.summary == json.loads((run / "summary.json").read_text())


def test_choices_are_those_of_the_runtime(tmp_path):
    run = write_run(tmp_path / "run")
    hydra = {
        "hydra": {
            "sweeper": {"params": {"x": {"choices": {"optim": "no"}}}},
            "runtime": {
                "choices": {"logger": ["csv", "wandb"], "constraint@_global_.constraint": "linf", "hydra/env": 1}
            },
            "verbose": False,
        }
    }
    text = OmegaConf.to_yaml(hydra)
    for ending in ("\n", "\r\n"):
        (run / ".hydra/hydra.yaml").write_bytes(text.replace("\n", ending).encode())
        config = only(run).config
        assert config["logger"] == ["csv", "wandb"]
        assert config["constraint"] == "linf"
        assert "optim" not in config
        assert "sweep" not in config


def test_what_stands_twice_in_a_configuration(tmp_path):
    run, shared = write_run(tmp_path / "run"), [1, 2]
    config = with_keys(model__widths=shared, train__max_steps=shared)
    (run / ".hydra/config.yaml").write_text(to_yaml(config))
    record = only(run)
    assert record.status == "finished"
    assert record.config["model.widths"] == record.config["train.max_steps"] == [1, 2]


def test_what_differs(tmp_path):
    """A choice says what its target is; keys that a choice alone has count if they differ among the runs with them."""
    for i, (lr, optim) in enumerate([(0.1, "sgd"), (0.2, "sgd"), (0.1, "adam")]):
        config = with_keys(seed=i, optim__lr=lr, optim___target_=f"optim.{optim}")
        if optim == "adam":
            config["optim"]["beta1"] = 0.9
            del config["optim"]["momentum"]
        write_run(tmp_path / str(i), config, CHOICES | {"optim": optim})
    records = find_runs([tmp_path])
    assert differing(records) == ["optim", "optim.lr", "seed"]
    assert differing(records[:2]) == ["optim.lr", "seed"]
    assert differing(records[:1]) == differing([]) == []


def test_one_is_one_point_zero_but_not_true(tmp_path):
    for i, value in enumerate((1, 1.0, True, "1")):
        write_run(tmp_path / str(i), with_keys(train__max_steps=value))
    a, b, c, d = find_runs([tmp_path])
    assert differing([a, b]) == []
    assert differing([a, c]) == differing([a, d]) == ["train.max_steps"]


def test_which_direction_is_better(tmp_path):
    record = only(write_run(tmp_path / "run"))
    assert [metric_direction(n, record) for n in ("val/loss", "val/accuracy", "accuracy", "test/f1", "rmse", "r2")] == [
        *("min", "max", "max", "max", "min", "max")
    ]
    record.best["mode"] = "max"
    assert metric_direction("val/loss", record) == "max"
    record.summary["higher_is_better"] = ["iou"]  # an objective of one's own
    assert [metric_direction(n, record) for n in ("val/iou", "val/rmse")] == ["max", "min"]


def test_states(tmp_path):
    """Queued without a summary, interrupted when the process has gone, with what a resume changed."""
    (write_run(tmp_path / "queued", losses=()) / "summary.json").unlink()
    process = {"host": platform.node(), "pid": 1, "heartbeat": "2026-01-01T00:00:00+00:00"}
    write_run(tmp_path / "gone", status="running", process=process)
    write_run(tmp_path / "runs", status="running", process=process)
    write_run(tmp_path / "failed", status="failed", error="first line\nsecond line")
    (write_run(tmp_path / "resumed") / ".hydra/resumed.yaml").write_text("train.epochs: 9\n")
    # Another process, since a process's own lock never stops it.
    code = "import sys, time, pathlib; from trainer.rundir.lock import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / "runs"], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        by_name = {record.name: record for record in find_runs([tmp_path])}
    finally:
        holder.kill()
        holder.wait()
    assert {name: record.status for name, record in by_name.items()} == {
        **{"queued": "queued", "gone": "interrupted", "runs": "running"},
        **{"failed": "failed", "resumed": "finished"},
    }
    assert by_name["failed"].error == "first line second line"
    assert by_name["resumed"].config["train.epochs"] == 9


def test_reading_does_not_get_in_the_way_of_training(tmp_path):
    run = write_run(tmp_path / "run", status="running", process=None)
    assert only(run).status == "interrupted"
    with locked(run):
        pass


def test_what_was_swept(tmp_path):
    for i in range(3):
        write_run(tmp_path / f"sweep/{i}_seed={i}", with_keys(seed=i))
    (tmp_path / "sweep/sweep.json").write_text(json.dumps({"swept": ["optim.lr", "seed"], "jobs": []}))
    assert {record.swept for record in find_runs([tmp_path])} == {("optim.lr", "seed")}
    for damaged in ("", "[]", '{"swept": 3}', '{"swept": [3]}', "[" * 100_000):
        (tmp_path / "sweep/sweep.json").write_text(damaged)
        assert {record.swept for record in find_runs([tmp_path])} == {()}


def test_sweep_csv(tmp_path):
    write_run(tmp_path / "0", with_keys(optim__lr=0.1))
    write_run(
        tmp_path / "1", with_keys(optim__lr=0.2), losses=(), test={}, status="diverged", error="the loss, it is NaN"
    )
    records = find_runs([tmp_path])
    columns, rows = sweep_rows(records)
    write_csv(records, tmp_path / "sweep.csv")
    frame = pd.read_csv(tmp_path / "sweep.csv")
    assert list(frame) == columns
    assert columns[:7] == ["name", "optim.lr", "status", "error", "best/metric", "best/value", "best/epoch"]
    assert len(rows) == 2
    assert frame["error"].tolist()[1] == "the loss, it is NaN"
    assert frame["best/value"].tolist()[0] == 0.5
    assert frame.loc[1, ["best/value", "final/val/loss", "test/accuracy"]].isna().all()


def test_frames(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", with_keys(seed=1, optim__lr=1e-3), losses=(0.4,))
    write_run(tmp_path / "c", losses=())
    runs = load_runs(tmp_path)
    assert runs["name"].tolist() == ["a", "b", "c"]
    assert runs["optim.lr"].tolist() == [0.1, 0.001, 0.1]
    assert runs["best/value"].tolist()[:2] == [0.5, 0.4]
    assert np.isnan(runs["best/value"][2])
    assert runs["test/accuracy"].tolist() == [0.3] * 3
    curves = load_curves(tmp_path)
    expected = pd.concat([pd.read_csv(tmp_path / name / "metrics.csv").assign(name=name) for name in "ab"])
    assert curves["path"].tolist() == [str(tmp_path / name) for name in "aaab"]
    pd.testing.assert_frame_equal(curves[[*COLUMNS, "name"]], expected.reset_index(drop=True), check_dtype=False)
    assert load_curves(tmp_path / "c").empty
    (tmp_path / "empty").mkdir()
    assert load_runs(tmp_path / "empty").empty


def test_half_a_last_row_and_empty_cells(tmp_path):
    run = write_run(tmp_path / "run")
    with (run / "metrics.csv").open("a") as file:
        file.write("4,40,,,inf,0.1\n5,50,0.1")
    record = only(tmp_path)
    assert record.status == "finished"
    assert record.curves["epoch"].tolist() == [1, 2, 3, 4]
    assert np.isnan(record.curves["val/loss"][3])
    assert record.curves["val/accuracy"][3] == np.inf


def test_a_name_with_a_comma(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "metrics.csv").write_text('epoch,"val/accuracy_a,b"\n1,0.5\n2,0.25\n3,\n')
    assert only(run).status == "finished"
    assert only(run).curves["val/accuracy_a,b"].tolist()[:2] == [0.5, 0.25]


DAMAGE = {
    ("summary.json", b""): "summary.json: empty",
    ("summary.json", b'{"status": "fini'): "summary.json: not readable as JSON",
    ("summary.json", b"\xff\xfe\x00"): "summary.json: not readable as JSON",
    ("summary.json", b"[" * 100_000): "summary.json: not readable as JSON",
    ("summary.json", b"[]"): "summary.json: should hold an object",
    ("summary.json", b"{}"): "summary.json: status is not",
    ("summary.json", b'{"status": "great"}'): "summary.json: status is not",
    ("summary.json", b'{"status": ["finished"]}'): "summary.json: status is not",
    ("summary.json", b'{"status": "finished", "best": 3}'): "summary.json: best is not",
    ("summary.json", b'{"status": "finished", "best": {"metric": "x"}}'): "summary.json: best is not",
    ("summary.json", b'{"status": "finished", "test": {"loss": "low"}}'): "summary.json: test is not",
    ("summary.json", b'{"status": "finished", "final": [1]}'): "summary.json: final is not",
    ("summary.json", b'{"status": "finished", "epochs": -1}'): "summary.json: epochs is not",
    ("summary.json", b'{"status": "finished", "seconds": 1' + b"0" * 400 + b"}"): "summary.json: seconds is not",
    ("summary.json", b'{"status": "running", "process": {"pid": "x"}}'): "summary.json: process is not",
    ("summary.json", b'{"status": "finished", "epochs": 4}'): "metrics.csv: has 3 rows, and summary.json says 4",
    (".hydra/config.yaml", None): ".hydra/config.yaml: Is a directory",
    (".hydra/config.yaml", b""): ".hydra/config.yaml: should hold a mapping, and holds nothing",
    (".hydra/config.yaml", b"- a\n- b\n"): ".hydra/config.yaml: should hold a mapping",
    (".hydra/config.yaml", b"seed: 0\n"): ".hydra/config.yaml: not the configuration of a run",
    (".hydra/config.yaml", b"train: {epochs: 1\n"): ".hydra/config.yaml: not readable as YAML",
    (".hydra/config.yaml", b"train: {epochs: 1}\ntrain: {epochs: 2}\n"): ".hydra/config.yaml: has 'train' twice",
    (".hydra/config.yaml", b"\xff\xfe\x00\x80"): ".hydra/config.yaml: not text in UTF-8",
    (".hydra/config.yaml", b"train: {epochs: 1}\nx: \x00\n"): ".hydra/config.yaml: not readable as YAML",
    (".hydra/config.yaml", b"train: {epochs: 1}\nx: " + b"[" * 5000): ".hydra/config.yaml: not readable as YAML",
    (".hydra/config.yaml", b"train: {epochs: 1}\nx: 1" + b"0" * 5000): ".hydra/config.yaml: not readable as YAML",
    (".hydra/config.yaml", b"train: {epochs: 1, x: !!python/object/apply:os.mkdir [boom]}"): "not readable as YAML",
    (".hydra/config.yaml", b"train: &a {epochs: 1}\nx: {y: *a}\n"): ".hydra/config.yaml: has an alias",
    (".hydra/hydra.yaml", b""): ".hydra/hydra.yaml: does not say which choices",
    (".hydra/hydra.yaml", b"\x00" * 10): ".hydra/hydra.yaml: does not say which choices",
    (".hydra/resumed.yaml", b"oh no"): ".hydra/resumed.yaml: should hold a mapping",
    ("metrics.csv", b"hello\n1\n"): "metrics.csv: its first line should name columns",
    ("metrics.csv", b"epoch,a,a\n"): "metrics.csv: its first line should name columns",
    ("metrics.csv", b"epoch,\xff\n1,2\n"): "metrics.csv: its first line is not text in UTF-8",
    ("metrics.csv", b"epoch,a\n1,2\n2\n3,4\n"): "metrics.csv: row 2 has 1 cells instead of 2",
    ("metrics.csv", b"epoch,a\n1,2\n2,3,4\n3\n"): "metrics.csv: row 2 has 3 cells instead of 2",
    ("metrics.csv", b"epoch,a\n1,2\n2,hi\n3,4\n"): "metrics.csv: row 2 has a cell that is no number ('hi')",
    ("metrics.csv", b"epoch,a\n1,2\n2,\xff\n3,4\n"): "metrics.csv: row 2 has a cell that is no number",
    ("metrics.csv", b"epoch,a\n1,2\n"): "metrics.csv: has 1 rows, and summary.json says 3",
    ("metrics.csv", b""): "metrics.csv: has 0 rows, and summary.json says 3",
}


@pytest.mark.parametrize(("file", "content"), DAMAGE, ids=[f"{f}-{(c or b'dir')[:30]}" for f, c in DAMAGE])
def test_a_damaged_run_says_what_is_damaged(tmp_path, monkeypatch, file, content):
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "outputs/run")
    write_run(tmp_path / "outputs/whole")
    if content is None:
        (run / ".hydra/config.yaml").unlink()
        (run / ".hydra/config.yaml").mkdir()
    else:
        (run / file).write_bytes(content)
    record, other = find_runs([tmp_path / "outputs"])
    assert record.status == "damaged"
    assert DAMAGE[file, content] in record.error
    assert "\n" not in record.error
    assert other.status == "finished"
    assert not (tmp_path / "boom").exists()
    look_at(record)
    load_runs(tmp_path)


def look_at(record):
    """Everything that a command would do with it."""
    from trainer.runs.columns import row

    row(record)
    differing([record, record])
    sweep_rows([record])
    assert record.status in records.STATUSES
    assert (record.error is None) or (record.error.isprintable() and record.status != "finished")
    lengths = {len(column) for column in record.curves.values()}
    assert len(lengths) <= 1


def test_random_damage_makes_no_reader_fail(tmp_path):
    """Truncated, overwritten and shuffled bytes of each file; a thousand of them."""
    rng = random.Random(0)
    run = write_run(tmp_path / "run")
    (run / ".hydra/resumed.yaml").write_text("train.epochs: 9\n")
    whole = {name: (run / name).read_bytes() for name in FILES}
    statuses = set()
    for i in range(1000):
        name = FILES[i % len(FILES)]
        content = bytearray(whole[name])
        kind, at = rng.randrange(5), rng.randrange(len(content))
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        elif kind == 2:
            content[at] = rng.choice(b"\n\t ,:{}[]&*!|>'\"%@`#?-0\x00\x1b\xff")
        elif kind == 3:
            del content[at : at + rng.randrange(100)]
        else:
            lines = bytes(content).splitlines(keepends=True)
            rng.shuffle(lines)
            content = b"".join(lines)
        (run / name).write_bytes(content)
        record = only(run)
        look_at(record)
        statuses.add(record.status)
        (run / name).write_bytes(whole[name])
    assert "damaged" in statuses
    assert only(run).status == "finished"


def test_a_directory_that_vanishes_while_it_is_read(tmp_path, monkeypatch):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    real = configuration.flat

    def flat(folder):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        return real(folder)

    monkeypatch.setattr(configuration, "flat", flat)
    a, b = find_runs([tmp_path])
    assert (a.status, a.error) == ("damaged", ".hydra/config.yaml: gone")
    assert b.status == "finished"
    assert a.curves == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_damaged(tmp_path):
    run, folder = write_run(tmp_path / "run"), tmp_path / "sealed"
    folder.mkdir()
    (run / "summary.json").chmod(0)
    folder.chmod(0)
    errors = {record.name: record.error for record in find_runs([tmp_path])}
    folder.chmod(0o700)
    assert errors == {"run": "summary.json: Permission denied", "sealed": "Permission denied"}


def test_what_the_system_refuses_to_read_is_damaged(tmp_path, monkeypatch):
    write_run(tmp_path / "run")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("trainer.rundir.stored.open", refuse, raising=False)
    record = only(tmp_path)
    assert (record.status, record.error) == ("damaged", ".hydra/config.yaml: Permission denied")


def test_reading_imports_no_torch():
    code = "import sys, trainer.runs, trainer.runs.command, trainer.runs.compare\n"
    code += "print([name for name in ('torch', 'pandas', 'scipy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert found.stdout.strip() == "[]", found.stderr
