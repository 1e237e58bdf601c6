"""Reports: what is in the file, that nothing from a run is run, and what a person sees and does in a real browser."""

import base64
import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from html.parser import HTMLParser
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import trainer.__main__
from trainer.report import payload as made
from trainer.report.page import SCRIPTS

EVIL = "</script><img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
RATES, MOMENTA, EPOCHS = (0.5, 2, 10), (0, 0.9), 8
SECONDS = (0.5, 0.25, 100.5, 12.0, 3.125, 1e-7)


@pytest.fixture
def run_report(command):
    return partial(command, "report")


def write_run(folder, config, columns=None, summary=None, log="", resumed=""):
    """A run directory; `columns` are those of metrics.csv, `config` is text or a mapping of dotted keys."""
    (folder / ".hydra").mkdir(parents=True)
    if not isinstance(config, str):
        nested = {}
        for key, value in ({"train.epochs": EPOCHS} | config).items():
            *groups, last = key.split(".")
            inner = nested
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
        config = json.dumps(nested)  # which is YAML, too
    (folder / ".hydra" / "config.yaml").write_text(config)
    if resumed:
        (folder / ".hydra" / "resumed.yaml").write_text(resumed)
    if columns:
        pd.DataFrame(columns).to_csv(folder / "metrics.csv", index=False)
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    if log:
        (folder / "train.log").write_text(log)
    return folder


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


def test_one_file_that_needs_nothing_else(run_report, tmp_path):
    write_grid(tmp_path / "sweep")
    code, text = run_report("sweep")
    assert code == 0, text
    assert re.fullmatch(
        r"written  sweep/report.html: 8 runs \(6 finished, 1 diverged, 1 damaged\), 0\.\d MB; .*\n", text
    )
    page = Page(tmp_path / "sweep" / "report.html")
    assert "".join(page.texts["title"]).strip() == "sweep"
    assert not page.all("link")[1:]
    assert page.all("link")[0]["href"] == "data:,"
    assert not [a for _, a in page.elements if "src" in a or any(name.startswith("on") for name in a)]
    whole = (tmp_path / "sweep" / "report.html").read_text()
    assert set(re.findall(r"\w+://[^\"'\s]+", whole)) == {"http://www.w3.org/2000/svg"}  # the name of SVG, no address

    policy = dict(part.split(" ", 1) for part in page.all("meta")[1]["content"].split("; "))
    assert policy["default-src"] == "'none'"
    contents = [re.search(r"<style>(.*?)</style>", whole, re.S)[1], *re.findall(r"<script>(.*?)</script>", whole, re.S)]
    sums = [f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in contents]
    assert policy["style-src"] == sums[0]
    assert policy["script-src"].split() == sums[1:]
    assert len(sums) == 1 + len(SCRIPTS)


def test_what_is_told_of_a_run(run_report, tmp_path):
    """Beside what the test itself wrote, read with pandas."""
    grid = write_grid(tmp_path / "sweep")
    write_run(
        tmp_path / "sweep" / "8_", {"optim.lr": 0.5, "optim.momentum": 0.0, "seed": 2}, resumed="train.epochs: 99\n"
    )
    assert run_report("sweep", "--out=page.html")[0] == 0
    data = Page(tmp_path / "page.html").data
    assert [run["status"] for run in data["runs"]] == ["finished"] * 6 + ["diverged", "damaged", "queued"]
    assert data["differing"] == ["optim.lr", "seed", "train.epochs", "optim.momentum"]  # as in `runs`
    for run, ((rate, momentum), path) in zip(data["runs"], grid.items(), strict=False):
        frame = pd.read_csv(path / "metrics.csv")
        assert list(run["curves"]) == list(frame)
        for name, column in run["curves"].items():
            wanted = [None if math.isnan(value) else pytest.approx(value, rel=5e-6) for value in frame[name]]
            assert column == wanted
        assert run["values"]["best/value"] == min(loss(rate, momentum))
        assert run["values"]["test/accuracy"] == accuracy(rate, momentum)
        assert (data["config"] | run["config"])["optim.lr"] == rate
        assert run["yaml"] == (path / ".hydra" / "config.yaml").read_text()
        assert run["log"] == (path / "train.log").read_text()
    diverged, damaged, queued = data["runs"][6:]
    assert diverged["curves"]["val/loss"] == [3, None]
    assert diverged["error"] == "the loss is NaN after step 14"
    assert "summary.json" in damaged["error"]
    assert queued["yaml"].endswith("# changed when the run was resumed:\ntrain.epochs: 99\n")
    assert queued["config"]["train.epochs"] == 99
    assert {"val/loss", "best/value", "seconds"} <= set(data["lower"])
    assert not {"val/accuracy", "test/accuracy"} & set(data["lower"])


