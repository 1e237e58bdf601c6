"""Run directories that something happened to: what is noticed, what is said, and that nothing is lost."""

import inspect
import io
import json
import os
import shutil
import signal
import zipfile
from contextlib import contextmanager

import pytest
import torch
from conftest import rows, summary
from hand_made import write_run
from hydra.utils import get_class

from trainer.rundir import configuration, moved, run_dir, stored
from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.files import append_line, write_whole
from trainer.rundir.seal import check_seal
from trainer.rundir.summary import Summary
from trainer.runs import find_runs
from trainer.sweep.folder import asked
from trainer.training import checkpoint


@pytest.fixture
def copied(trained, tmp_path):
    """copied(*overrides, name="run") -> a copy of a finished run, to be damaged."""
    return lambda *overrides, name="run": shutil.copytree(trained(*overrides), tmp_path / name)


def test_a_lost_row_and_a_torn_row(cli, copied):
    """A row whose checkpoint was never written is dropped; so is half a row; a missing one is an error."""
    run = copied("train.epochs=2")
    expected = rows(run)
    with (run / "metrics.csv").open("a") as file:
        file.write("3,123,0.1,0.9,0.1,0.9,0.05,1.0,1.0\n4,16")
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 0, text
    assert rows(run)[:3] == expected
    assert [row[0] for row in rows(run)] == ["epoch", "1", "2", "3"]

    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join([lines[0], lines[2], lines[3]]) + "\n")
    code, text = cli(f"train.resume={run}", "train.epochs=4")
    assert code == 2
    assert "metrics.csv: its rows are not those of epochs 1 to 3" in text


@pytest.mark.parametrize("damage", ["truncated", "bit", "empty", "foreign", "text"])
def test_damaged_checkpoint(cli, copied, damage):
    run = copied("train.epochs=2")
    last = run / "checkpoints" / "last.pt"
    content = last.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.ones(3)}, last)
    else:
        middle = len(content) // 2
        last.write_bytes({
            "truncated": content[:middle],
            "bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "text": b"hello\n",
        }[damage])  # fmt: skip
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert text.count("\n") == 1
    assert str(last) in text
    assert "best.pt is whole (epoch" in text

    (run / "checkpoints" / "best.pt").write_bytes(b"")
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2
    assert "there is no whole best.pt either" in text


def same(a, b):
    """Whether two states hold equal tensors and values."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def test_every_single_bit_of_a_checkpoint_counts(tmp_path):
    """A flipped bit anywhere is found before torch sees the file; torch alone reads it as it reads its own."""
    path = tmp_path / "last.pt"
    state = {"config": {}, "facts": {}, "model": torch.nn.Linear(2, 1).state_dict(), "epoch": 1, "n": [2.5, "text"]}
    checkpoint.save(path, "epoch", state)
    content = path.read_bytes()
    whole = checkpoint.load(path, "epoch", "cpu")
    assert same(torch.load(path, weights_only=True), whole)
    assert same({key: whole[key] for key in state}, state)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            sealed = check_seal(io.BytesIO(flipped))
        except Exception:  # of a dozen types, as checkpoint.load says
            continue
        assert not sealed, bit  # then the seal itself is damaged, without which no checkpoint of today is read
        path.write_bytes(flipped)
        with pytest.raises(Refused, match="its last bytes are damaged"):
            checkpoint.load(path, "epoch", "cpu")


def test_the_bit_that_makes_a_folder_of_a_tensor(cli, copied):
    """Bit 4 of the external attributes in the archive's directory: torch then reads no bytes of that tensor."""
    run = copied("train.epochs=2")
    last = run / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    with zipfile.ZipFile(last) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        entry = content.index(name.encode(), archive.start_dir) - 46
    content[entry + 38] ^= 1 << 4
    last.write_bytes(content)
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert "last.pt: not a readable checkpoint" in text


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path):
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(10**8))
    with pytest.raises(Refused, match="a member is compressed"):
        checkpoint.load(path, "last", "cpu")


def test_a_checkpoint_of_before_is_read_with_a_note(cli, command, copied):
    run = copied("train.epochs=2")
    for path in (run / "checkpoints").iterdir():
        torch.save(torch.load(path, weights_only=True) | {"format": "conga checkpoint 1"}, path)
    note = "of an earlier version, without a seal: its tensors are checked, its headers are not"
    assert note in command("evaluate", str(run))[1]
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 0
    assert note in text


