"""Reports: what is in the file, and that nothing from a run is run."""

import base64
import hashlib
import math
import os
import re
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest
from conftest import ROOT
from reported import EVIL, Page, accuracy, loss, write_evil, write_grid, write_run

from trainer.report import payload as made
from trainer.report.page import SCRIPTS


@pytest.fixture
def run_report(command):
    return partial(command, "report")


def test_one_file_that_needs_nothing_else(run_report, tmp_path):
    write_grid(tmp_path / "sweep")
    code, text = run_report("sweep")
    assert code == 0, text
    assert re.fullmatch(
        r"written  sweep/report.html: 8 runs \(6 finished, 1 diverged, 1 damaged\), 0\.\d MB; .*\n", text
    )
    page = Page(tmp_path / "sweep" / "report.html")
    assert "".join(page.texts["title"]).strip() == "sweep"
    assert not page.all("link")[1:]
    assert page.all("link")[0]["href"] == "data:,"
    assert not [a for _, a in page.elements if "src" in a or any(name.startswith("on") for name in a)]
    whole = (tmp_path / "sweep" / "report.html").read_text()
    assert set(re.findall(r"\w+://[^\"'\s]+", whole)) == {"http://www.w3.org/2000/svg"}  # the name of SVG, no address

    policy = dict(part.split(" ", 1) for part in page.all("meta")[1]["content"].split("; "))
    assert policy["default-src"] == "'none'"
    contents = [re.search(r"<style>(.*?)</style>", whole, re.S)[1], *re.findall(r"<script>(.*?)</script>", whole, re.S)]
    sums = [f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in contents]
    assert policy["style-src"] == sums[0]
    assert policy["script-src"].split() == sums[1:]
    assert len(sums) == 1 + len(SCRIPTS)


def test_what_is_told_of_a_run(run_report, tmp_path):
    """Beside what the test itself wrote, read with pandas."""
    grid = write_grid(tmp_path / "sweep")
    write_run(
        tmp_path / "sweep" / "8_", {"optim.lr": 0.5, "optim.momentum": 0.0, "seed": 2}, resumed="train.epochs: 99\n"
    )
    assert run_report("sweep", "--out=page.html")[0] == 0
    data = Page(tmp_path / "page.html").data
    assert [run["status"] for run in data["runs"]] == ["finished"] * 6 + ["diverged", "damaged", "queued"]
    assert data["differing"] == ["optim.lr", "seed", "train.epochs", "optim.momentum"]  # as in `runs`
    for run, ((rate, momentum), path) in zip(data["runs"], grid.items(), strict=False):
        frame = pd.read_csv(path / "metrics.csv")
        assert list(run["curves"]) == list(frame)
        for name, column in run["curves"].items():
            wanted = [None if math.isnan(value) else pytest.approx(value, rel=5e-6) for value in frame[name]]
            assert column == wanted
        assert run["values"]["best/value"] == min(loss(rate, momentum))
        assert run["values"]["test/accuracy"] == accuracy(rate, momentum)
        assert (data["config"] | run["config"])["optim.lr"] == rate
        assert run["yaml"] == (path / ".hydra" / "config.yaml").read_text()
        assert run["log"] == (path / "train.log").read_text()
    diverged, damaged, queued = data["runs"][6:]
    assert diverged["curves"]["val/loss"] == [3, None]
    assert diverged["error"] == "the loss is NaN after step 14"
    assert "summary.json" in damaged["error"]
    assert queued["yaml"].endswith("# changed when the run was resumed:\ntrain.epochs: 99\n")
    assert queued["config"]["train.epochs"] == 99
    assert {"val/loss", "best/value", "seconds"} <= set(data["lower"])
    assert not {"val/accuracy", "test/accuracy"} & set(data["lower"])


def test_only_some_runs(run_report, tmp_path):
    write_grid(tmp_path / "sweep")
    code, text = run_report("sweep", "--where", "optim.lr<=2 and momentum=0 and status=finished")
    assert code == 0
    assert "2 runs (2 finished)" in text
    data = Page(tmp_path / "sweep" / "report.html").data
    assert [run["name"][:1] for run in data["runs"]] == ["0", "2"]
    assert data["where"] == "optim.lr<=2 and momentum=0 and status=finished"