def test_only_some_runs(run_report, tmp_path):
    write_grid(tmp_path / "sweep")
    code, text = run_report("sweep", "--where", "optim.lr<=2 and momentum=0 and status=finished")
    assert code == 0
    assert "2 runs (2 finished)" in text
    data = Page(tmp_path / "sweep" / "report.html").data
    assert [run["name"][:1] for run in data["runs"]] == ["0", "2"]
    assert data["where"] == "optim.lr<=2 and momentum=0 and status=finished"


def test_long_curves_and_logs_are_cut(run_report, tmp_path):
    n = made.ROWS_MOST * 2 + 1
    lines = [f"line {i}" for i in range(20_000)]
    run = write_run(
        tmp_path / "run",
        {"seed": 0},
        {
            "epoch": range(1, n + 1),
            "step": range(10**7 + 1, 10**7 + n + 1),
            "val/loss": [1 / (1 + i) for i in range(n)],
        },
        log="\n".join(lines) + "\n",
    )
    assert run_report("run")[0] == 0
    told = Page(run / "report.html").data["runs"][0]
    epochs = told["curves"]["epoch"]
    assert (len(epochs), epochs[0], epochs[-1], told["rows"]) == (made.ROWS_MOST, 1, n, n)
    assert told["curves"]["step"] == [10**7 + epoch for epoch in epochs]  # whole numbers keep all digits
    assert told["curves"]["val/loss"] == pytest.approx([1 / epoch for epoch in epochs], rel=5e-6)
    head, note, tail = re.fullmatch(
        r"(.*)\n\n… ([\d,]+) bytes left out here; .*? …\n\n(.*)\n", told["log"], re.S
    ).groups()
    assert lines[: head.count("\n") + 1] == head.split("\n")
    assert lines[-tail.count("\n") - 1 :] == tail.split("\n")
    whole = len((run / "train.log").read_bytes())
    assert int(note.replace(",", "")) == whole - len(head) - len(tail) - 2
    assert whole - made.LOG_MOST < int(note.replace(",", "")) < whole - made.LOG_MOST + 100


def test_scripts_make_only_text_of_text():
    """The ways in which a script can make markup or code of text are not used at all."""
    for name in SCRIPTS:
        script = (ROOT / "trainer" / "report" / name).read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", script
        )
    listed = {path.name for path in (ROOT / "trainer" / "report").glob("*.js")}
    assert listed == set(SCRIPTS)


