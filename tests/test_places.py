"""Where files are: a relative path is that of the folder where the run was started, whoever reads it, wherever."""

import pytest
import yaml
from conftest import summary

from trainer.rundir import configuration
from trainer.rundir.errors import Refused

TABLE = "a,b,label\n" + "".join(f"{i % 7},{i % 5},{'yes' if i % 7 > 3 else 'no'}\n" for i in range(60))
OTHER = TABLE.replace("yes", "maybe")
CSV = ("data=csv", "data.path=table.csv", "data.targets=label", "model=linear", "train.epochs=1")


@pytest.fixture
def folders(tmp_path):
    """`home` has a table, `other` a different one of the same name, `empty` none."""
    for name, text in (("home", TABLE), ("other", OTHER), ("empty", None)):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "table.csv").write_text(text)
    return tmp_path


@pytest.fixture
def inside(zygote, folders):
    """inside(folder, *argv) -> (exit status, everything printed) of a command that is given in the folder."""

    def inside(folder, *argv, env=None):
        how = {"cwd": str(folders / folder), "output": str(folders / "output"), "env": env or {}}
        answer = zygote.ask(argv=list(argv), limit=None, trip=None, **how)
        return zygote.ask(wait=answer["pid"])["status"], (folders / "output").read_text()

    return inside


@pytest.mark.parametrize("folder", ["empty", "other"])
def test_a_resume_reads_what_the_run_was_started_with(inside, folders, folder):
    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    code, text = inside(folder, "train.resume=../run", "train.epochs=2")
    assert code == 0, text
    assert summary(folders / "run")["epochs"] == 2
    assert not (folders / "run" / configuration.RESUMED).read_text().count("data")


def test_a_resume_in_another_folder_prints_paths_of_that_folder(inside, folders):
    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    code, text = inside(".", "train.resume=run", "train.epochs=2")
    assert code == 0, text
    assert text.rstrip().endswith("path        run")


def test_a_place_that_is_gone_is_named(inside, folders):
    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    (folders / "home").rename(folders / "moved")
    code, text = inside("other", "train.resume=../run", "train.epochs=2")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(f"conga: data.path={folders}/home/table.csv: no such file")


def test_data_that_moved(inside, folders, command):
    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    (folders / "home").rename(folders / "moved")
    code, text = inside("empty", "train.resume=../run", "train.epochs=2", "data.path=../nowhere.csv")
    assert (code, text) == (2, f"conga: data.path={folders}/empty/../nowhere.csv: no such file or folder\n")
    code, text = inside("other", "train.resume=../run", "train.epochs=2", "data.path=table.csv")
    assert (code, text.count("\n")) == (2, 1)  # other data
    assert not (folders / "run" / configuration.RESUMED).exists()
    code, text = inside("empty", "train.resume=../run", "train.epochs=2", "data.path=../moved/table.csv")
    assert code == 0, text
    changes = yaml.safe_load((folders / "run" / configuration.RESUMED).read_text())
    assert changes == {"train.epochs": 2, "data.path": f"{folders}/empty/../moved/table.csv"}
    code, text = inside("other", "train.resume=../run", "train.epochs=3")  # from now on it is there
    assert code == 0, text
    code, text = command("evaluate", str(folders / "run"))
    assert code == 0, text


def test_data_of_a_finished_run_that_moved(inside, folders, command):
    from trainer.runs import find_runs

    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    (folders / "home").rename(folders / "moved")
    code, text = command("evaluate", str(folders / "run"))
    assert (code, text.count("\n")) == (2, 1)
    moved = f"data.path={folders}/home/table.csv: no such file or folder; if the data moved, add data.path=NEW_PLACE\n"
    assert text == f"conga: {moved}"
    assert inside("moved", "train.resume=../run", "train.epochs=2") == (2, f"conga: {moved}")
    code, text = inside("moved", "train.resume=../run", "data.path=table.csv")
    assert code == 0, text
    assert "nothing to do" in text
    code, text = command("evaluate", str(folders / "run"))
    assert code == 0, text
    [record] = find_runs([folders / "run"])  # the same run to those who compare it with others
    assert record.config["data.path"] == "table.csv"


def test_the_same_words_in_another_folder_are_another_configuration(inside, folders):
    assert inside("home", *CSV, "hydra.run.dir=../run")[0] == 0
    code, text = inside("other", *CSV, "hydra.run.dir=../run")
    assert code == 2
    assert f"data.path is {folders}/home/table.csv there and {folders}/other/table.csv here" in text
    code, text = inside("empty", *CSV, "data.path=../home/../home/table.csv", "hydra.run.dir=../run")
    assert code == 2
    assert "nothing to do" in inside("home", *CSV, "hydra.run.dir=../run")[1]