def test_long_curves_and_logs_are_cut(run_report, tmp_path):
    n = made.ROWS_MOST * 2 + 1
    lines = [f"line {i}" for i in range(20_000)]
    run = write_run(
        tmp_path / "run",
        {"seed": 0},
        {
            "epoch": range(1, n + 1),
            "step": range(10**7 + 1, 10**7 + n + 1),
            "val/loss": [1 / (1 + i) for i in range(n)],
        },
        log="\n".join(lines) + "\n",
    )
    assert run_report("run")[0] == 0
    told = Page(run / "report.html").data["runs"][0]
    epochs = told["curves"]["epoch"]
    assert (len(epochs), epochs[0], epochs[-1], told["rows"]) == (made.ROWS_MOST, 1, n, n)
    assert told["curves"]["step"] == [10**7 + epoch for epoch in epochs]  # whole numbers keep all digits
    assert told["curves"]["val/loss"] == pytest.approx([1 / epoch for epoch in epochs], rel=5e-6)
    head, note, tail = re.fullmatch(
        r"(.*)\n\n… ([\d,]+) bytes left out here; .*? …\n\n(.*)\n", told["log"], re.S
    ).groups()
    assert lines[: head.count("\n") + 1] == head.split("\n")
    assert lines[-tail.count("\n") - 1 :] == tail.split("\n")
    whole = len((run / "train.log").read_bytes())
    assert int(note.replace(",", "")) == whole - len(head) - len(tail) - 2
    assert whole - made.LOG_MOST < int(note.replace(",", "")) < whole - made.LOG_MOST + 100


def test_scripts_make_only_text_of_text():
    """The ways in which a script can make markup or code of text are not used at all."""
    for name in SCRIPTS:
        script = (ROOT / "trainer" / "report" / name).read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", script
        )
    listed = {path.name for path in (ROOT / "trainer" / "report").glob("*.js")}
    assert listed == set(SCRIPTS)


def test_no_torch():
    code = "import sys, trainer.report.command; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["empty"], "empty: no runs below"),
        (["sweep", "--where", "lrr<1"], "--where: no column 'lrr'; did you mean optim.lr?"),
        (["sweep", "--where", "lr<"], "--where: expected a value"),
        (["sweep", "--where", "lr<0"], "--where=lr<0: true for none of the 8 runs"),
        (["sweep", "--serve=99999"], "--serve=99999: "),
        (["sweep", "--serve", "--out=x.html"], "--out=x.html: --serve writes no file"),
        (["sweep", "--out", "empty"], "--out=empty: is a directory"),
        (["sweep", "--out", "file/x.html"], "file: File exists; --out=FILE.html writes elsewhere"),
        ([], "missing: PATH"),
    ],
)
def test_a_mistake_is_one_line(run_report, tmp_path, arguments, line):
    write_grid(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    code, text = run_report(*arguments)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: {line}")


def test_a_name_that_is_no_text(run_report, tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xffn")
    write_grid(folder)
    code, text = run_report(str(folder))
    assert code == 0
    assert text.startswith("written  r\N{REPLACEMENT CHARACTER}n/report.html: 8 runs")
    assert Page(folder / "report.html").texts["title"][0] == "r?n"


def test_nothing_is_half_written(run_report, tmp_path, monkeypatch):
    write_grid(tmp_path / "sweep")
    (tmp_path / "page.html").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    code, text = run_report("sweep", "--out=page.html")
    assert (code, text) == (2, "conga: page.html: No space left on device; --out=FILE.html writes elsewhere\n")
    assert (tmp_path / "page.html").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"sweep", "page.html"}


@pytest.fixture
def evil(tmp_path):
    return write_evil(tmp_path / EVIL)


def test_text_from_runs_makes_no_element(evil):
    page = Page(evil)
    assert len(page.all("script")) == 2 + len(SCRIPTS)
    assert page.all("img") == []
    assert "<" not in "".join(page.texts["payload"] + page.texts["texts"])
