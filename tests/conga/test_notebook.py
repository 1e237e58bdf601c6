"""conga in Jupyter: the tutorial's cells run, bars are shown, and interrupting the kernel saves a run."""

import time

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="needs pip install -e '.[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="needs pip install -e '.[notebook]'")
manager = pytest.importorskip("jupyter_client.manager", reason="needs pip install -e '.[notebook]'")
pytest.importorskip("ipykernel", reason="needs pip install -e '.[notebook]'")

pytestmark = pytest.mark.slow
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
WAIT_S = 120


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_tutorial_is_kept_without_outputs():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    assert not [c for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count)]


def test_every_cell_of_the_tutorial_runs(tmp_path):
    notebook = nbformat.read(TUTORIAL, as_version=4)
    for _ in range(2):  # the second time the runs are there
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def output(source):
        cell = next(cell for cell in cells if source in cell.source)
        return "".join(o.get("text", "") or o["data"].get("text/plain", "") for o in cell.outputs)

    assert "status  finished after 12 epochs" in output("experiment=apartments")
    assert "0.7100, -0.0800, -0.1000" in output("conga.CGD")  # by hand: 0.9 w + 0.1 (-1, 1, -1)
    assert "finished already" in output('"train.epochs=10"')
    assert float(output("right:").split()[1]) > 0.9
    assert float(output("largest weight:").split()[-1]) <= 1
    assert "did you mean optim.lr?" in output("optim.lrr")
    assert output('conga.resume("line"') == "12"
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2


def test_interrupting_the_kernel_saves_the_run(tmp_path):
    kernel, client = manager.start_new_kernel(cwd=str(tmp_path))
    try:
        train = "import conga; conga.train('train.epochs=100000', 'hydra.run.dir=run')"
        asked = client.execute(train, stop_on_error=False)  # else the kernel drops what comes soon after the error
        printed, bars, until = "", "", time.monotonic() + WAIT_S
        while not ("epoch      3/100000" in printed and "samples/s" in bars) and time.monotonic() < until:
            message = client.get_iopub_msg(timeout=WAIT_S)
            printed += message["content"].get("text", "")
            if "display_data" in message["msg_type"]:
                bars += message["content"]["data"].get("text/html", "")
        assert "1/100000" in bars  # drawn by rich
        assert "samples/s" in bars
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=WAIT_S)
        while reply["parent_header"]["msg_id"] != asked:
            reply = client.get_shell_msg(timeout=WAIT_S)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert "conga.resume('run')" in reply["content"]["evalue"]
        ask = {"said": "(run := conga.load('run')).status, run.summary['epochs'] >= 3"}
        answer = client.execute("", user_expressions=ask, reply=True, timeout=WAIT_S)
        assert answer["content"]["user_expressions"]["said"]["data"]["text/plain"] == "('interrupted', True)"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