def test_classes_that_were_renamed_are_found(cli, copied):
    """Each old name leads to a class, and a run and a sweep that name old ones are read and resumed."""
    for name in [*moved.NAMES, f"{moved.OBJECTIVES}Brier"]:
        assert inspect.isclass(get_class(moved.renamed(name)))
    run, old = copied("train.epochs=2"), "trainer.training.settings.Settings"
    for file in (run / configuration.CONFIG, *(run / "checkpoints").iterdir()):
        if file.suffix == ".pt":
            state = torch.load(file, weights_only=True)
            state["config"]["train"]["_target_"] = old
            checkpoint.save(file, file.stem, state)
        else:
            file.write_text(file.read_text().replace("trainer.training.settings.TrainSettings", old))
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 0, text
    sweep = json.loads(json.dumps(ASKED))
    sweep["config"]["sweep"]["_target_"] = "trainer.sweep.settings.Settings"
    (run / "sweep.json").write_text(json.dumps(sweep))
    assert asked(run)["config"]["sweep"]["_target_"] == "trainer.sweep.settings.SweepSettings"


def test_a_checkpoint_of_another_run_is_noticed_by_readers(command, copied):
    """Of another configuration, and of the same with other numbers."""
    run, other = copied("train.epochs=2"), copied("train.epochs=2", "seed=1", name="other")
    for kind in ("best", "last"):
        path = run / "checkpoints" / f"{kind}.pt"
        path.write_bytes((other / "checkpoints" / f"{kind}.pt").read_bytes())
        for main, *more in (("evaluate",), ("weights",), ("predict", "x.npz")):
            code, text = command(main, str(run), *more, f"--checkpoint={kind}")
            assert code == 2, text
            assert f"{kind}.pt: a checkpoint of another run (seed is 1 there and 0 here)" in text
        state = torch.load(path, weights_only=True)
        checkpoint.save(path, kind, state | {"config": state["config"] | {"seed": 0}})
        code, text = command("evaluate", str(run), f"--checkpoint={kind}")
        assert code == 2, text
        assert f"{kind}.pt: a checkpoint of another run ({'best' if kind == 'best' else 'final'}." in text