def test_no_torch():
    code = "import sys, trainer.report.command; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["empty"], "empty: no runs below"),
        (["sweep", "--where", "lrr<1"], "--where: no column 'lrr'; did you mean optim.lr?"),
        (["sweep", "--where", "lr<"], "--where: expected a value"),
        (["sweep", "--where", "lr<0"], "--where=lr<0: true for none of the 8 runs"),
        (["sweep", "--serve=99999"], "--serve=99999: "),
        (["sweep", "--serve", "--out=x.html"], "--out=x.html: --serve writes no file"),
        (["sweep", "--out", "empty"], "--out=empty: is a directory"),
        (["sweep", "--out", "file/x.html"], "file: File exists; --out=FILE.html writes elsewhere"),
        ([], "missing: PATH"),
    ],
)
def test_a_mistake_is_one_line(run_report, tmp_path, arguments, line):
    write_grid(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    code, text = run_report(*arguments)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: {line}")


def test_a_name_that_is_no_text(run_report, tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xffn")
    write_grid(folder)
    code, text = run_report(str(folder))
    assert code == 0
    assert text.startswith("written  r\N{REPLACEMENT CHARACTER}n/report.html: 8 runs")
    assert Page(folder / "report.html").texts["title"][0] == "r?n"


def test_nothing_is_half_written(run_report, tmp_path, monkeypatch):
    write_grid(tmp_path / "sweep")
    (tmp_path / "page.html").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    code, text = run_report("sweep", "--out=page.html")
    assert (code, text) == (2, "conga: page.html: No space left on device; --out=FILE.html writes elsewhere\n")
    assert (tmp_path / "page.html").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"sweep", "page.html"}


@pytest.fixture
def evil(tmp_path):
    """A page about runs with markup in names of folders, keys, values, metrics, logs, errors, and in broken YAML."""
    root = tmp_path / EVIL
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


def test_text_from_runs_makes_no_element(evil):
    page = Page(evil)
    assert len(page.all("script")) == 2 + len(SCRIPTS)
    assert page.all("img") == []
    assert "<" not in "".join(page.texts["payload"] + page.texts["texts"])


# In a browser.


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, one for all tests of a worker."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(f"no {'chromedriver' if program else 'Chromium'} on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


class Person:
    """What somebody sees and does on an open page."""

    def __init__(self, browser):
        self.browser = browser

    def see(self, script, *arguments):
        return self.browser.execute_script(f"return {script}", *arguments)

    def find(self, selector):
        from selenium.webdriver.common.by import By

        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector):
        self.find(selector)[0].click()

    def texts(self, selector):
        return self.see("[...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def choose(self, name, value):
        assert value in self.options(name)
        self.give(name, value, "change")

    def options(self, name):
        return self.see("[...document.getElementById(arguments[0]).options].map(o => o.value)", name)

    def filter(self, text):
        self.give("filter", text, "input")

    def give(self, name, value, event):
        script = """(e => {e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))})
                    (document.getElementById(arguments[0]))"""
        self.see(script, name, value, event)

    def column(self, name):
        """The cells of a column of the table of runs, and how it is sorted."""
        return self.see(
            """(name => {
                const heads = [...document.querySelectorAll("#table thead th")];
                const i = heads.findIndex(h => h.firstElementChild?.firstChild.data.split(" ")[0] === name);
                const cells = [...document.querySelectorAll("#table tbody tr")].map(row => row.children[i].textContent);
                return [cells, heads[i].getAttribute("aria-sort")];
            })(arguments[0])""",
            name,
        )

    def details(self):
        """The configuration and the log of the run that is open, once they are unpacked."""
        shown = "['config', 'run-log'].map(id => document.getElementById(id).textContent)"
        return self.see(f"texts.then(() => {shown})")

    def rows(self, table):
        """The cells of a table's body."""
        rows = "[...document.getElementById(arguments[0]).tBodies[0].rows]"
        return self.see(f"{rows}.map(r => [...r.cells].map(c => c.textContent))", table)

    def header(self, name):
        buttons = "[...document.querySelectorAll('#table thead button')]"
        return self.see(f"{buttons}.find(b => b.firstChild.data.split(' ')[0] === arguments[0])", name)

    def curves(self):
        """Number of a run -> the corners of its path, in pixels."""
        found = self.see(
            "[...document.querySelectorAll('path.curve:not(.cross)')].map(p => [p.dataset.run, p.getAttribute('d')])"
        )
        return {
            int(run): [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.-]+ [\d.-]+)", d)]
            for run, d in found
        }


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    write_grid(folder)
    write_page(folder)
    return folder


def write_page(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["conga", "report", str(folder)])
        with contextlib.suppress(SystemExit):
            trainer.__main__.main()


@pytest.fixture
def person(browser, sweep):
    """Somebody with the page of the grid open; at the end there must have been no error and no request."""
    browser.get((sweep / "report.html").as_uri())
    person = Person(browser)
    yield person
    assert browser.get_log("browser") == []
    assert person.see("performance.getEntriesByType('resource').map(e => e.name)") == []


