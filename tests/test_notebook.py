"""docs/notebook.py is a notebook that runs from its first cell to its last; a kernel's interrupt stops a run in it."""

import os
import re
import time

import pytest

from scaling.store.store import Store
from tests.places import ROOT

pytestmark = pytest.mark.slow
jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """What kernels inherit: this checkout, and folders of their own for what Jupyter writes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return os.environ


def outputs(cell, kind):
    """Returns what a cell shows of one MIME type."""
    return [each.data[kind] for each in cell.outputs if kind in each.get("data", {})]


def test_the_notebook_runs_and_shows_a_bar_a_table_a_fit_a_figure_and_a_link(environment, tmp_path):
    notebook = jupytext.read(ROOT / "docs/notebook.py")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    _, study, trained, table, fit, figure, report = code
    (count,) = outputs(study, "text/plain")
    (told,) = outputs(trained, "text/plain")
    assert told == f"<Result runs/digits_by_size: {count} of {count} cells>"
    shown = "".join(each.text for each in trained.outputs if each.output_type == "stream")
    assert re.search(r"\d+%\|.*\| \d+/" + count + " cells", shown) or outputs(trained, "text/html")
    (html,) = outputs(table, "text/html")
    assert html.count("<tr") == 2 + 5  # a head of two lines, and five sizes
    assert "alpha" in outputs(fit, "text/plain")[0]
    assert len(outputs(figure, "image/png")) == 1
    assert "report.html" in outputs(report, "text/html")[0]
    assert "does the larger network pay?" in (tmp_path / "runs/digits_by_size/report.html").read_text()


def test_an_interrupt_keeps_what_is_complete_and_the_next_call_goes_on(environment, tmp_path):
    from jupyter_client.manager import start_new_kernel

    notebook = jupytext.read(ROOT / "docs/notebook.py")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    manager, client = start_new_kernel(cwd=str(tmp_path))

    def ask(text):
        """Returns the last value that the kernel shows for a text."""
        shown = []
        reply = client.execute_interactive(
            text, timeout=300, output_hook=lambda message: shown.append(message["content"].get("data"))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return next((each["text/plain"] for each in reversed(shown) if each), None)

    try:
        ask(code[0])
        count = int(ask(code[1]))
        client.execute("result = run(study, store='runs/digits_by_size', workers=1)")
        store, end = tmp_path / "runs/digits_by_size", time.monotonic() + 300
        while not any(store.glob("cells/*/record.json")):
            assert time.monotonic() < end
            time.sleep(0.1)
        manager.interrupt_kernel()
        assert ask("result.stopped") == "True"
        kept = Store.open(store).records()
        assert 0 < len(kept) < count
        assert ask("result.ok") == str(len(kept))
        assert ask(f"{code[2].replace('result = run', 'again = run')}\nagain.ok, again.stopped") == f"({count}, False)"
        assert {name: record for name, record in Store.open(store).records().items() if name in kept} == kept
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