@pytest.mark.slow
def test_a_sweep_in_another_folder(inside, folders):
    sweep = ("-m", *CSV, "seed=1,2", "hydra.sweep.dir=../sweep", "sweep.workers=1")
    assert inside("home", *sweep)[0] == 0
    assert "2 jobs, 2 of them done" in inside("home", *sweep)[1]
    code, text = inside("other", *sweep)  # other files, so other jobs
    assert code == 0, text
    assert len(list((folders / "sweep").glob("*/summary.json"))) == 4


@pytest.mark.slow
def test_a_search_in_another_folder(inside, folders):
    pytest.importorskip("optuna")
    search = (
        "-m",
        "hydra/sweeper=optuna",
        *CSV,
        "optim=sgd,adam",
        "hydra.sweeper.n_trials=1",
        "hydra.sweep.dir=../search",
    )
    assert inside("home", *search)[0] == 0
    code, text = inside("other", *search)
    assert (code, text.count("\n")) == (2, 1)
    assert f"its relative paths are relative to {folders}/home" in text


def test_the_places_of_a_configuration(folders):
    """Of a run that is none yet they are seen from here; what is absolute, at home or no path stays as it is."""
    config = {"data": {"path": "a.csv", "root": "~/x"}, "model": {"pretrained": "w.pth"}, "optim": {"path": "p"}}
    run = folders / "run"
    configuration.freeze(run, config | {"train": {}}, f"hydra:\n  runtime:\n    cwd: {folders}/home\n", [])
    found = configuration.located(config, run)
    assert found["data"] == {"path": f"{folders}/home/a.csv", "root": "~/x"}
    assert found["model"] == {"pretrained": f"{folders}/home/w.pth"}
    assert found["optim"] == config["optim"]
    assert config["data"]["path"] == "a.csv"
    config["model"]["pretrained"], config["data"]["path"] = True, "/a.csv"
    assert configuration.located(config, run) == config


@pytest.mark.slow
def test_a_tilde_is_a_home_where_runs_go(inside, folders):
    home = {"HOME": str(folders / "empty")}
    assert inside("home", *CSV, 'hydra.run.dir="~/runs/first"', env=home)[0] == 0
    assert inside("home", 'train.resume="~/runs/first"', "train.epochs=2", env=home)[0] == 0
    assert summary(folders / "empty" / "runs" / "first")["epochs"] == 2
    place = ['data.root="~/d"', "hydra.sweep.dir=${data.root}/sweep"]  # by a reference to another key
    code, text = inside("home", "-m", *CSV, "seed=1,2", *place, "sweep.workers=1", env=home)
    assert code == 0, text
    assert (folders / "empty" / "d" / "sweep" / "sweep.json").exists()
    code, text = inside("home", *CSV, 'hydra.run.dir="~nobody-of-this-name/x"', env=home)
    assert (code, text.count("\n")) == (2, 1)
    assert "no such user" in text
    assert not list(folders.rglob("~*"))
    (folders / "empty" / "own" / "experiment").mkdir(parents=True)
    (folders / "empty" / "own" / "experiment" / "ours.yaml").write_text("# @package _global_\nseed: 7\n")
    for flag in (["--config-dir=~/own"], ["--config-dir", "~/own"]):
        assert "seed: 7" in inside("home", *flag, "experiment=ours", "--cfg", "job", env=home)[1]


def test_a_tilde_is_a_home_from_python(monkeypatch, tmp_path):
    from trainer.runs import load_curves, load_runs

    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for load in (load_runs, load_curves):
        with pytest.raises(Refused, match=f"{tmp_path}/me/run"):
            load("~/run")


@pytest.mark.parametrize(
    "words",
    [
        *("evaluate RUN", "predict RUN x.csv", "robustness RUN", "weights RUN", "runs RUN", "plot RUN", "report RUN"),
        *("compare RUN RUN", "resume RUN", "show RUN"),
    ],
)
def test_a_tilde_is_a_home_to_every_command(command, monkeypatch, tmp_path, words):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    name, *words = words.replace("RUN", "~/run").split()
    code, text = command(name, *words)
    assert (code, text.count("\n")) == (2, 1)
    assert str(tmp_path / "me" / "run") in text
    assert "~" not in text


def test_a_run_that_cannot_be_locked_says_so_in_its_first_line(cli, tmp_path):
    where = "; this file system has no locks: a second process in this directory would not be noticed"
    argv = ["train.epochs=1", "data.limit=100"]
    for folder, env in (("locked", {}), ("free", {"CONGA_TEST_NO_LOCKS": "1"})):
        code, text = cli(*argv, f"hydra.run.dir={folder}", env=env)
        assert code == 0, text
        first = f"run         {folder}{where if env else ''}\n"
        assert text.startswith(first)
        assert (tmp_path / folder / "train.log").read_text().startswith(first)
    code, text = cli("-m", "seed=0,1", *argv, "hydra.sweep.dir=s", env={"CONGA_TEST_NO_LOCKS": "1"})
    assert code == 0, text
    assert (tmp_path / "s" / "0_seed-0" / "train.log").read_text().splitlines()[0].endswith(where)