def test_sorting(person):
    person.header("optim.lr").click()
    cells, sorted_as = person.column("optim.lr")
    assert sorted_as == "ascending"
    assert [float(c) for c in cells] == sorted(float(c) for c in cells)
    assert cells[-2:] == ["10", "100"]  # and not between 1 and 2
    person.header("optim.lr").click()
    assert person.column("optim.lr") == [cells[::-1], "descending"]
    assert person.column("status")[1] == "none"

    person.header("test/accuracy").click()  # what is missing is last, up and down
    up = person.column("test/accuracy")[0]
    person.header("test/accuracy").click()
    down = person.column("test/accuracy")[0]
    assert up[-2:] == down[-2:] == ["-", "-"]
    assert [f"{a:.4f}" for a in sorted(accuracy(r, m) for r in RATES for m in MOMENTA)] == up[:-2] == down[-3::-1]
    person.header("seconds").click()
    order = "".join(name[0] for name in person.column("name")[0])
    by_seconds = sorted(range(6), key=SECONDS.__getitem__)
    assert [int(i) for i in order if int(i) < 6] == by_seconds
    assert sorted(person.texts("#table td.best")) == sorted(f"{value:.4f}" for value in BEST)  # none of the diverged
    person.header("name").send_keys("\n")  # by the keyboard
    assert [name[0] for name in person.column("name")[0]] == list("01234567")


def test_filtering(person):
    assert len(person.curves()) == 7  # the damaged run has no curve
    assert person.texts("#count") == ["8 runs"]
    for text, names in {
        "optim.lr<5": "01237",
        "lr < 5 momentum=0": "027",
        "damaged": "7",
        "status!=finished": "67",
        "NaN after": "6",
        "lr=2,momentum=0.9": "3",
        "test/accuracy>=0": "012345",
    }.items():
        person.filter(text)
        assert "".join(name[0] for name in person.column("name")[0]) == names, text
        assert person.texts("#count") == [f"{len(names)} of 8 runs"]
        assert set(person.curves()) == set(map(int, names)) - {7}
        assert [t[0] for t in person.texts("#legend button")] == list(names)
    person.filter("")
    person.find("#filter")[0].send_keys("lrr<5")
    assert person.texts("#count") == ["8 runs; no key or value is called lrr"]
    for text, line in {
        "lr>>3": "lr>>3 is not understood: one comparison is NAME<VALUE",
        "<3": "<3 is not understood: one comparison is NAME<VALUE",
        "lr<low": "lr<low: optim.lr is a number",
    }.items():
        person.filter(text)
        assert person.texts("#count") == [f"8 runs; {line}"]
    person.filter("nothing of the kind")
    assert person.texts("#table tbody") == ["No run matches the filter."]
    assert person.curves() == {}


def test_curves_are_where_the_numbers_are(person):
    """On both scales the pixels are a linear function of the values, or of their logarithms."""
    for log in (False, True):
        if person.see("document.getElementById('log').checked") != log:
            person.click("#log")
        curves = person.curves()
        size = math.log if log else float
        numbers = [size(v) for rate in RATES for m in MOMENTA for v in loss(rate, m)]
        pixels = [y for run in range(6) for _, y in curves[run]]
        low, high = numbers.index(min(numbers)), numbers.index(max(numbers))
        slope = (pixels[high] - pixels[low]) / (numbers[high] - numbers[low])
        assert slope < -50
        assert pixels == pytest.approx([pixels[low] + slope * (v - numbers[low]) for v in numbers], abs=0.2)
        steps = [b - a for run in range(6) for (a, _), (b, _) in zip(curves[run], curves[run][1:], strict=False)]
        assert steps == pytest.approx([steps[0]] * len(steps), abs=0.2)
    assert len(curves[6]) == 1  # NaN afterwards
    assert person.see("document.querySelectorAll('path.cross').length") == 1


