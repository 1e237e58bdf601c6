"""Runs for the tests of reports, a page about them, and a parser of such a page."""

import base64
import contextlib
import json
import math
import zlib
from html.parser import HTMLParser

import pytest
from hand_made import write_files

import trainer.__main__

EVIL = "</script><img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
RATES, MOMENTA, EPOCHS = (0.5, 2, 10), (0, 0.9), 8
SECONDS = (0.5, 0.25, 100.5, 12.0, 3.125, 1e-7)


def write_run(folder, config, columns=None, summary=None, **files):
    """A run directory; `config` is text or a mapping of dotted keys."""
    if not isinstance(config, str):
        nested = {}
        for key, value in ({"train.epochs": EPOCHS} | config).items():
            *groups, last = key.split(".")
            inner = nested
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
        config = json.dumps(nested)  # which is YAML, too
    return write_files(folder, config, columns, summary, **files)


def loss(rate, momentum):
    """Made-up curves, no two of which cross a rounding of the other."""
    return [1.23456789 / (1 + epoch * rate * (1 + momentum)) + rate / 100 for epoch in range(1, EPOCHS + 1)]


def accuracy(rate, momentum):
    return 0.9 - abs(math.log10(rate) - 0.1) / 7 - momentum / 30


BEST = (
    min(min(loss(rate, momentum)) for rate in RATES for momentum in MOMENTA),
    max(accuracy(rate, momentum) for rate in RATES for momentum in MOMENTA),
)


def summary(metric, value, epoch, **more):
    best = {"metric": metric, "value": value, "epoch": epoch, "mode": "min"}
    return {"status": "finished", "epochs": EPOCHS, "best": best, "seconds": 12.5, "parameters": 8970} | more


def write_grid(folder):
    """Six runs that ended well, one that diverged, one that is damaged; returns the six by (rate, momentum)."""
    grid, number = {}, 0
    for rate in RATES:
        for momentum in MOMENTA:
            curve = loss(rate, momentum)
            grid[rate, momentum] = write_run(
                folder / f"{number}_lr={rate},momentum={momentum}",
                {"optim.lr": rate, "optim.momentum": momentum, "seed": 0},
                {
                    "epoch": range(1, EPOCHS + 1),
                    "step": range(10, 10 * EPOCHS + 1, 10),
                    "val/loss": curve,
                    "val/accuracy": [accuracy(rate, momentum) - 1 / (9 + e) for e in range(EPOCHS)],
                    "val/f1": [0.5 if e % 3 else None for e in range(EPOCHS)],
                    "time/epoch_s": [0.5] * EPOCHS,
                },
                summary(
                    "val/loss",
                    min(curve),
                    EPOCHS,
                    test={"accuracy": accuracy(rate, momentum)},
                    seconds=SECONDS[number],
                ),
                log=f"run {number}\nepoch 1\n",
            )
            number += 1
    write_run(
        folder / "6_lr=100,momentum=0",
        {"optim.lr": 100, "optim.momentum": 0, "seed": 0},
        {"epoch": [1, 2], "step": [10, 20], "val/loss": [3.0, "nan"], "val/accuracy": [0.1, 0.1]},
        summary("val/loss", 0.001, 1, status="diverged", epochs=2, error="the loss is NaN after step 14"),
    )
    write_run(folder / "7_lr=2,momentum=0", {"optim.lr": 2, "optim.momentum": 0, "seed": 1})
    (folder / "7_lr=2,momentum=0" / "summary.json").write_text('{"status": "fin')
    return grid


def write_page(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["conga", "report", str(folder)])
        with contextlib.suppress(SystemExit):
            trainer.__main__.main()


def write_evil(root):
    """A page about runs with markup in names of folders, keys, values, metrics, logs, errors, and in broken YAML."""
    curve = {"epoch": [1, 2], f"val/{EVIL.replace(',', '')}": [1.0, 0.5]}
    best = {"metric": EVIL, "value": 0.5, "epoch": 2, "mode": "min"}
    for i, value in enumerate((EVIL, f"{EVIL}2")):
        write_run(
            root / f"{i}{EVIL}",  # the slashes make folders in folders
            {EVIL: value, "optim.lr": i, "model": [EVIL, i], "constructor": i, "__proto__": i, "toString": i},
            curve | {name: [i, i] for name in ("constructor", "__proto__")[:i]},
            {"status": "failed", "epochs": 2, "error": EVIL, "best": best, "test": {EVIL: 0.5}},
            log=EVIL + "\n<!-- <script>",
        )
    write_run(root / "broken", f"a: [{EVIL}")
    (root / "broken" / "train.log").write_bytes(b"\xff\xfe no text\n")
    write_page(root)
    return root / "report.html"


class Page(HTMLParser):
    """What the elements of a page are, by a parser that is not the browser's."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        key = attributes.get("id") or tag
        self.texts.setdefault(key, []).append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self):
        """The payload, each run's configuration and log put back."""
        data = json.loads("".join(self.texts["payload"]))
        packed = json.loads(zlib.decompress(base64.b64decode("".join(self.texts["texts"]))))
        for run, (config, log) in zip(data["runs"], packed, strict=True):
            run |= {"yaml": config, "log": log}
        return data
