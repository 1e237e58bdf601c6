"""What a user types, and what is said when it is wrong: one line, the right exit status, nothing left behind."""

import os
import re
import subprocess
import sys
import warnings

import pytest
from conftest import ROOT, summary
from hand_made import write_grid

from trainer.cli.command import plain_warnings
from trainer.cli.commands import COMMANDS

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["model=cmn"], "model=cmn: no such choice; did you mean cnn? model can be autoencoder, cnn, cnn_asymmetric"),
        (["experiment=digits"], "experiment=digits: no such choice;"),
        (["modle=cnn"], "modle=cnn: unknown key; did you mean model?"),
        (["+optim.lrr=0.1"], "optim.lrr=0.1: unknown key; did you mean optim.lr?"),
        (["experiment=apartments", "optim=adam"], "experiment=apartments sets it, and '~optim.momentum' leaves it out"),
        (["optim.lr=abc"], "optim.lr=abc: must be a number"),
        (["optim=cgd", "constraint=none"], "optim=cgd: constraint=none: CGD needs a constraint set, such as linf"),
        (["model.widths=[99999999999]"], "model: too large for this machine"),
        (["model=cnn", "model.layers=[{_target_:os.mkdir,path:OWNED}]"], "model.layers[0]={_target_: os.mkdir, path"),
        (["data=iris", "model=cnn"], "model=cnn data=iris: input_shape=(4,): layers[0] is conv, which takes (channels"),
        (["train.resume=nowhere"], "train.resume=nowhere: must be the directory of a run"),
        (["hydra.run.dir=/dev/null/x"], "/dev/null/x: Not a directory; choose a writable place for the run"),
        (["optim.lr=[1,"], "optim.lr=[1,: cannot be parsed as KEY=VALUE"),
        (["optim.lr=1,2"], "optim.lr=1,2: 1,2 means two values; write optim.lr=1.2, 'optim.lr=[1,2]' for a list"),
        (["-m", "optim.lr=0,01"], "optim.lr=0,01: 0,01 means two values; write 0.01"),
        (["data.root=a,b"], "several values; add -m to try each of them, or write 'data.root=[a,b]' for a list, "),
        (["epochs=3"], "epochs=3: unknown key; did you mean train.epochs?"),
        (["--epochs", "3"], "--epochs: no such flag; write train.epochs=3"),
        (["--batch-size", "8", "seed=1"], "--batch-size: no such flag; write data.batch_size=8"),
        (["model._target_=mynet.MyNet"], "model._target_=mynet.MyNet: cannot import mynet; looked in /"),
        (["foo"], "foo: no such command; there are train, resume,"),
        (["reprot"], "reprot: no such command; did you mean report? there are train"),
        (["model=mlp", "foo"], "foo: must be KEY=VALUE"),
        (["größe=3"], "größe=3: cannot be parsed as KEY=VALUE; größe is not the name of a key"),
        (["--optim", "adam"], "--optim: no such flag; write optim=adam"),
        (["--seed=3"], "--seed=3: no such flag; write seed=3"),
        (["--weight-decay=0.1"], "--weight-decay=0.1: no such flag; write optim.weight_decay=0.1"),
        (["+train=5"], "+train=5: must be one of default"),
        (["hydra.run.dir="], "hydra.run.dir=: must be a directory"),
        (["optim=cgd", "--nope", "seed=1"], "unrecognized arguments: --nope"),
        (["-m", "train.resume=run", "train.epochs=5,6"], "train.resume=run: resumes one run; leave out -m"),
        (["--experimental-rerun=x.pickle"], "--experimental-rerun: would unpickle a file"),
        (["hydra.output_subdir=.hydra"], "hydra.output_subdir=.hydra: Hydra would overwrite a frozen configuration"),
    ],
)  # fmt: skip
def test_bad_input(cli, tmp_path, argv, line):
    code, text = cli(*argv)
    assert code == 2, text
    assert text.startswith("conga: ")
    assert line in text
    assert text.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*/*"))  # no empty run directory stays behind


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["optim.lrr=0.1"], "optim.lrr=0.1: unknown key; did you mean optim.lr?"),
        (["+epochs=3"], "epochs=3: unknown key;"),
        (["+logger.tensorbord=true"], "logger.tensorbord=true: unknown key"),
        (["~optim.lr"], "optim.lr: missing; must be a number"),
        (["optim.lr=null"], "optim.lr=null: must be a number"),
        (["train.epochs=1.5"], "train.epochs=1.5: must be a whole number"),
        (["train.epochs=true"], "train.epochs=true: must be a whole number"),
        (["seed=one"], "seed=one: must be a whole number"),
        (["seed=-1"], "seed=-1: must be at least 0"),
        (["model.widths=3"], "model.widths=3: must be a list of whole numbers"),
        (["data.normalize=all"], "data.normalize=all: must be one of none, scale, global, channel, pixel"),
        (["data.batch_size=0"], "data.batch_size=0: must be at least 1"),
        (["data.batch_size=-8"], "data.batch_size=-8: must be at least 1"),
        (["train.epochs=0"], "train.epochs=0: must be at least 1"),
        (["train.epochs=-2"], "train.epochs=-2: must be at least 1"),
        (["train.checkpoint_steps=0"], "train.checkpoint_steps=0: must be at least 1"),
        (["train.threads=0"], "train.threads=0: must be at least 1"),
        (["data.val_fraction=1.5"], "data.val_fraction=1.5: must be in [0, 1)"),
        (["data.test_fraction=0.999"], "data.test_fraction=0.999 data.val_fraction=0.1:"),
        (["optim.lr=-0.1"], "optim.lr=-0.1: must be at least 0"),
        (["optim=cgd", "optim.lr=1.5"], "optim.lr=1.5: must be in [0, 1]"),
        (["optim=cgd", "optim.lr=-0.1"], "optim.lr=-0.1: must be in [0, 1]"),
        (["optim=cgd", "optim.momentum=1"], "optim.momentum=1: must be in [0, 1)"),
        (["constraint=linf", "constraint.radius=0"], "constraint.radius=0: must be a number > 0"),
        (["constraint=linf", "constraint.radius=-1"], "constraint.radius=-1: must be a number > 0"),
        (["optim=cgd", "constraint.radius=1", "constraint.diameter=2"], "constraint.radius=1, diameter=2: give"),
        (["constraint=lp"], "optim=sgd: constraint=Lp: no projection onto this set is known"),
        (["optim=cgd", "constraint=lp", "constraint.p=1"], "constraint.p=1: must be a number > 1"),
        (["optim=cgd", "constraint=k_sparse", "constraint.k=1.5"], "constraint.k=1.5: must be a whole number >= 1"),
        (["optim=cgd", "constraint=birkhoff"], "constraint.apply_to=all: Birkhoff needs square matrices"),
        (["optim=cgd", "constraint.apply_to=[no*]"], "constraint.apply_to=no*: must be all, weights, or match a name"),
        (["optim=cgd", "constraint.diameter=abc"], "constraint.diameter=abc: must be a number or null"),
        (["optim=sfw", "optim.rescale=no"], "optim.rescale=no: must be one of none, diameter, gradient, fast_gradient"),
        (["optim=cgd", "optim.free_lr=-1"], "optim.free_lr=-1: must be at least 0"),
        (["optim=scion", "constraint.hidden=l1"], "constraint.hidden=l1: must be one of spectral, sign, rms"),
        (["schedule=linear", "schedule.warmup_steps=9999999"], "schedule.warmup_steps=9999999: must be in [0, "),
        (["schedule=step", "schedule.by=week"], "schedule.by=week: must be one of step, epoch"),
        (["constraint.radius=2"], "constraint.radius=2: unknown key; constraint is none; choose one, e.g. con"),
        (["+constraint.radius=2"], "constraint.radius=2: unknown key; constraint is none; choose one, e.g. con"),
        (["train.device=gpu"], "train.device=gpu: must be auto, cpu, cuda, cuda:N or mps"),
        (["train.monitor=val/auroc"], "train.monitor=val/auroc: must be one of train/loss, train/accuracy, val/loss"),
        (["schedule=cosine", "schedule.floor=2"], "schedule.floor=2: must be in [0, 1]"),
        (["model.activation=rleu"], "model.activation=rleu: must be one of identity, sigmoid"),
        (["model=cnn", "model.layers=[{conv:4,kernel:9,padding:valid}]"], "model.layers[0]=conv: its kernel of 9 x 9"),
        (["model=cnn", "model.layers=[{conv:4,kernal:3}]"], "model.layers[0].kernal=3: unknown key; did you mean"),
        (["model=vgg16"], "model=vgg16 data=digits: input_shape=(1, 8, 8): too small for VGG: 1 x 1 comes to the pool"),
        (["data=breast_cancer", "data.batch_size=17", "model.norm=batch"], "data.batch_size=17: leaves one of 409"),
        (["model.slope=nan"], "model.slope=nan: must be a number"),
        (["model.slope=inf", "model.activation=leaky_relu"], "model.slope=inf: must be a finite number"),
        (["model=cnn", "model.layers=5"], "model.layers=5: must be a list"),
        (["data=oscillator", "data.force=1e300"], "data.eta=0.1: the motion cannot be followed to time"),
        (["model=resnet18", "model.version=3"], "model.version=3: must be one of 1, 1.5, 2"),
        (["data=iris", "model=lstm"], "model=lstm data=iris: input_shape=(4,): a recurrent network takes series"),
        (["seed=range(a)"], "cannot be parsed as KEY=VALUE (mismatch type argument start: str is incompatible"),
        (["optim=null"], "optim=null: must be one of adagrad, adagrad_momentum, adagrad_sfw, adam, "),
        (["data.batch_size=100000000000000000000000"], "must be less than 2**31"),
        (["train.threads=100000000000"], "train.threads=100000000000: must be less than 2**31"),
        (["seed=18446744073709551616"], "seed=18446744073709551616: must be at least 0 and less than 2**63"),
        (["train.device=cuda:99999999999"], "train.device=cuda:99999999999: "),
        (["model=cnn", "model.layers=[{pool:max,kernel:0}]"], "model.layers[0].kernel=0: must be a whole number"),
    ],
)  # fmt: skip
def test_bad_values(mistake, argv, line):
    assert line in mistake(*argv)
    assert "\n" not in mistake(*argv)


@pytest.mark.parametrize("typed", ["optim.lrr=1", "model.layers=[{conv:4,lrr:1}]", "train.early_stopping={lrr:1}"])
def test_an_unknown_key_that_was_typed_is_not_the_experiments(cli, typed):
    code, text = cli("experiment=digits_cnn_cgd", typed)
    assert code == 2
    assert re.search(r"\blrr=.*: unknown key; ", text), text
    assert "sets it" not in text


def test_cuda_without_cuda(cli):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    code, text = cli("train.device=cuda")
    assert code == 2
    assert "train.device=cuda: torch finds no CUDA device on this machine; use auto or cpu" in text


def test_full_error_brings_the_traceback_back(cli):
    code, text = cli("optim.lr=abc", env={"HYDRA_FULL_ERROR": "1"})
    assert code == 2
    assert "Traceback (most recent call last)" in text
    assert text.splitlines()[-1] == "conga: optim.lr=abc: must be a number"


def test_a_directory_that_cannot_be_written(cli, tmp_path):
    """Root writes anywhere, so a file stands where the run wants a folder."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".hydra").write_text("not a folder")
    code, text = cli("hydra.run.dir=run")
    assert code == 2, text
    assert text.count("\n") == 1
    assert "run/.hydra" in text
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".hydra"]


def test_a_directory_of_something_else(cli, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("mine")
    code, text = cli("hydra.run.dir=run")
    assert code == 2
    assert "holds metrics.csv but no .hydra/config.yaml" in text
    assert (tmp_path / "run" / "metrics.csv").read_text() == "mine"


@pytest.mark.slow
def test_a_disk_that_refuses(cli, tmp_path):
    """Beyond a size limit writes fail as on a full disk: one line, and what was written before is whole."""
    import torch

    options = ["train.epochs=3", "train.threads=1", "hydra.run.dir=run"]
    assert cli(*options)[0] == 0
    size = (tmp_path / "run" / "checkpoints" / "best.pt").stat().st_size
    before = {p: p.read_bytes() for p in (tmp_path / "run" / "checkpoints").iterdir()}
    code, text = cli("train.resume=run", "train.epochs=40", limit=size + 1000)  # best.pt fits, last.pt does not
    assert code == 2, text
    assert text.splitlines()[-1].startswith("conga: ")
    assert "last.pt: File too large; files written before are whole; free some space; then resume: python -m" in text
    assert "Traceback" not in text
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert last.read_bytes() == before[last]
    torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert not list(tmp_path.rglob("*.tmp"))
    code, text = cli("train.resume=run", "train.epochs=40")  # with room again, nothing is lost
    assert code == 0, text
    assert summary(tmp_path / "run")["epochs"] == 40


def test_flags_between_overrides(cli, tmp_path):
    code, text = cli("data=iris", "--cfg", "job", "train.epochs=2", "--resolve", "optim=adam")
    assert code == 0, text
    assert "epochs: 2" in text
    assert "optim.adam" in text
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text("# @package _global_\nseed: 7\n")
    code, text = cli("data=iris", "--config-dir", "mine", "experiment=ours", "--cfg", "job")
    assert code == 0, text
    assert "seed: 7" in text


@pytest.mark.parametrize("argv", ["--help", pytest.param("train.resume=run", marks=pytest.mark.slow)])
def test_a_pipe_that_closes(trained, tmp_path, argv):
    (tmp_path / "run").symlink_to(trained("train.epochs=2"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m trainer {argv} | head -n 0"],
        env=ENV, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_every_group_and_choice():
    text = run_module("--help")
    assert max(map(len, text.splitlines())) <= 120
    for group in {path.parent for path in (ROOT / "conf").glob("*/*.yaml")}:
        block = re.search(rf"^  {group.name} .*?(?=^  \w|^$)", text, re.MULTILINE | re.DOTALL).group()
        choices, _, example = block.partition("e.g. ")
        assert re.findall(r"\w+", choices)[1:] == sorted(choice.stem for choice in group.glob("*.yaml"))
        assert "=" in example


