"""The page itself: a template, a style sheet and scripts in one file, with the data between them.

Two walls keep text from runs from being run: the scripts only ever make text of it, and the page's own policy lets
nothing execute but the scripts whose checksums it names, and nothing be fetched at all.
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

TEXTS = ("yaml", "log")  # of a run: most of what is known of it, and looked at one by one
SCRIPTS = ("base.js", "table.js", "curves.js", "heat.js", "details.js", "page.js")  # in the order in which they run


def page(data: dict[str, Any]) -> bytes:
    """The whole file. `data` is what ``payload`` returns, with ``title``, ``generated``, ``version`` and ``where``."""
    texts = [[run[name] for name in TEXTS] for run in data["runs"]]
    facts = data | {"runs": [{k: v for k, v in run.items() if k not in TEXTS} for run in data["runs"]]}
    style = _part("page.css")
    scripts = [_part(name) for name in SCRIPTS]
    policy = {
        "default-src": "'none'",
        "style-src": _checksum(style),
        "script-src": " ".join(map(_checksum, scripts)),
        "img-src": "data:",
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
    return text.encode(errors="replace")  # a file's name need not be proper text


def embedded(data: Any) -> str:
    """`data` as JSON without the characters that an HTML parser could take for markup."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed(data: Any) -> str:
    """`data` as JSON in a tenth of its size: compressed, in letters."""
    return base64.b64encode(zlib.compress(json.dumps(data, separators=(",", ":")).encode())).decode()


def _part(name: str) -> str:
    return files("trainer.report").joinpath(name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """What lets the element with this very text run under the page's policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
