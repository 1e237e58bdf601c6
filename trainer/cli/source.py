"""The arguments of a constructor, read from its source: names, types, ranges, and what the docstring says of each.

Nothing is imported or run, so ``--help`` answers at once. Read are plain functions, classes with an ``__init__``,
dataclasses and the like, and what they inherit from classes that are imported by name.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import re
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import GenericAlias
from typing import Any, Literal, NamedTuple

SIMPLE = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict, "Mapping": dict, "list": list}
LISTS = ("list", "tuple", "Sequence")


class Found(NamedTuple):
    """Something that a module defines; `node` is a class, a function, or the value of an assignment."""

    module: str
    node: ast.AST


class Declared(NamedTuple):
    """An argument as its module declares it."""

    module: str
    annotation: ast.expr | None
    default: ast.expr | None


class Argument(NamedTuple):
    """An argument of a constructor.

    Args:
        hint: its type as annotated; Any if it cannot be told.
        limits: the range that an option is checked for, such as ``in [0, 1)``; empty if its docstring tells.
        line: the first sentence of the docstring about it; empty if there is none.
        parts: the dataclass of which it is a mapping, if it is one.
    """

    hint: Any
    limits: str
    line: str
    parts: Found | None


def arguments_of(target: str) -> dict[str, Argument]:
    """The arguments of what a `_target_` names, by name; none if its source cannot be found."""
    found = look_up(*target.rpartition(".")[::2])
    return {} if found is None else arguments(found)


def place(target: str) -> Path | None:
    """The file that defines what a `_target_` names; None if it cannot be found."""
    found = look_up(*target.rpartition(".")[::2])
    return None if found is None else source(found.module)


def arguments(found: Found) -> dict[str, Argument]:
    """The arguments of a class or function, by name."""
    made, lines = {}, lines_of(found)
    for name, (where, annotation, value) in declared(found).items():
        hint, parts = hint_of(annotation, where)
        made[name] = Argument(hint, limits_of(value, where), lines.get(name, ""), parts)
    return made


def lines_of(found: Found) -> dict[str, str]:
    """What docstrings say of the arguments of a class or function, by name."""
    lines: dict[str, str] = {}
    for each in reversed(family(found)):  # what the nearest class says holds
        makers = [f for f in getattr(each.node, "body", ()) if getattr(f, "name", "") == "__init__"]
        for node in (each.node, *makers):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                said = documented(ast.get_docstring(node) or "")
                own = {name: referred(text, name, each.module) for name, text in said.items()}
                lines |= {name: line for name, line in own.items() if line}
    return lines


def referred(text: str, name: str, module: str) -> str:
    """The first sentence of a text about an argument, or of the class to which it refers; empty if there is none."""
    reference = re.match(r"(?:see|as for) :class:`([\w.]+)`", text)
    if reference is None:
        return re.split(r"(?<=[^.\s])\.(?: (?=[A-Z])|$)", plain_text(text))[0]
    where, _, other = reference[1].rpartition(".")
    found = look_up(where or module, other)
    return lines_of(found).get(name, "") if found else ""


def declared(found: Found) -> dict[str, Declared]:
    """The arguments that a class or function takes, by name."""
    if isinstance(found.node, ast.FunctionDef):
        return of_function(found.module, found.node)
    own: dict[str, Declared] = {}
    of_fields = False
    for each in family(found):  # what the nearest class says holds
        body = each.node.body if isinstance(each.node, ast.ClassDef) else []
        maker = next((f for f in body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        if is_dataclass(each):
            of_fields = True
            own = fields(each.module, body) | own
        elif maker is not None and not of_fields:
            own = of_function(each.module, maker) | own
            if maker.args.kwarg is None:
                break
    return own


def is_dataclass(found: Found) -> bool:
    """Whether the constructor of a class takes the annotated names in its body."""
    made = any("dataclass" in d and "dataclass_transform" not in d for d in decorators(found))
    return made or any("dataclass_transform" in d for base in family(found)[1:] for d in decorators(base))


def decorators(found: Found) -> list[str]:
    return [ast.unparse(decorator) for decorator in getattr(found.node, "decorator_list", [])]


def fields(module: str, body: list[ast.stmt]) -> dict[str, Declared]:
    """The arguments among the annotated names in the body of a dataclass."""
    found: dict[str, Declared] = {}
    for field in body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            kind, value = ast.unparse(field.annotation), ast.unparse(field.value) if field.value else ""
            if not kind.startswith("ClassVar") and kind != "KW_ONLY" and "init=False" not in value:
                found[field.target.id] = Declared(module, field.annotation, field.value)
    return found


def of_function(module: str, node: ast.FunctionDef) -> dict[str, Declared]:
    """The arguments of a function, by name, without self."""
    given = [*node.args.posonlyargs, *node.args.args]
    defaults = [*[None] * (len(given) - len(node.args.defaults)), *node.args.defaults, *node.args.kw_defaults]
    pairs = zip([*given, *node.args.kwonlyargs], defaults, strict=True)
    return {a.arg: Declared(module, a.annotation, default) for a, default in pairs if a.arg not in ("self", "cls")}


def family(found: Found) -> list[Found]:
    """A class and its bases, in the order in which Python looks for a name; a function is by itself."""
    every = [found]
    for base in getattr(found.node, "bases", ()):
        if isinstance(base, ast.Name) and (of_base := look_up(found.module, base.id)):
            every += family(of_base)
    return [each for i, each in enumerate(every) if each not in every[i + 1 :]]  # a base that is shared comes last


def hint_of(node: ast.expr | None, module: str) -> tuple[Any, Found | None]:
    """An annotation as a type, as far as YAML can write it, and the dataclass if it is one."""
    match node:
        case ast.Constant(value=None):
            return None, None
        case ast.Constant(value=str(text)):
            with contextlib.suppress(SyntaxError):  # a text that is no annotation
                return hint_of(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, right=right):
            (one, parts), (other, more) = hint_of(left, module), hint_of(right, module)
            return (Any if Any in (one, other) else one | other), parts or more
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return Literal[tuple(v.value for v in values if isinstance(v, ast.Constant))], None
        case ast.Subscript(value=ast.Name(id="InitVar"), slice=inner):
            return hint_of(inner, module)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in LISTS:
            first = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            return GenericAlias(list, (hint_of(first, module)[0],)), None
        case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name) if name in SIMPLE:
            return SIMPLE[name], None
        case ast.Name(id=name) if found := look_up(module, name):
            if isinstance(found.node, ast.ClassDef):
                return (dict, found) if is_dataclass(found) else (Any, None)
            return hint_of(found.node, found.module) if isinstance(found.node, ast.expr) else (Any, None)
    return Any, None


def limits_of(default: ast.expr | None, module: str) -> str:
    """The range for which ``option(…, check=…)`` checks an argument, in words; empty without a check."""
    checks = [k.value for k in default.keywords if k.arg == "check"] if isinstance(default, ast.Call) else []
    found = look_up(module, checks[0].id) if checks and isinstance(checks[0], ast.Name) else None
    if found is None:
        return ""
    if isinstance(found.node, ast.FunctionDef):  # whose docstring says "Raises ValueError unless …"
        wanted = re.search(r" unless (.+)\.$", (ast.get_docstring(found.node) or "").partition("\n")[0])
        return plain_text(wanted[1]).removeprefix("value is ") if wanted else ""
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in getattr(found.node, "keywords", [])}
    if "high" in named:  # of partial(check_range, low=0, high=1)
        return f"in [{named['low']}, {named['high']}{')' if 'open_above' in named else ']'}"
    return f"at least {named['low']}" if "low" in named else ""


def documented(docstring: str) -> dict[str, str]:
    """Argument -> what the section ``Args:`` says of it."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", docstring, re.MULTILINE)
    entries = re.split(r"^    (?=\S)", section[1] if section else "", flags=re.MULTILINE)[1:]
    lines: dict[str, str] = {}
    for entry in entries:
        names, _, text = " ".join(entry.split()).partition(": ")
        lines |= dict.fromkeys(re.sub(r" \(.*", "", names).split(", "), text)
    return lines


