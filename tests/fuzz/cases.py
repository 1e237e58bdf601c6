"""What is tried: command lines from the groups' own schema, and every file of a run, a sweep and a search damaged."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml
from hydra._internal.utils import _locate
from hypothesis import strategies as st

from tests.fuzz.harm import HARMS
from trainer.cli.signatures import argument_types
from trainer.rundir.trust import CONF


@dataclass
class Case:
    """A command, in a directory with a copy of `start` (None: empty) whose files were harmed: [file, how, number]."""

    argv: list[str]  # the command, and its arguments
    start: str | None = None
    harms: list[list] = field(default_factory=list)
    output: str = "read"  # what becomes of what is printed: read, full (no room for it), closed


# What is asked of what a directory holds; `run`, `other`, `sweep` and `search` are made by workshop.py.
READERS = {
    "run": [
        ["resume", "run", "train.epochs=3"],
        ["evaluate", "run", "--format", "csv"],
        ["evaluate", "run", "--checkpoint", "epoch_2", "--split", "val", "--format", "csv"],
        ["predict", "run", "digits.npz", "--csv"],
        ["predict", "run", "digits.npz", "--csv", "--checkpoint", "last"],
        ["export", "run", "--format", "safetensors"],
        ["robustness", "run", "--tests", "noise", "--limit", "20"],
        ["weights", "run"],
        ["runs", "."],
        ["runs", "run", "other", "--csv"],
        ["compare", "run", "other"],
        ["plot", "run", "other"],
        ["report", "."],
    ],
    "sweep": [
        ["resume", "sweep"],
        ["show", "sweep"],
        ["runs", "sweep", "--json"],
        ["plot", "sweep", "--sweep"],
        ["report", "sweep"],
    ],
    "search": [
        ["resume", "search"],
        ["show", "search"],
        ["runs", "search"],
    ],
    "table": [
        ["data-card", "data=csv", "data.path=table.csv", "data.targets=label"],
        ["model-card", "data=csv", "data.path=table.csv", "data.targets=label", "model=mlp"],
        ["train", "data=csv", "data.path=table.csv", "data.targets=label", "train.max_steps=1", "hydra.run.dir=new"],
    ],
}
# Small enough for a step, and read from no network.
LOCAL = ("apartments", "breast_cancer", "diabetes", "digits", "iris", "linnerud", "oscillator", "sine", "wine")
SMALL = ("mlp", "linear", "mlp_deep", "cnn", "cnn_small", "rnn", "gru", "lstm")
GROUPS = ("data", "model", "constraint", "optim", "schedule", "objective", "train", "logger", "sweep")
# Keys that would train long, wait for somebody, or write elsewhere.
KEPT = {"train.epochs", "train.max_steps", "train.max_minutes", "train.resume", "train.compile", "train.threads"}
KEPT |= {"train.profile", "sweep.workers", "data.root", "data.limit", "train.overfit_batches"}

ODD = (
    *("null", "true", "-1", "0", "1", "0.5", "1e-3", "1e400", "nan", "-inf", "01", "1_000", "0x10", str(2**63)),
    *("9" * 400, "", "abc", "''", '""', "[]", "{}", "[1,2]", "[[1]]", "{a:1}", "{a:{b:[1]}}", "a,b", "1,2", "x=y"),
    *("a:b", " ", "~", "${seed}", "${nothing}", "${oc.env:HOME}", "${help:}", "${", "???", "'a b'", '"ü"', "é", "*"),
    *("\\", "&a", "!!int 1", "\x1b[31mred", "\t", "a\nb", "%s", "$(x)", "..", "/", "/dev/null", "nowhere.csv", "|"),
    *("range(1,3)", "choice(1,2)", "interval(0,1)", "glob(*)", "shuffle(1,2)", "[", "}", "(", "'", '"', ",", "=", "@"),
    *("auto", "all", "none"),
)  # fmt: skip


# Options of commands that read, and what suits them; None for one without a value.
OPTIONS = {
    "runs": ("--sort", "--where", "--columns", "--group-by", "--over", "--csv", "--json", "--latex"),
    "plot": ("--where", "--x", "--y", "--by", "--band", "--heatmap", "--parallel", "--value", "--title", "--size"),
    "report": ("--where",),
    "compare": ("--csv", "--json"),
    "evaluate": ("--split", "--checkpoint", "--format", "--device"),
    "predict": ("--checkpoint", "--device"),
    "export": ("--checkpoint", "--format"),
    "robustness": ("--split", "--checkpoint", "--tests", "--limit", "--seed", "--device"),
    "weights": ("--units", "--checkpoint"),
}
SUITING: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(("--csv", "--json", "--latex", "--parallel"), (None,)),
    **{"--sort": ("lr", "-test"), "--columns": ("name,status", "best,test"), "--group-by": ("optim.lr", "seed")},
    **{"--where": ("lr>0.001", "status=finished and (not seed=7 or best<9)"), "--over": ("seed", "optim.lr")},
    **{"--x": ("step", "seconds"), "--y": ("val/loss", "train/loss,val/loss"), "--by": ("seed",), "--band": ("seed",)},
    **{"--heatmap": ("optim.lr,seed",), "--value": ("test/accuracy", "best"), "--title": ("é",), "--size": ("3x2",)},
    **{
        "--split": ("train", "val"),
        "--checkpoint": ("last", "best"),
        "--format": ("csv", "safetensors"),
        "--device": ("cpu",),
    },
    **{"--tests": ("noise", "prune"), "--limit": ("12",), "--seed": ("1",), "--units": ("3",)},
}
SAID = ("((((", "a=", "=1", "lr>0.1 or", "test/accuracy", "error", "epoch_2", "0x0", "cuda:9", "no'", "a,b", "n", "*")
PLACES = ("new", "a b", "é", "x\x1b[31m", "a\nb", "a=b", "a,b", "'q'", "$x", "new/er", "-x", "😀", "x" * 300)


def keys_of(group: str, choice: str) -> dict[str, object]:
    """Dotted keys of a choice in conf/ -> annotated type."""
    node = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text()) or {}
    if group == "data":
        node = yaml.safe_load((CONF / "config.yaml").read_text())["data"] | node
    hints = argument_types(_locate(node["_target_"])) if node.get("_target_") else {}
    found: dict[str, object] = {}
    for name, value in node.items():
        if name in ("_target_", "defaults", "_self_"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": object for inner in value}
        found[name] = hints.get(name, object)
    return found


def values(hint: object) -> st.SearchStrategy[str]:
    """What may be typed for an argument: half of it of its type."""
    return st.one_of(st.sampled_from(ODD), proper(hint))


def proper(hint: object) -> st.SearchStrategy[str]:
    """Values of the annotated type, as they are typed."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(proper, args))
    if origin is typing.Literal:
        return st.sampled_from([str(a).lower() if isinstance(a, bool) else str(a) for a in args])
    if hint in (None, type(None)):
        return st.just("null")
    if hint is bool:
        return st.sampled_from(["true", "false"])
    if hint is int:
        return st.one_of(st.integers(0, 5), st.integers(-(2**40), 2**40)).map(str)
    if hint is float:
        return st.one_of(st.sampled_from(["0.1", "1", "1e-3", "0.5"]), st.floats(-10, 1e6).map(repr))
    if args:
        return st.lists(proper(args[0]), max_size=3).map(lambda items: f"[{','.join(items)}]")
    return st.sampled_from(ODD)