def test_switching_curves(person):
    box = '#table tbody tr[data-run="2"] input'
    person.click(box)
    assert set(person.curves()) == {0, 1, 3, 4, 5, 6}
    assert person.find("#legend button")[2].get_attribute("aria-pressed") == "false"
    person.find(box)[0].send_keys(" ")
    assert set(person.curves()) == set(range(7))
    person.find("#legend button")[4].click()
    assert set(person.curves()) == {0, 1, 2, 3, 5, 6}
    assert not person.find('#table tbody tr[data-run="4"] input')[0].is_selected()
    person.find("#legend button")[4].click()
    assert set(person.curves()) == set(range(7))
    person.click("#none")
    assert person.curves() == {}
    person.click("#all")
    assert set(person.curves()) == set(range(7))

    person.choose("colour", "optim.lr")
    labels = person.see("[...document.querySelectorAll('#legend button')].map(b => b.title)")
    assert labels == ["optim.lr = 0.5", "optim.lr = 2", "optim.lr = 10", "optim.lr = 100"]
    strokes = person.see("[...document.querySelectorAll('path.curve:not(.cross)')].map(p => p.style.stroke)")
    assert strokes[0] == strokes[1] != strokes[2] == strokes[3] != strokes[4] == strokes[5]
    person.find("#legend button")[1].click()
    assert set(person.curves()) == {0, 1, 4, 5, 6}


def test_hovering(person, browser):
    from selenium.webdriver import ActionChains, Keys

    svg = person.find("#curves")[0]
    width, height = person.see("(r => [r.width, r.height])(document.getElementById('curves').getBoundingClientRect())")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    for run, epoch in ((0, 1), (3, 2), (4, 6)):
        rate, momentum = [(r, m) for r in RATES for m in MOMENTA][run]
        x, y = person.curves()[run][epoch - 1]
        ActionChains(browser).move_to_element_with_offset(svg, round(x - width / 2), round(y - height / 2)).perform()
        name, at, value = person.texts("#tip > *")
        assert name.startswith(f"{run}_lr={rate}")
        assert at == f"epoch {epoch}"
        assert value == f"val/loss {loss(rate, momentum)[epoch - 1]:.6g}"
        assert person.find("#tip")[0].is_displayed()
    person.find("#plot")[0].send_keys(Keys.ARROW_RIGHT)
    assert person.texts("#tip > *")[1] == "epoch 7"
    ActionChains(browser).move_to_element(person.find("h1")[0]).perform()
    assert not person.find("#tip")[0].is_displayed()


def test_choosing_a_metric(person):
    assert person.options("metric") == ["val/loss", "val/accuracy", "val/f1", "time/epoch_s"]
    before = person.curves()
    person.choose("metric", "val/accuracy")
    after = person.curves()
    assert after != before
    assert len(after[6]) == 2
    heights = [after[run][-1][1] for run in range(6)]
    values = [accuracy(rate, momentum) for rate in RATES for momentum in MOMENTA]
    assert sorted(range(6), key=lambda i: -heights[i]) == sorted(range(6), key=lambda i: values[i])
    person.choose("metric", "val/f1")  # measured in epochs 2 and 3, 5 and 6, and 8
    d = person.see("document.querySelector('path.curve').getAttribute('d')")
    assert re.sub(r"[\d. ]+", "", d.replace("h0", "")) == "MLMLM"
    person.choose("metric", "time/epoch_s")
    assert set(person.curves()) == set(range(6))
    assert person.options("over") == ["epoch", "step", "seconds"]
    person.choose("over", "seconds")
    x = [x for x, _ in person.curves()[0]]
    assert [b - a for a, b in itertools.pairwise(x)] == pytest.approx([x[1] - x[0]] * (EPOCHS - 1), abs=0.2)


def brightest(person):
    """The number in the cell with the brightest ground."""
    cells = person.see("[...document.querySelectorAll('#heat td[style]')].map(c => [c.innerText, c.style.background])")
    return max(cells, key=lambda cell: sum(map(int, re.findall(r"\d+", cell[1]))))[0].split()[0]