def test_a_checkpoint_under_another_epochs_name_is_noticed(command, copied):
    run = copied("train.epochs=2", "train.keep=2")
    (run / "checkpoints/epoch_2.pt").write_bytes((run / "checkpoints/epoch_1.pt").read_bytes())
    code, text = command("evaluate", str(run), "--checkpoint=epoch_2")
    assert (code, text.count("\n")) == (2, 1)
    assert "epoch_2.pt: holds epoch 1; it was renamed" in text


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="not a regular file"):
        write_whole(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_metrics_of_another_run_are_noticed(cli, copied):
    run, other = copied("train.epochs=2"), copied("train.epochs=2", "seed=1", name="other")
    (run / "metrics.csv").write_bytes((other / "metrics.csv").read_bytes())
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert "metrics.csv: of another run; its row of epoch 2 is not the one in last.pt" in text


def test_a_lost_summary_is_made_again(cli, copied):
    run = copied("train.epochs=2")
    before = summary(run)
    (run / "summary.json").unlink()
    [record] = find_runs([run])
    assert record.status == "damaged"
    assert record.error == "summary.json: gone; resume makes it again from checkpoints/last.pt"
    code, text = cli(f"train.resume={run}")
    assert code == 0, text
    assert "note        summary.json is gone; it is made again from last.pt" in text
    after = summary(run)
    for key in ("status", "epochs", "steps", "best", "final", "test", "parameters", "seed"):
        assert after[key] == before[key], key


def test_a_pickle_is_not_executed(cli, copied, tmp_path):
    run = copied("train.epochs=2")

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    torch.save({"format": "conga checkpoint 1", "bomb": Bomb()}, run / "checkpoints" / "last.pt")
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert not (tmp_path / "boom").exists()


def test_checkpoint_of_another_run(cli, copied, trained):
    run = copied("train.epochs=2")
    (run / "checkpoints/last.pt").write_bytes(
        (trained("train.epochs=2", "seed=1") / "checkpoints/last.pt").read_bytes()
    )
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2
    assert "a checkpoint of another run (seed is 1 there and 0 here)" in text


def test_a_resume_that_is_refused_leaves_a_finished_run_as_it_was(cli, copied):
    """A table that lost its rows, or is gone, is found before anything is changed."""
    run = copied("train.epochs=2")
    table = (run / "metrics.csv").read_text()
    for damaged in ("epoch,step\n", table.replace(table.split(",")[-1], "hello\n"), None):
        (run / "metrics.csv").unlink() if damaged is None else (run / "metrics.csv").write_text(damaged)
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        code, text = cli(f"train.resume={run}", "train.epochs=3")
        assert code == 2
        assert "metrics.csv: its rows are not those of epochs 1 to 2, which the checkpoint holds" in text
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    (run / "metrics.csv").write_text(table)
    assert cli(f"train.resume={run}", "train.epochs=3")[0] == 0


def test_best_and_last_are_not_taken_for_each_other(cli, copied, tmp_path):
    copied("train.epochs=2", name="a")
    copied("train.epochs=2", "seed=1", name="b")
    last, best = (tmp_path / "a" / "checkpoints" / name for name in ("last.pt", "best.pt"))
    kept = last.read_bytes()
    last.write_bytes(best.read_bytes())
    code, text = cli("train.resume=a", "train.epochs=3")
    assert code == 2
    assert f"{last.relative_to(tmp_path)}: holds the content of best.pt" in text
    last.write_bytes(kept)

    state = torch.load(last, weights_only=True)
    (tmp_path / "a" / "summary.json").unlink()  # so that the test evaluation is due again
    best.write_bytes((tmp_path / "b" / "checkpoints" / "best.pt").read_bytes())
    code, text = cli("train.resume=a")
    assert code == 2
    epoch = state["progress"]["best"]["epoch"]
    assert f"best.pt: not the best checkpoint of this run, which is of epoch {epoch}" in text


def test_a_missing_best_checkpoint_is_found_before_training(cli, copied, tmp_path):
    copied("train.epochs=2")
    (tmp_path / "run" / "checkpoints" / "best.pt").unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    code, text = cli("train.resume=run", "train.epochs=3")
    assert code == 2
    assert "best.pt: no such checkpoint; put it back, or delete last.pt to start the run again from step 0" in text
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    code, text = cli("train.resume=run", "train.epochs=3")
    assert code == 0
    assert "checkpoints/last.pt is gone: the run starts again from step 0" in text


@contextmanager
def soon():
    """Ends what waits for a pipe, or reads a device without an end."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def bomb(levels=12):
    """YAML of a few lines that stands for 9^levels values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(["train: {epochs: 3}", *lines])


def sparse(path):
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


KINDS = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path.name),
    "huge": sparse,
    "empty": lambda path: path.touch(),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x80"),
    "nested": lambda path: path.write_text("[" * 100_000),
    "deep": lambda path: path.write_text('{"a":' * 500 + "1" + "}" * 500),
    "bomb": lambda path: path.write_text(bomb()),
    "digits": lambda path: path.write_text('{"train": {"epochs": 1}, "status": 1' + "0" * 5000 + "}"),
    "twice": lambda path: path.write_text('{"status": "finished", "status": "failed"}'),
    "NaN": lambda path: path.write_text('{"status": NaN, "x": [Infinity}'),
    "tags": lambda path: path.write_text("{status: !!binary aGk=, a: !!set {b}, c: !!python/object/apply:os.abort []}"),
    "empty tag": lambda path: path.write_text("train: !!int ''"),
    "list": lambda path: path.write_text("[1]"),
    "null": lambda path: path.write_text("null"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_of_a_run_keeps_a_reader(tmp_path, kind):
    """One damaged file in each of many runs, read by all who read such a file; only that run is damaged."""
    readers = {
        ".hydra/config.yaml": configuration.frozen,
        ".hydra/hydra.yaml": configuration.started_in,
        ".hydra/resumed.yaml": configuration.resumed_changes,
        "summary.json": Summary.read,
        "metrics.csv": lambda run: stored.read_text(run / "metrics.csv", stored.MOST_TABLE),
    }
    write_run(tmp_path / "whole")
    for i, file in enumerate(readers):
        path = write_run(tmp_path / str(i)) / file
        path.unlink(missing_ok=True)
        KINDS[kind](path)
    with soon():
        *damaged, whole = find_runs([tmp_path])
        assert whole.status == "finished"
        for record, (file, read) in zip(damaged, readers.items(), strict=True):
            if kind == "loop" and file == ".hydra/config.yaml":  # then nobody knows whether it is a run
                file = "Too many levels of symbolic links"
            assert (record.status, record.error.partition(":")[0]) == ("damaged", file), (file, record.error)
            assert record.curves == {} or file != "metrics.csv"
            if file == "metrics.csv" and kind not in ("pipe", "device", "folder", "loop", "huge", "bytes"):
                continue  # a text, whatever it says
            with pytest.raises(Damaged, match=r".+: .+") as error:
                read(record.path)
            assert "\n" not in str(error.value)


def test_json_has_no_nan():
    for text in (b'{"a": NaN}', b"[-Infinity]"):
        with pytest.raises(Damaged, match="is no number"):
            stored.parse_json(text, "f")


def test_yaml_and_json_that_runs_do_write_are_read():
    """Ordinary values come through the bounds; halves of characters are replaced, whole ones stay."""
    text = "a: {1: x, b: [1e-3, .nan, null, true, 2020-01-01, 'a * b']}\nc: 123456789012345678901234567890\n"
    value = stored.parse_yaml(text, "f")
    assert value["a"][1] == "x"
    assert value["a"]["b"][:1] + value["a"]["b"][2:] == [1e-3, None, True, "2020-01-01", "a * b"]
    assert value["c"] == 123456789012345678901234567890
    assert stored.parse_json(rb'{"a": "\ud83d\ude00 \ud83d"}', "f") == {"a": "\N{GRINNING FACE} ?"}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"status": "running", "process": null}', "interrupted"),
        ('{"status": "running", "process": 5}', "damaged"),
        ('{"status": "finished", "epochs": "3"}', "damaged"),
        ('{"status": "finished", "best": [1]}', "damaged"),
        ("{}", "damaged"),
        ("5", "damaged"),
    ],
)
def test_every_reader_of_a_summary_agrees(tmp_path, text, status):
    """The table of runs, the sweep that asks for its jobs, its board, and what settles a job that ended."""
    from trainer.sweep.board import about
    from trainer.sweep.conduct import settle
    from trainer.sweep.folder import state

    run = write_run(tmp_path / "0_a")
    (run / "summary.json").write_text(text)
    assert state(run) == status
    assert [record.status for record in find_runs([run])] == [status]
    assert about(run)["error"] == ""
    assert settle(run, 1) == ("damaged" if status == "damaged" else "failed")