@st.composite
def lines(draw: st.DrawFn, real: bool) -> Case:
    """A command line; `real`: a tiny run or sweep of it, else only what it composes to."""
    words, chosen = [], {"data": "digits", "model": "mlp", "optim": "sgd", "train": "default", "sweep": "default"}
    allowed = {"data": LOCAL, "model": SMALL}
    for group in draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=4)):
        there = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        there = [name for name in there if name in allowed.get(group, there) and name not in ("wandb", "mlflow")]
        choice = draw(st.sampled_from(there if real else [*there, "nothing", "", "[]", "null"]))
        words.append(f"{group}={choice}")
        if choice in there:
            chosen[group] = choice
    for _ in range(draw(st.integers(0, 3))):
        group = draw(st.sampled_from(sorted(chosen)))
        keys = {f"{group}.{name}": hint for name, hint in keys_of(group, chosen[group]).items()}
        keys = {key: hint for key, hint in keys.items() if key not in KEPT or not real} or {"seed": int}
        key = draw(st.sampled_from(sorted(keys)))
        prefix = draw(st.sampled_from(["", "", "", "", "", "+", "++", "~"]))
        key_typed = draw(st.sampled_from([key, key, key, key, key.upper(), f"{key}.x", key[:-1], f"{key}@_global_"]))
        value = draw(values(keys[key]))
        words.append(f"{prefix}{key_typed}" + ("" if prefix == "~" and draw(st.booleans()) else f"={value}"))
    if not real:
        flags = draw(st.sampled_from([["--cfg", "job"], ["--cfg", "job", "--resolve"], ["--cfg", "all"], ["--help"]]))
        module = draw(st.sampled_from(["train", "train", "train", "model-card", "data-card"]))
        if module != "train" and chosen["data"] in LOCAL and chosen["model"] in SMALL:
            return Case([module, *words])
        return Case(["train", *words, *flags])
    tiny = ["train.epochs=1", "train.max_steps=1", "data.limit=40", "train.device=cpu"]
    if draw(st.integers(0, 3)) == 0:
        swept = draw(st.sampled_from(["seed=0,1", "optim.lr=0.1,1e-3", "seed=range(0,2)", "optim=sgd,cgd"]))
        return Case(["train", "-m", swept, *words, *tiny, "sweep.workers=1", "hydra.sweep.dir=new"])
    return Case(["train", *words, *tiny, f"hydra.run.dir={draw(st.sampled_from(PLACES))}"])