def test_heat_map(person):
    assert person.texts("#heat thead th") == ["0", "0.9"]
    assert person.texts("#heat tbody th") == ["0.5", "2", "10", "100"]
    rows = person.see(
        "[...document.querySelectorAll('#heat tbody tr')].map(r => [...r.cells].slice(1).map(c => c.innerText.trim()))"
    )
    assert rows[3] == ["diverged", ""]
    assert rows[1][0].splitlines() == [f"{min(loss(2, 0)):.4f}", "1 damaged"]
    assert [rows[0], rows[2]] == [[f"{min(loss(rate, m)):.4f}" for m in MOMENTA] for rate in (0.5, 10)]
    assert person.texts("#heat td.best span") == [brightest(person)] == [f"{BEST[0]:.4f}"]

    person.choose("heat-value", "test/accuracy")
    person.choose("heat-y", "optim.momentum")
    person.choose("heat-x", "optim.lr")
    cells = person.texts("#heat tbody tr:nth-child(2) td span")
    assert cells == [f"{accuracy(rate, 0.9):.4f}" for rate in RATES]
    assert person.texts("#heat td.best span") == [brightest(person)] == [f"{BEST[1]:.4f}"]
    person.filter("momentum=0.9 lr<5")
    assert person.texts("#heat tbody td span") == [f"{accuracy(rate, 0.9):.4f}" for rate in (0.5, 2)]


def test_one_run_and_what_two_differ_in(person, sweep):
    person.click('#table tbody tr[data-run="2"] .link')
    run = sweep / "2_lr=2,momentum=0"
    assert person.details() == [(run / name).read_text() for name in (".hydra/config.yaml", "train.log")]
    assert person.texts("#keys") == []
    person.choose("other", "5")
    assert person.texts("#keys thead th") == ["differing key", run.name, "5_lr=10,momentum=0.9"]
    assert person.rows("keys") == [["optim.lr", "2", "10"], ["optim.momentum", "0", "0.9"]]
    a, b = accuracy(2, 0), accuracy(10, 0.9)
    assert [f"{v:.4f}" for v in (a, b, b - a)] == next(
        row[1:] for row in person.rows("values") if row[0] == "test/accuracy"
    )
    assert person.texts("#values td.best") == [f"{min(min(loss(2, 0)), min(loss(10, 0.9))):.4f}", f"{max(a, b):.4f}"]
    person.choose("other", "2")
    assert person.texts("#difference p") == ["The two configurations are equal."]
    person.choose("chosen", "7")
    assert "summary.json: not readable" in person.texts("#run-about .reason")[0]


