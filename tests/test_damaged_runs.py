"""Run directories that something happened to: what is noticed, what is said, and that nothing is lost."""

import io
import shutil
import zipfile

import pytest
import torch
from conftest import rows, summary

from trainer import checkpoint, evaluate, predict, weights
from trainer.errors import Refused
from trainer.runs import find_runs
from trainer.seal import check_seal


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
    state = {"model": torch.nn.Linear(2, 1).state_dict(), "facts": {}, "n": [1, 2.5, "text"]}
    checkpoint.save(path, "last", state)
    content = path.read_bytes()
    whole = checkpoint.load(path, "last", "cpu")
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
            checkpoint.load(path, "last", "cpu")


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
    assert note in command(evaluate.main, str(run))[1]
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 0
    assert note in text


def test_a_checkpoint_of_another_run_is_noticed_by_readers(command, copied):
    """Of another configuration, and of the same with other numbers."""
    run, other = copied("train.epochs=2"), copied("train.epochs=2", "seed=1", name="other")
    for kind in ("best", "last"):
        path = run / "checkpoints" / f"{kind}.pt"
        path.write_bytes((other / "checkpoints" / f"{kind}.pt").read_bytes())
        for main, *more in ((evaluate.main,), (weights.main,), (predict.main, "x.npz")):
            code, text = command(main, str(run), *more, f"--checkpoint={kind}")
            assert code == 2, text
            assert f"{kind}.pt: a checkpoint of another run (seed is 1 there and 0 here)" in text
        state = torch.load(path, weights_only=True)
        checkpoint.save(path, kind, state | {"config": state["config"] | {"seed": 0}})
        code, text = command(evaluate.main, str(run), f"--checkpoint={kind}")
        assert code == 2, text
        assert f"{kind}.pt: a checkpoint of another run ({'best' if kind == 'best' else 'final'}." in text


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
    assert record.error == "summary.json: gone; train.resume makes it again from checkpoints/last.pt"
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
    assert f"{last.relative_to(tmp_path)}: holds what belongs into best.pt" in text
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
