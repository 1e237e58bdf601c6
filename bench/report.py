"""A report of 200 runs of 100 epochs: seconds to write it, its size, and what a browser takes to open and use it."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUNS, EPOCHS, ROUNDS = 200, 100, 5
ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/balanced_accuracy", "val/f1", "optim/lr")
TIMES = ("time/epoch_s", "time/samples_per_s")
# Action of a user -> a script that does it and ends when the page is drawn.
ACTIONS = {
    "sort by a column": "document.querySelectorAll('#table thead button')[2].click()",
    "filter": "e = document.getElementById('filter'); e.value = 'lr<0.1'; e.dispatchEvent(new Event('input'))",
    "switch one curve": "document.querySelector('#table tbody input').click()",
    "another metric": "e = document.getElementById('metric'); e.value = 'val/f1'; e.dispatchEvent(new Event('change'))",
}
TIMED = """
const done = arguments[0], started = performance.now();
let e;
ACT;
requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
"""


def write_runs(root: Path) -> None:
    """Run directories as a sweep leaves them, with the configuration of ``python -m trainer``."""
    config = subprocess.run(
        [sys.executable, "-m", "trainer", "--cfg", "job"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    rng = np.random.default_rng(0)
    for i in range(RUNS):
        run = root / f"{i}_optim.lr-{10 ** -(i % 20 / 5):.4g}_seed-{i // 20}"
        (run / ".hydra").mkdir(parents=True)
        text = config.replace("seed: 0", f"seed: {i // 20}", 1).replace(
            "  lr: 0.01", f"  lr: {10 ** -(i % 20 / 5):.4g}"
        )
        (run / ".hydra" / "config.yaml").write_text(text)
        values = rng.random((EPOCHS, len(COLUMNS) + len(TIMES)))
        rows = [f"{e + 1},{41 * (e + 1)},{','.join(map(repr, row.tolist()))}" for e, row in enumerate(values)]
        (run / "metrics.csv").write_text("\n".join([",".join(("epoch", "step", *COLUMNS, *TIMES)), *rows]) + "\n")
        best = {
            "metric": "val/loss",
            "value": values[:, 2].min(),
            "epoch": int(values[:, 2].argmin()) + 1,
            "mode": "min",
        }
        final = dict(zip(COLUMNS, values[-1].tolist(), strict=False))
        test = {"loss": rng.random(), "accuracy": rng.random(), "balanced_accuracy": rng.random(), "f1": rng.random()}
        summary = {"status": "finished", "epochs": EPOCHS, "best": best, "final": final, "test": test, "seconds": 9.5}
        (run / "summary.json").write_text(json.dumps(summary))
        (run / "train.log").write_text("".join(f"epoch {e}/{EPOCHS}  {'.' * 130}\n" for e in range(EPOCHS)))


def run() -> None:
    """Prints seconds; those of a browser if there are Chromium, chromedriver and selenium."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sweep"
        write_runs(root)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            command = [sys.executable, "-m", "trainer", "report", str(root)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        page = root / "report.html"
        size = page.stat().st_size / 1e6
        print(f"{RUNS} runs x {EPOCHS} epochs x {2 + len(COLUMNS) + len(TIMES)} columns: {size:.1f} MB")
        print(f"{'write it (cold process)':<26} {statistics.median(seconds):.2f} s")
        program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
        if program and driver:
            use(page, program, driver)
        else:
            print("no browser: install chromium and chromedriver")


def use(page: Path, program: str, driver: str) -> None:
    """Opens the page and does what a person does, each several times."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        seconds: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            browser.get(page.as_uri())
            assert browser.execute_script("return document.querySelectorAll('path.curve').length") == RUNS
            seconds.setdefault("open it, until drawn", []).append(time.perf_counter() - started)
            for name, act in ACTIONS.items():
                seconds.setdefault(name, []).append(browser.execute_async_script(TIMED.replace("ACT", act)) / 1000)
        for name, values in seconds.items():
            print(
                f"{name:<26} {statistics.median(values):.2f} s  ({min(values):.2f}–{max(values):.2f}, {ROUNDS} rounds)"
            )
    finally:
        browser.quit()
