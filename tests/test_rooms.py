"""The house: imports point down, and nowhere in a circle. Lazy and TYPE_CHECKING imports count as any."""

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter

from conftest import ROOT

TOP = {"data", "models", "optim"}
# Room -> the rooms that it may import from.
BELOW = {
    "data": set(),
    "models": set(),
    "optim": set(),
    "trainer.rundir": set(),
    "trainer.cli": {"trainer.rundir"},
    "trainer.runs": {"trainer.cli", "trainer.rundir"},
    "trainer.plot": {"trainer.runs", "trainer.cli", "trainer.rundir"},
    "trainer.report": {"trainer.runs", "trainer.cli", "trainer.rundir"},
    "trainer.training": {"trainer.cli", "trainer.rundir"} | TOP,
    "trainer.analysis": {"trainer.training", "trainer.plot", "trainer.runs", "trainer.cli", "trainer.rundir"} | TOP,
    "trainer.sweep": {"trainer.training", "trainer.plot", "trainer.runs", "trainer.cli", "trainer.rundir"} | TOP,
    "hydra_plugins": {"trainer.sweep", "trainer.cli", "trainer.rundir"},
}


def modules():
    """Name -> file of every module, packages by their own name."""
    found = {}
    for top in (*TOP, "trainer", "hydra_plugins", "conga"):
        for path in (ROOT / top).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports():
    """Module -> the modules of ours that it imports, anywhere in it."""
    names = modules()
    edges = {}
    for name, path in names.items():
        used = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                used |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        edges[name] = {one for one in used if one in names and one != name}
        # `from package import module` is an import of the module, and not of all that its package has.
        edges[name] -= {one for one in edges[name] if any(other.startswith(f"{one}.") for other in edges[name])}
    return edges


def room(name):
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "trainer" and rest else first


def test_the_map_has_every_file():
    """Of the rooms that docs/design.md lists file by file."""
    text = (ROOT / "docs" / "design.md").read_text()
    rooms = (
        "data",
        *(f"trainer/{name}" for name in ("rundir", "cli", "training", "analysis", "runs", "plot", "report", "sweep")),
    )
    files = [path for one in rooms for path in (ROOT / one).glob("*.py") if path.name != "__init__.py"]
    assert len(files) > 100
    assert [str(path) for path in files if f"`{path.name}`" not in text] == []


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert there <= set(listed)


def test_arrows_point_down():
    edges = imports()
    assert len(edges) > 150
    up = [
        f"{name} -> {other}"
        for name, others in edges.items()
        for other in others
        if room(name) in BELOW and room(other) != room(name) and room(other) not in BELOW[room(name)]
    ]
    assert not up
    assert {room(name) for name in edges} - set(BELOW) == {
        "trainer", "trainer.__main__", "trainer.train", "trainer.resume", "conga",
    }  # fmt: skip  # the doors, above all rooms
    into_conga = {name for name, others in edges.items() if "conga" in map(room, others)}
    assert {room(name) for name in into_conga} == {"conga"}


def test_there_is_no_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_rooms_have_few_floors():
    floors = {}
    for name in TopologicalSorter(BELOW).static_order():
        floors[name] = 1 + max((floors[other] for other in BELOW[name]), default=0)
    assert max(floors.values()) <= 6  # and the door makes seven


# Module -> the rooms that it imports where they are needed, not at its top: each brings Hydra, torch or matplotlib.
LAZY = {
    "trainer": {"trainer.__main__"},  # after the signals are taken
    "trainer.__main__": {"trainer.train"},
    "trainer.train": {"trainer.training"},
    "trainer.cli.outcome": {"trainer.cli"},
    "trainer.sweep.check": {"trainer.training"},
    "trainer.sweep.job": {"trainer.training"},
    "trainer.sweep.keeper": {"trainer.training"},
    "trainer.sweep.pool": {"trainer.training"},
    "trainer.sweep.results": {"trainer.plot"},
    "hydra_plugins.conga.sweeps": {"trainer.sweep"},
}


def test_lazy_imports_are_few():
    found = {}
    for name, path in modules().items():
        if room(name) == "conga":  # quick to import: each of its functions imports what it does
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset > 0:
                used = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                if used.split(".")[0] in (*TOP, "trainer"):
                    found.setdefault(name, set()).add(room(used))
    assert found == LAZY


def test_a_circle_would_be_found():
    edges = imports()
    edges["trainer.rundir.errors"] = {"trainer.training.loop"}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError:
        return
    raise AssertionError("not found")