@st.composite
def questions(draw: st.DrawFn) -> Case:
    """A command that reads, with any options."""
    start = draw(st.sampled_from(["run", "sweep"]))
    argv = list(draw(st.sampled_from([argv for argv in READERS[start] if argv[0] in OPTIONS])))
    for option in draw(st.lists(st.sampled_from(OPTIONS[argv[0]]), min_size=1, max_size=2, unique=True)):
        value = draw(st.sampled_from(SUITING[option]) | st.sampled_from(SUITING[option]) | st.sampled_from(SAID + ODD))
        argv.append(option if value is None else f"{option}={value}")
    return Case(argv, start, output=draw(st.sampled_from(["read"] * 6 + ["full", "closed"])))


def damaged(files: Mapping[str, list[str]]) -> st.SearchStrategy[Case]:
    """One or two files harmed, then a command that reads them; `files` are those of each start."""
    number = st.integers(0, 2**32 - 1)

    def of(start: str) -> st.SearchStrategy[Case]:
        # A table is a person's own: one that is a pipe is waited for, as by any program.
        hows = [how for how in HARMS if start != "table" or how not in ("pipe", "endless")]
        harm = st.tuples(st.sampled_from(files[start]), st.sampled_from(hows), number).map(list)
        harms = st.one_of(harm.map(lambda one: [one]), st.lists(harm, min_size=2, max_size=2))
        return st.builds(Case, st.sampled_from(READERS[start]), st.just(start), harms)

    return st.one_of(*map(of, files), of("run"), of("run"))


def cases(files: Mapping[str, list[str]]) -> st.SearchStrategy[Case]:
    """All of them."""
    return st.one_of(lines(real=False), lines(real=True), questions(), damaged(files), damaged(files), damaged(files))