def test_what_two_choices_differ_in(browser, tmp_path):
    """Keys that only one of the runs has; not what the choice instantiates."""
    for optim, more in (("sgd", {"optim.nesterov": False}), ("cgd", {"optim.free_lr": 0.05})):
        config = {"optim._target_": f"optim.{optim}", "optim.lr": 0.1, "data.crop": 4, "seed": 0} | more
        run = write_run(tmp_path / optim, config, {"epoch": [1], "val/loss": [0.25]})
        (run / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    choices:\n      optim: {optim}\n")
    write_page(tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    person = Person(browser)
    person.choose("chosen", "1")
    person.choose("other", "0")
    assert person.rows("keys") == [
        ["optim", "sgd", "cgd"],
        ["optim.free_lr", "-", "0.05"],
        ["optim.nesterov", "false", "-"],
    ]


def test_pages_with_little_on_them(browser, tmp_path):
    """One run, one that only waits, one under way, damaged ones: no error, and what there is can be seen."""
    write_run(tmp_path / "one" / "only", {"seed": 0}, {"epoch": [1], "val/loss": [0.25]})
    write_run(tmp_path / "waits" / "queued", {"seed": 0})
    process = {"host": platform.node(), "pid": os.getpid(), "heartbeat": "2026-01-01T00:00:00+00:00"}
    under_way = {"status": "running", "epochs": 3, "process": process}
    handle = os.open(write_run(tmp_path / "trains" / "now", {"seed": 0}, summary=under_way), os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    write_run(tmp_path / "damaged" / "a", "a: [")
    write_run(tmp_path / "damaged" / "b", "- 1", {"epoch": [1, 2], "val/loss": ["inf", "nan"]}, log="said\n")
    person = Person(browser)
    for name, rows, curves in (("one", 1, {0}), ("waits", 1, set()), ("trains", 1, set()), ("damaged", 2, set())):
        write_page(tmp_path / name)
        browser.get((tmp_path / name / "report.html").as_uri())
        assert len(person.find("#table tbody tr")) == rows
        assert set(person.curves()) == curves
        assert not person.find("#heat-section")[0].is_displayed()
        person.choose("other", "0")
        assert browser.get_log("browser") == []
        if name == "trains":
            assert person.column("status")[0] == [f"running 3/{EPOCHS}"]
    os.close(handle)
    person.choose("chosen", "1")
    assert person.details() == ["- 1", "said\n"]


def test_narrow_and_dark(person, browser):
    def emulate(command, **what):
        browser.execute_cdp_cmd(f"Emulation.{command}", what)

    def lightness():
        colours = person.see(
            "['background-color', 'color'].map(n => getComputedStyle(document.body).getPropertyValue(n))"
        )
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]

    paper, ink = lightness()
    assert paper > ink
    emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    paper, ink = lightness()
    assert paper < ink
    try:
        for width in (1280, 700, 400):
            emulate("setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            assert person.see("document.documentElement.scrollWidth") <= width  # only the tables scroll
            assert (
                person.see(
                    "new Promise(r => setTimeout(() => r(document.getElementById('curves').viewBox.baseVal.width), 50))"
                )
                <= width
            )
    finally:
        emulate("clearDeviceMetricsOverride")
        emulate("setEmulatedMedia", features=[])


def test_text_from_runs_is_not_run(browser, evil):
    browser.get(evil.as_uri())
    person = Person(browser)
    title = person.see("document.title")
    person.choose("chosen", "0")
    person.choose("other", "1")
    for name in ("metric", "colour", "heat-x", "heat-y", "heat-value"):
        for value in person.options(name):
            person.choose(name, value)
    assert person.see("document.title") == title != "hacked"
    assert person.see("document.querySelectorAll('img, main script').length") == 0
    assert EVIL in person.details()[1]
    assert EVIL in person.texts("#run-about .reason")
    assert sorted(person.column("name")[0]) == sorted([f"0{EVIL}", f"1{EVIL}", "broken"])
    assert f"{EVIL}2" in "".join(person.texts("#keys"))
    assert browser.get_log("browser") == []

    # And were the scripts not careful, the page's policy would still hold.
    person.see("document.body.insertAdjacentHTML('beforeend', arguments[0])", EVIL + "<img src='http://127.0.0.1:9/'>")
    assert person.see("new Promise(r => setTimeout(() => r(document.title), 100))") == title
    logged = browser.get_log("browser")
    assert logged
    assert all("Content Security Policy" in entry["message"] for entry in logged)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A sweep over rates and seeds, judged by another metric than the monitored one; one run has diverged far."""
    folder = tmp_path_factory.mktemp("seeds")
    for i, (rate, seed) in enumerate((rate, seed) for rate in (0.1, 1.0) for seed in range(3)):
        curve = [loss(rate, 0)[epoch] + seed / 50 for epoch in range(EPOCHS)]
        columns = {"epoch": range(1, EPOCHS + 1), "step": range(EPOCHS), "val/loss": curve}
        columns["val/f1"] = [rate / 4 + seed / 9 + epoch % 2 / 10 for epoch in range(EPOCHS)]
        config = {"optim.lr": rate, "seed": seed}
        write_run(folder / str(i), config, columns, summary("val/loss", min(curve), EPOCHS, test={"loss": min(curve)}))
    lost = {"epoch": [1, 2, 3], "step": [1, 2, 3], "val/loss": [1.0, 1e9, 1e20], "val/f1": [0.1] * 3}
    write_run(
        folder / "6", {"optim.lr": 1.0, "seed": 3}, lost, summary("val/loss", 1.0, 1, status="diverged", epochs=3)
    )
    sweep = {"metric": "val/f1", "direction": "minimize"}
    (folder / "sweep.json").write_text(json.dumps({"swept": ["optim.lr", "seed"], "config": {"sweep": sweep}}))
    write_page(folder)
    return folder


def test_means_over_seeds(browser, seeds):
    """Table, band and best run against numpy; a diverged run neither counts nor flattens the others."""
    browser.get((seeds / "report.html").as_uri())
    person = Person(browser)
    assert not person.find("#heat-section")[0].is_displayed()  # only one number was swept
    lows = {rate: np.array([rate / 4 + seed / 9 for seed in range(3)]) for rate in (0.1, 1.0)}
    losses = {rate: np.array([min(loss(rate, 0)) + seed / 50 for seed in range(3)]) for rate in (0.1, 1.0)}
    told = {rate: [f"{v.mean():.4f} ± {v.std(ddof=1):.4f}" for v in (lows[rate], losses[rate])] for rate in lows}
    assert person.texts("#means thead th") == ["optim.lr", "n", "val/f1", "best val/loss", "test/loss"]
    rows = person.rows("means")
    assert [row[:4] for row in rows] == [["0.1", "3", *told[0.1]], ["1", "3 (1 ✕)", *told[1.0]]]
    assert person.texts("#means .best") == [told[0.1][0], told[1.0][1], told[1.0][1]]
    assert person.see("document.querySelector('tr.winner').dataset.run") == "0"  # of the lowest f1, as the sweep asks
    assert person.see("document.querySelector('tr.winner').matches('.chosen')")
    best, other = (
        person.see(f"getComputedStyle(document.querySelector('tr.winner td{kind}')).backgroundColor")
        for kind in (".best", ":last-child")
    )
    assert best != other  # also in the selected row
    top = max(float(text) for text in person.texts("#curves .grid text") if re.fullmatch(r"[\d.]+", text))
    assert top < EPOCHS + 1  # the ticks are of losses around one and of epochs

    person.see("document.getElementById('mean').click()")
    curves = person.curves()
    assert set(curves) == {0, 3, 6}
    ups = {rate: np.mean([np.array(loss(rate, 0)) + seed / 50 for seed in range(3)], axis=0) for rate in (0.1, 1.0)}
    pixels = [y for run in (0, 3) for _, y in curves[run]]
    fit = np.polyfit(np.concatenate([ups[0.1], ups[1.0]]), pixels, 1)
    assert np.abs(np.polyval(fit, np.concatenate([ups[0.1], ups[1.0]])) - pixels).max() < 0.1
    bands = person.see("[...document.querySelectorAll('.band')].map(b => b.getAttribute('d'))")
    corners = [float(pair.split()[1]) for pair in re.findall(r"[\d.]+ [\d.]+", bands[0])]
    low, high = (np.polyval(fit, ups[0.1] + sign * 0.02) for sign in (-1, 1))  # the sd of 0, 1/50, 2/50
    np.testing.assert_allclose(corners, [*high, *low[::-1]], atol=0.15)
    assert browser.get_log("browser") == []


def test_a_served_page_follows_the_runs(browser, tmp_path):
    """Only this machine is served, and only the page; Ctrl-C ends it; the page shows new runs and keeps the filter."""
    config = {"optim.lr": 0.1, "seed": 0}
    write_run(tmp_path / "runs" / "a", config, {"epoch": [1], "val/loss": [0.5]})
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background may ignore it
    argv = [sys.executable, "-u", "-m", "trainer", "report", str(tmp_path / "runs"), "--serve"]
    server = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())[0]

        def status(path="", **request):
            try:
                with urlopen(Request(url + path, **request), timeout=60) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                return error.code, ""

        code, text = status()
        stamp = status("stamp")[1]
        assert code == 200
        assert f'"stamp":"{stamp}"' in text
        assert [status(path)[0] for path in ("runs/a", "..%2f..%2fetc/passwd", "report.html")] == [404, 404, 404]
        assert status(data=b"x", method="POST")[0] == 501
        assert status(headers={"Host": "evil.example"})[0] == 403
        browser.get(url)
        person = Person(browser)
        person.filter("lr<1")
        write_run(tmp_path / "runs" / "b", config | {"seed": 1}, {"epoch": [1], "val/loss": [0.4]})
        assert status("stamp")[1] != stamp
        deadline = time.monotonic() + 60
        while person.texts("#count") != ["2 runs"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert person.texts("#count") == ["2 runs"]
        assert person.see("document.getElementById('filter').value") == "lr<1"
        assert not (tmp_path / "runs" / "report.html").exists()
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=60)[0] == "stopped\n"
        assert server.returncode == 0
    finally:
        server.kill()