CHECKPOINTS = {  # (kind, dotted key): what is there instead, or nothing
    ("last", "model"): None,
    ("last", "progress.epoch"): "x",
    ("last", "progress.seconds"): "x",
    ("last", "optimizer.param_groups"): None,
    ("last", "facts.mean"): None,
    ("last", "processes"): [1],
    ("best", "model"): {"a": torch.ones(1)},
    ("best", "best.epoch"): None,
    ("best", "facts"): 5,
}


@pytest.mark.parametrize(("kind", "key"), CHECKPOINTS)
def test_a_whole_checkpoint_that_lacks_something(cli, copied, kind, key):
    """One line that names the file and what to do; nothing is changed."""
    run = copied("train.epochs=2")
    file = run / "checkpoints" / f"{kind}.pt"
    state = torch.load(file, weights_only=True)
    outer, _, inner = key.rpartition(".")
    node = state[outer] if outer else state
    value = CHECKPOINTS[kind, key]
    node.pop(inner) if value is None else node.update({inner: value})
    checkpoint.save(file, kind, {name: part for name, part in state.items() if name not in ("format", "kind")})
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "train.log"}
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert text.count("\n") == 1
    assert str(file) in text
    assert "delete last.pt to start the run again from step 0" in text or key == "facts.mean"
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "train.log"} == before


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "huge"])
def test_what_is_no_checkpoint_keeps_nobody(tmp_path, kind):
    KINDS[kind](tmp_path / "last.pt")
    with soon(), pytest.raises(Refused, match=r"last\.pt: "):
        checkpoint.load(tmp_path / "last.pt", "last", "cpu")


