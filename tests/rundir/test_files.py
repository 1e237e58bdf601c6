"""Files, names and locks of a run directory."""

import argparse
import ast
import os
import shlex
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from trainer import resume
from trainer.cli.signatures import conforms, describe
from trainer.rundir import configuration, files, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.names import job_name
from trainer.rundir.provenance import git_facts
from trainer.rundir.summary import Summary


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a" / "file"
    files.write_whole(path, b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left on device") as error:
        files.write_whole(path, b"new")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_an_interrupted_append_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.append_line(path, "one")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        files.append_line(path, "two")
    assert path.read_text() == "one\n"


def test_half_a_line_of_a_power_cut_is_ended(tmp_path):
    path = tmp_path / "file"
    path.write_text("one\ntw")
    files.append_line(path, "three")
    assert path.read_text() == "one\ntw\nthree\n"


def test_what_is_written_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    files.write_whole(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder
    calls.clear()
    files.write_whole(tmp_path / "file", b"y", settle=False)
    assert calls == ["fsync", "replace"]  # the folder will be flushed with another file


def test_claims_are_unique_across_threads(tmp_path):
    claimed = []
    threads = [
        threading.Thread(target=lambda: claimed.append(run_dir.claim(str(tmp_path / "d" / "run")))) for _ in range(32)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expected = {"run", *(f"run_{i}" for i in range(2, 33))}
    assert {os.path.basename(path) for path in claimed} == expected


def test_job_names_need_no_quotes_and_are_bounded():
    """In a shell, and in Hydra's grammar: they are read as the text that they are."""
    expected = {
        (): "7",
        ("optim.lr=0.02", "seed=1"): "7_optim.lr-0.02_seed-1",
        ("optim=sgd", "+optim.x=1e-05", "train.clip_norm=null"): "7_optim-sgd_optim.x-1e-05_train.clip_norm-null",
        ("model.slope=-0.5", "seed=3"): "7_model.slope--0.5_seed-3",
        ("model.widths=[64,32]", "x=[-1,2]", "y={a:1,b:-2.5}"): "7_model.widths-64-32_x--1-2_y-a-1-b--2.5",
        ("data.root='/a/b c'", "x=''", "y=.hidden."): "7_data.root-a-b-c_x_y-hidden",
        ("data.path=../ü ß:*?\"'$~.csv",): "7_data.path-csv",
        ("seed=1e5", "+a=1_000"): "7_seed-1e5_a-1_000",
    }
    for differences, name in expected.items():
        assert job_name(7, differences) == name
        for text in (f"outputs/2026-11-23/12-30-30_sweep/{name}", f"s/{name}", name)[: 3 if differences else 2]:
            assert OverridesParser.create().parse_override(f"train.resume={text}").value() == text
            assert shlex.split(text) == [shlex.quote(text)] == [text]
    long = [f"some.long.key{i}={i}" for i in range(20)]
    a, b = (job_name(7, [*long, f"seed={s}"]) for s in (0, 1))
    assert a != b
    assert len(a) == len(b) == 100


@pytest.mark.parametrize(
    "name", ["plain-run_2", "with space", "a=b", "quote\"'", "back\\slash", "end\\", 'both\\"', "comma,brace{}", "ü$x"]
)
def test_the_resume_command_reads_back(tmp_path, monkeypatch, name):
    """Through the shell's rules and Hydra's grammar."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(run_dir.resume_command(tmp_path / name))
    assert words == ["python", "-m", "trainer", "resume", name]
    (tmp_path / name / ".hydra").mkdir(parents=True)
    (tmp_path / name / ".hydra/config.yaml").touch()
    given = []
    monkeypatch.setattr("trainer.resume.compose_and_train", lambda words: given.extend(words) or 0)
    with pytest.raises(SystemExit):
        resume.main(argparse.Namespace(folder=Path(words[4]), overrides=["train.epochs=2"], trusted=True))
    override = OverridesParser.create().parse_override(given[0])
    assert override.key_or_group == "train.resume"
    assert override.value() == name
    assert given[1:] == ["train.epochs=2", "--trust"]


def test_difference_names_the_first_key():
    a = {"optim": {"lr": 0.1, "betas": [1, 2]}, "seed": 0}
    assert configuration.difference(a, a) is None
    assert configuration.difference({**a, "seed": 1}, a) == "seed is 0 there and 1 here"
    assert configuration.difference({**a, "optim": {"lr": 0.1}}, a) == "optim.betas is [1, 2] there and (absent) here"
    assert configuration.difference({**a, "seed": 0.0}, a) is None
    assert configuration.difference({**a, "seed": False}, a) == "seed is 0 there and False here"


@pytest.mark.parametrize("text", ["[1, 2", "just text", "- a\n- b", "\x00"])
def test_a_damaged_configuration_is_refused(tmp_path, text):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(Refused, match=r"config\.yaml: "):
        configuration.frozen(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "[]", "\xff"])
def test_a_damaged_summary_is_refused(tmp_path, text):
    (tmp_path / "summary.json").write_bytes(text.encode("latin1"))
    with pytest.raises(Refused, match=r"summary\.json: "):
        Summary.read(tmp_path)


def test_summary_has_no_nan(tmp_path):
    s = Summary.read(tmp_path)
    s.update(status="finished", final={"val/loss": float("nan"), "x": float("inf")})
    assert Summary.read(tmp_path).data["final"] == {"val/loss": None, "x": None}


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (None, int | None, True),
        ([1, 2], list[int], True),
        ([1, 2.5], list[int], False),
        (1, list[int], False),
        ({"a": 1}, dict, True),
        (False, bool, True),
        (0, bool, False),
        ("x", str, True),
    ],
)
def test_types(value, hint, expected):
    assert conforms(value, hint) is expected
    assert describe(hint)


def test_rooms_import_one_way():
    """data, models and optim know neither each other, nor the trainer, nor Hydra."""
    for room in ("data", "models", "optim"):
        forbidden = {"data", "models", "optim", "trainer", "hydra", "omegaconf"} - {room}
        for file in (ROOT / room).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not forbidden & {name.partition(".")[0] for name in names}, file


AMBIGUOUS = ["1e-3", "1_0", "yes", "0x1", "2026-01-01", "12-00-00", "null", "~", "1:30", ".5", "nan", "a: b", "- x"]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(AMBIGUOUS)
TEXT = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" ")).filter(lambda text: "${" not in text)
KEYS = st.from_regex("[a-z_]{1,5}", fullmatch=True)


@settings(max_examples=75, deadline=None)
@given(st.recursive(PLAIN | TEXT, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=6))
def test_yaml_is_that_of_omegaconf(value):
    """Either reads what the other wrote."""
    assert OmegaConf.to_container(OmegaConf.create(files.to_yaml({"x": value}))) == {"x": value}
    assert yaml.load(OmegaConf.to_yaml(OmegaConf.create({"x": value})), files.YamlLoader) == {"x": value}


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs git and a checkout")
def test_the_commit_is_that_of_the_checkout():
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    facts = git_facts()
    assert (facts["commit"], type(facts["dirty"])) == (head.stdout.strip(), bool)
