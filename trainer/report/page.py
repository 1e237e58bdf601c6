"""The page: a template, a style sheet, scripts and the data in one file.

Two things keep text from runs from being executed: the scripts show it as text only, and the page's policy allows only
scripts with the listed checksums, and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from importlib.resources import files
from string import Template
from typing import Any

TEXTS = ("yaml", "log")  # the large parts of a run, which are shown one at a time
SCRIPTS = (  # in execution order
    *("base.js", "table.js", "curves.js", "heat.js", "details.js", "means.js", "live.js", "page.js"),
)


def page(data: dict[str, Any]) -> bytes:
    """The whole file. `data` is the result of ``payload`` with ``title``, ``generated``, ``version``, ``where``
    and ``stamp``, which is None for a file."""
    texts = [[run[name] for name in TEXTS] for run in data["runs"]]
    facts = data | {"runs": [{k: v for k, v in run.items() if k not in TEXTS} for run in data["runs"]]}
    style = _part("page.css")
    scripts = [_part(name) for name in SCRIPTS]
    policy = {
        "default-src": "'none'",
        "style-src": _checksum(style),
        "script-src": " ".join(map(_checksum, scripts)),
        "img-src": "data:",
        "connect-src": "'self'" if data["stamp"] else "'none'",  # a served page asks whether runs have changed
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    text = Template(_part("page.html")).substitute(
        title=html.escape(data["title"]),
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        style=style,
        payload=embedded(facts),
        texts=packed(texts),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    return text.encode(errors="replace")  # the name of a file may not be UTF-8


def embedded(data: Any) -> str:
    """`data` as JSON without the characters of markup."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed(data: Any) -> str:
    """`data` as compressed JSON in letters, a tenth of the size."""
    return base64.b64encode(zlib.compress(json.dumps(data, separators=(",", ":")).encode())).decode()


def _part(name: str) -> str:
    return files("trainer.report").joinpath(name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """The checksum that allows the element with this text in the page's policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
