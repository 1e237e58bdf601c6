"""Run directories that something happened to: what is noticed, what is said, and that nothing is lost."""

import shutil

import pytest
import torch
from conftest import rows


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
