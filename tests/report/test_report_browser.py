"""Reports: what a person sees and does in a real browser."""

import fcntl
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
from functools import partial
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from conftest import ROOT
from reported import (
    BEST,
    EPOCHS,
    EVIL,
    MOMENTA,
    RATES,
    SECONDS,
    accuracy,
    loss,
    summary,
    write_evil,
    write_grid,
    write_page,
    write_run,
)


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


@pytest.fixture
def evil(tmp_path):
    return write_evil(tmp_path / EVIL)


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
