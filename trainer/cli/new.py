"""``python -m trainer new model NAME``: writes a Python file and a YAML file for your own part.

It does not import torch or Hydra.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
from pathlib import Path
from string import Template

from trainer.cli.display import tell
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_whole
from trainer.rundir.run_dir import shown
from trainer.rundir.typed import typed_path

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {  # group of the configuration -> other words of the command that tries it
    "model": "",
    "data": "",
    "constraint": " optim=cgd",
    "optim": "",
    "objective": "",
    "logger": "",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("kind", choices=KINDS, help="what it is")
    parser.add_argument("name", metavar="NAME", help="name of the file and of the choice, such as tiny")
    parser.add_argument(
        "--config-dir",
        type=typed_path,
        default=Path("own"),
        metavar="DIR",
        help="folder of the YAML file; default: own",
    )


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    kind, name, folder = arguments.kind, arguments.name, arguments.config_dir
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise Refused(f"{name}: must be a name of lower-case letters, digits and _, such as my_{kind}")
    files = {Path(f"{name}.py"): f"{kind}.py.txt", folder / kind / f"{name}.yaml": f"{kind}.yaml.txt"}
    if there := next((file for file in files if file.exists()), None):
        raise Refused(f"{there}: exists already; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise Refused(f"{name}: Python has a module of this name; choose another")
    words = {"module": name, "Class": "".join(part.capitalize() for part in name.split("_"))}
    for file, template in files.items():
        write_whole(file, Template((TEMPLATES / template).read_text()).substitute(words).encode(), shared=True)
    tell(f"written  {', '.join(map(str, files))}")
    tell(f"try it   python -m trainer --config-dir={shown(folder)}{KINDS[kind]} {kind}={name}")
