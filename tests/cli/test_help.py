"""What --help says of the keys of a choice, against the constructors themselves."""

import dataclasses
import inspect
import math
import re
from pathlib import Path

import pytest
from conftest import COMMON, ROOT
from hydra.utils import get_object

from trainer.cli import source
from trainer.cli.help import EXAMPLES
from trainer.cli.signatures import argument_types, describe
from trainer.rundir.stored import parse_yaml

GROUPS = sorted(set(EXAMPLES) - {"experiment"})
FILES = [file for group in GROUPS for file in sorted((ROOT / "conf" / group).glob("*.yaml"))]


def nodes(file):
    """What a choice composes to, below its group: dotted key -> node."""
    node = parse_yaml(file.read_text(), file) or {}
    for base in [each for each in node.pop("defaults", []) if isinstance(each, str)]:
        node = parse_yaml((file.parent / f"{base}.yaml").read_text(), file) | node
    if file.parent.name == "logger":
        return {f"logger.{name}": child for name, child in node.items()}
    return {file.parent.name: COMMON | node if file.parent.name == "data" else node}


TARGETS = sorted({node["_target_"] for file in FILES for node in nodes(file).values() if node["_target_"]})


@pytest.mark.parametrize("target", TARGETS)
def test_arguments_read_from_the_source_are_those_of_the_signature(target):
    made = get_object(target)
    read, types = source.arguments_of(target), argument_types(made)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    assert set(read) == {name for name, p in inspect.signature(made).parameters.items() if p.kind not in several}
    offered = {key for file in FILES for node in nodes(file).values() if node["_target_"] == target for key in node}
    for name in offered & set(read):
        assert describe(read[name].hint) == describe(types[name]), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_key_of_every_choice_has_a_line(file):
    for key, node in nodes(file).items():
        arguments = source.arguments_of(node["_target_"]) if node["_target_"] else {}
        for name in node.keys() - {"_target_"}:
            parts = arguments[name].parts
            lines = source.arguments(parts) if parts else {name: arguments[name]}
            assert all(each.line for each in lines.values()), f"{key}.{name}"


def bounds(limits):
    """Values inside and outside of a range in words."""
    if found := re.fullmatch(r"in \[(.+), (.+)([\])])", limits):
        low, high = map(float, found.groups()[:2])
        inside, outside = [low, (low + high) / 2], [low - 1e-6, high + 1e-6, math.nan]
        return (inside, [*outside, high]) if found[3] == ")" else ([*inside, high], outside)
    if found := re.search(r"at least (\d+)$", limits):
        low = int(found[1])
        return [low, low + 1], [low - 1, math.inf]
    return {
        "between 0 and 1": ([1e-6, 0.5, 1 - 1e-6], [0, 1]),
        "greater than 0, and finite": ([1e-6, 1.0], [0, -1, math.inf]),
        "two numbers in [0, 1)": ([[0, 0.999]], [[0, 1], [-1e-6, 0.5], [0.5]]),
    }[limits]


def test_ranges_are_those_that_are_checked():
    checked = 0
    for target in TARGETS:
        made = get_object(target)
        if not dataclasses.is_dataclass(made):
            continue
        checks = {field.name: field.metadata.get("check") for field in dataclasses.fields(made)}
        for name, argument in source.arguments_of(target).items():
            assert bool(argument.limits) == (checks.get(name) is not None), (target, name)
            if argument.limits in ("", "a way to rescale", "a penalty", "a rule"):
                continue
            inside, outside = bounds(argument.limits)
            for value in inside:
                checks[name](name, value)
            for value in outside:
                with pytest.raises(ValueError, match=f"^{name}="):
                    checks[name](name, value)
            checked += 1
    assert checked > 60


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("160", 120)])
def test_the_page_of_a_choice(command, monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", columns)
    code, text = command("optim=sfw", "optim.lr=0.25", "--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= widest
    assert re.findall(r"^\w+=\w+(?=: )", text, re.MULTILINE) == ["optim=sfw", "constraint=linf"]  # what was typed first
    flat = " ".join(text.split())
    assert "optim.lr=0.25 a number: at least 0" in flat
    assert "optim.momentum=0.9 a number, in [0, 1): rho" in flat
    assert "optim.rescale=gradient one of none, diameter, gradient, fast_gradient: " in flat
    assert "optim.gap_every=null a whole number or null, at least 0: steps between two measurements" in flat
    assert "Not shown: data=digits, model=mlp, schedule=constant, objective=auto" in flat


def test_pages_of_nested_listed_and_missing_keys(command):
    flat = " ".join(command("data=csv", "logger=[wandb]", "train.epochs=3", "--help")[1].split())
    assert "data=csv: Your own table, a CSV or Parquet file. data.path=??? must be given, text: the file" in flat
    assert "data.augment.flip=false true or false: mirrors left and right" in flat
    assert "logger.csv has no keys" in flat
    assert "logger.wandb.mode=offline one of offline, online, disabled: " in flat
    assert "train.early_stopping.patience=null a whole number or null: epochs without improvement" in flat
    assert "train.epochs=3 a whole number: passes over" in flat


def test_the_page_of_a_sweep_is_that_of_its_first_values(command):
    first = command("optim=sfw", "optim.lr=0.25", "seed=3", "--help")[1]
    swept = ["optim=sfw,cgd", "optim.lr=0.25,0.5", "seed=range(3,5)"]
    code, text = command("-m", *swept, "--help")
    assert code == 0
    assert text == first + f"Of several values ({', '.join(swept)}) the first is shown.\n"
    assert "optim.lr=0.25 " in command("-m", "optim.lr=interval(0.25,0.5)", "--help")[1]


def test_the_page_of_all_groups_says_how_to_see_the_keys_of_one(command):
    for words in (["--help"], ["seed=3", "--help"]):
        text = command(*words)[1]
        assert text.startswith("conga trains neural networks")
        assert "python -m trainer optim=sfw --help" in text


def test_the_page_of_ones_own_choice(command, tmp_path, monkeypatch):
    """Its file is read, not imported; where the docstring says nothing, the comment in the YAML does."""
    Path("own/model").mkdir(parents=True)
    Path("own/model/mine.yaml").write_text("# My own.\n_target_: my_net.Mine\nwidth: 8\ndepth: 2   # layers of it\n")
    Path("my_net.py").write_text(
        "from torch import nn\nimport nowhere\n\n"
        'class Base:\n    """.\n\n    Args:\n        width: units of a layer. Many help.\n    """\n\n'
        "class Mine(Base, nn.Module):\n    def __init__(self, *, width: int | None = 8, depth=2): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, text = command("--config-dir=own", "model=mine", "--help")
    assert code == 0, text
    assert text.startswith(
        "model=mine: My own.\n"
        "  model.width=8  a whole number or null: units of a layer\n"
        "  model.depth=2  layers of it\n\n"
    )