def plain_text(text: str) -> str:
    """Without references in parentheses and marks of reStructuredText; values as YAML writes them."""
    text = re.sub(r" \(:\w+:`[^`]*`\)", "", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", text).replace("`", "")
    return re.sub(r"\b(None|True|False)\b", lambda word: {"None": "null"}.get(word[0], word[0].lower()), text)


@functools.cache
def look_up(module: str, name: str) -> Found | None:
    """The class, function or value that a module knows by a name, in whatever file it is defined."""
    for known, node in reversed(list(names(module))):
        if known != name:
            continue
        if isinstance(node, ast.alias):  # of a `from … import`, whose module the name stands for
            return look_up(str(node.asname), node.name) if node.asname != module else None
        if isinstance(node, ast.Name):
            return look_up(module, node.id) if node.id != name else None
        return Found(module, node)
    return None


def names(module: str) -> Iterator[tuple[str, ast.AST]]:
    """What a module defines and imports, by name; of an import an alias whose `asname` is the other module."""
    for statement in parsed(module):
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, statement
            case ast.ImportFrom(module=origin, names=aliases, level=level):
                above = module.split(".") if is_package(module) else module.split(".")[:-1]
                within = above[: len(above) - level + 1] if level else []
                whole = ".".join([*within, *([origin] if origin else [])])
                yield from ((a.asname or a.name, ast.alias(a.name, whole)) for a in aliases)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.Assign(targets=[ast.Tuple(elts=left)], value=ast.Tuple(elts=right)):
                yield from ((x.id, value) for x, value in zip(left, right, strict=False) if isinstance(x, ast.Name))


@functools.cache
def parsed(module: str) -> list[ast.stmt]:
    """The statements of a module; none if there is no such file, or no Python in it."""
    path = source(module)
    try:
        return ast.parse(path.read_bytes()).body if path and path.suffix == ".py" else []
    except (OSError, SyntaxError, ValueError):  # a run says what is wrong with it
        return []


def is_package(module: str) -> bool:
    path = source(module)
    return path is not None and path.name == "__init__.py"


@functools.cache
def source(module: str) -> Path | None:
    """The file of a module, found without importing any part of its name."""
    top, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # no such name, or a module that was made by hand
        return None
    for i in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: i + 1]]), spec.submodule_search_locations)
    return None if spec is None or spec.origin is None else Path(spec.origin)