def test_version(command):
    code, text = command("--version")
    assert code == 0
    assert re.fullmatch(r"conga [\w.() ]+: python 3\.\d+\.\d+, torch \d.*hydra-core 1\.\d.*\n", text)


@pytest.mark.parametrize("words", [("evaluate", "gone"), ("resume", "gone"), ("predict", "gone", "x.png"),
    ("runs", "gone"), ("plot", "gone"), ("train.resume=gone",), ("data=npz", "data.path=gone")])  # fmt: skip
def test_a_path_that_does_not_exist_is_told_whole(command, tmp_path, words):
    code, text = command(*words)
    assert code == 2
    assert f"; looked for {tmp_path}/gone" in text


def test_help_examples_compose(cli):
    from trainer.cli.help import EXAMPLES

    for example in EXAMPLES.values():
        code, text = cli(*example.split(), "--cfg", "job", "--resolve")
        assert code == 0, text


@pytest.mark.parametrize(
    "flags",
    [
        ["--help"],
        ["--help", "optim=sfw", "model=cnn", "train.epochs=2"],
        ["--cfg", "job"],
        ["--cfg", "job", "--resolve", "model=cnn", "optim=cgd"],
    ],
)
def test_answers_do_not_import_torch(flags):
    script = (
        "import sys; from trainer.__main__ import main; sys.argv = ['conga', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, *flags], check=True, capture_output=True, env=ENV)


def test_no_command_imports_torch_for_its_help():
    script = (
        "import sys\n"
        "from trainer.__main__ import main\n"
        "from trainer.cli.commands import COMMANDS\n"
        "for name in COMMANDS:\n"
        "    sys.argv = ['conga', name, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, (name, e.code)\n"
        "    assert 'torch' not in sys.modules, name"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: python -m trainer") == len(COMMANDS) - 1  # all but train, whose help is Hydra's


def test_reading_runs_does_not_import_torch(tmp_path):
    write_grid(tmp_path / "grid")
    script = (
        "import sys; from trainer.__main__ import main\n"
        "for line in sys.stdin:\n"
        "    sys.argv = ['conga', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, (line, e.code)\n"
        "    assert 'torch' not in sys.modules, line"
    )
    lines = ["runs grid", "plot grid --out curves.png", "plot grid --heatmap optim.lr,seed --out map.png"]
    lines += ["report grid --out page.html", "compare grid/0_lr=0.1,seed=0 grid/3_lr=0.2,seed=0"]
    done = subprocess.run(
        [sys.executable, "-c", script], input="\n".join(lines), capture_output=True, text=True, env=ENV, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_runs_that_do_not_compile_do_not_import_the_compiler(tmp_path):
    """It takes longer than all the rest of such a run. One process: what a run imports, the next would find there."""
    script = (
        "import sys; from trainer.__main__ import main\n"
        "for line in sys.stdin:\n"
        "    sys.argv = ['conga', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, (line, e.code)\n"
        "    assert 'torch._dynamo' not in sys.modules, line"
    )
    short = "train.epochs=1 data.limit=100"
    runs = [f"{short} hydra.run.dir=run train.ema=0.9 objective.l2=1e-3", "train.resume=run train.epochs=2"]
    runs += [f"{short} optim={name} schedule=cosine" for name in ("adam", "muon", "cgd")]
    runs += [f"{short} optim=rmsprop constraint=l2 train.clip_norm=1 train.accumulate=2"]
    text = "\n".join(runs)
    done = subprocess.run(
        [sys.executable, "-c", script], input=text, capture_output=True, text=True, env=ENV, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status      finished") == len(runs)


def test_shell_completion_without_torch():
    script = (
        "import sys; from trainer.__main__ import main; sys.argv = ['conga', '-sc', 'query=bash']\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules"
    )

    def offered(line):
        env = {**ENV, "COMP_LINE": line, "COMP_POINT": str(len(line))}
        return subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=env
        ).stdout

    assert offered("conga optim=s").split() == ["optim=scion", "optim=sfw", "optim=sgd", "optim=svrf"]
    assert offered("conga train optim=sg").split() == ["optim=sgd"]
    assert {"model-card", "model="} <= set(offered("conga mo").split())
    assert offered("conga evaluate ") == ""


@pytest.mark.slow
def test_from_any_folder_and_nothing_in_it_shadows(tmp_path):
    """`models`, `data` and `optim` are common names: a user's own folders of files do not get in the way."""
    for name in ("data", "models", "optim", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}  # as installed, not as the tests import it
    command = [sys.executable, "-m", "trainer", "train.epochs=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    assert list(tmp_path.glob("outputs/*/*_mlp_digits_sgd/summary.json"))


def run_module(*argv, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "trainer", *argv], check=True, capture_output=True, text=True, env=ENV, cwd=cwd
    ).stdout


def test_a_warning_of_a_library_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    plain_warnings()
    warnings.warn("two\n  lines", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "conga: warning: two lines\n"


@pytest.mark.parametrize("word", ["optim.lr=a\nb", "data.path=a\nb", "seed=x\ny"])
def test_what_is_refused_is_said_in_one_line_whatever_is_in_it(cli, word):
    code, text = cli(word)
    assert code == 2
    assert text.startswith("conga: ")
    assert text.count("\n") == 1
    assert r"\n" in text


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["~logger.csv._target_"], "logger.csv._target_"),
        (["~model", "+model={}", "hydra.run.dir=new"], "model._target_"),
    ],
)
def test_a_part_without_a_target_is_refused(cli, words, key):
    code, text = cli(*words)
    assert (code, text) == (2, f"conga: {key}: missing; must be the name of a class or a function\n")