def test_nothing_is_written_through_a_link(tmp_path):
    """Neither whole files, nor their temporary ones, nor lines; a link is replaced or refused."""
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine\n")
    folder.mkdir()
    for name in ("a.json", ".b.json.tmp", "train.log"):
        (folder / name).symlink_to(mine)
    for name in ("a.json", "b.json"):
        write_whole(folder / name, b"new\n")
        assert (folder / name).read_text() == "new\n"
        assert not (folder / name).is_symlink()
    with pytest.raises(OSError, match="conga writes through none"):
        append_line(folder / "train.log", "line")
    (folder / "train.log").unlink()
    os.mkfifo(folder / "train.log")
    with soon(), pytest.raises(OSError, match="not a regular file"):
        append_line(folder / "train.log", "line")
    with soon(), run_dir.open_log(folder) as log:
        log.write(b"nowhere\n")
    assert mine.read_text() == "mine\n"
    assert sorted(p.name for p in folder.iterdir()) == ["a.json", "b.json", "train.log"]


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "checkpoints", ".hydra", "evaluation"])
def test_a_run_with_a_link_that_leads_out_is_not_resumed(cli, copied, tmp_path, name):
    run = copied("train.epochs=2")
    (run / "evaluation").mkdir()
    outside = tmp_path / "outside"
    shutil.move(run / name, outside)
    (run / name).symlink_to(outside)
    files = [p for p in (outside, *outside.rglob("*"), *run.rglob("*")) if p.is_file()]
    before = {p: p.read_bytes() for p in files}
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert (code, text.count("\n")) == (2, 1), text
    assert f"{run / name}: is a link out of the run directory" in text
    assert {p: p.read_bytes() for p in files} == before


def test_a_run_directory_may_be_a_link(cli, copied, tmp_path):
    shutil.move(copied("train.epochs=2"), tmp_path / "disk")
    (tmp_path / "outputs").symlink_to("disk")
    code, text = cli("train.resume=outputs", "train.epochs=3")
    assert code == 0, text
    assert len(rows(tmp_path / "disk")) == 4


ASKED = {
    "swept": ["optim.lr"],
    "config": {
        "sweep": {"workers": 1, "jobs_per_gpu": 1, "fail_fast": False, "retries": 0, "rerun_failed": False}
        | {"keep_checkpoints": "all", "metric": None, "direction": "auto"},
        "hydra": {
            "sweep": {},
            "sweeper": {"_target_": "x"},
            "launcher": {"_target_": "x"},
            "runtime": {"choices": {"hydra/launcher": "workers"}},
            "overrides": {"hydra": []},
            "job": {"name": "x", "env_set": {}},
        },
    },
}


def test_checkpoints_that_lie_elsewhere_are_not_removed(tmp_path):
    """Of a job whose folder, or the folder of whose checkpoints, leads out of the sweep; also what a user put there."""
    from trainer.sweep.results import keep_best
    from trainer.sweep.settings import SweepSettings

    sweep, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    for place in (sweep / "0_own", sweep / "1_link", elsewhere / "2_job"):
        write_run(place)
        (place / "checkpoints").mkdir(exist_ok=True)
        for name in ("best.pt", "last.pt", "epoch_3.pt", "mine.pt"):
            (place / "checkpoints" / name).write_text("weights")
    shutil.move(sweep / "1_link" / "checkpoints", elsewhere / "checkpoints")
    (sweep / "1_link" / "checkpoints").symlink_to(elsewhere / "checkpoints")
    (sweep / "2_job").symlink_to(elsewhere / "2_job")
    settings = {**ASKED["config"]["sweep"], "keep_checkpoints": 0}
    (tmp_path / "way").symlink_to(sweep)
    kept = keep_best(tmp_path / "way", SweepSettings(**settings))
    assert sorted(record.name for record in kept) == ["1_link", "2_job"]
    assert [p.name for p in (sweep / "0_own" / "checkpoints").iterdir()] == ["mine.pt"]
    for place in (elsewhere / "checkpoints", elsewhere / "2_job" / "checkpoints"):
        assert len(list(place.iterdir())) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("swept", 5), ("swept", [5]), ("config.hydra", None), ("config.hydra.launcher", 5), ("config.sweep", {})],
        *[("config.hydra.runtime.choices", {}), ("config.sweep.workers", "x"), ("config.sweep.bogus", 1)],
    ],
)
def test_a_damaged_sweep_json_says_what_to_do(tmp_path, key, value):
    (tmp_path / "sweep.json").write_text(json.dumps(ASKED))
    assert asked(tmp_path) == ASKED
    content = json.loads(json.dumps(ASKED))
    *outer, inner = key.split(".")
    node = content
    for name in outer:
        node = node[name]
    node[inner] = value
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(
        Damaged, match=r"sweep\.json: not readable \(.*\); remove it and give the sweep's command again"
    ):
        asked(tmp_path)
