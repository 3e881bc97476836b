"""``docs/notebooks.md`` in a real kernel: each block is a cell, and what a reader sees is what the page says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.views.recording.report.reported_runs import Page

pytest.importorskip("nbclient", reason="nbclient and ipykernel are not installed")
pytest.importorskip("ipykernel", reason="nbclient and ipykernel are not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CELLS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8"), re.DOTALL)

INTERRUPTED = """
import os, signal
from fsmtrain import Callback

class Interrupt(Callback):
    def on_epoch_end(self, machine):
        os.kill(os.getpid(), signal.SIGINT)

Trainer(max_nb_epochs=5, val_check_interval=1.0, callbacks=[Interrupt()]).fit(
    Supervised(net, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(net.parameters(), lr=0.01)), DataLoader(train, 50))
"""


def outputs_of(cells: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Execute cells in a kernel; return each one's outputs."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    return [cell["outputs"] for cell in notebook.cells]


def test_the_page_s_cells_show_a_live_line_tables_the_report_and_short_errors(tmp_path: Path) -> None:
    fit, report, history, diagram, plan, error, interrupted = outputs_of([*CELLS, INTERRUPTED], tmp_path)

    assert {output["name"] for output in fit if output["output_type"] == "stream"} == {"stdout"}, "red is for warnings"
    live, result = (output["data"] for output in fit if output["output_type"] != "stream")
    assert re.search(r"epoch 5/5 .*\nbatch 10/10 .*\n.*\nended after 5 epochs", live["text/plain"])
    assert "<th>val_loss</th>" in result["text/html"]

    frame = Page(report[0]["data"]["text/html"])
    attributes = {name: value for tag, name, value in frame.attributes if tag == "iframe"}
    path = tmp_path / "runs" / "0" / "report.html"
    assert (attributes["srcdoc"], attributes["sandbox"]) == (path.read_text(encoding="utf-8"), "allow-scripts")
    assert (frame.text.strip(), frame.wrong) == (str(path), [])

    assert "<th>kind</th>" in history[0]["data"]["text/html"]
    assert {"image/svg+xml", "text/markdown"} & {*diagram[0]["data"]}
    assert "<table>" in plan[0]["data"]["text/html"]

    (short,) = error
    assert short["traceback"][0].startswith("Traceback (only your own code)")
    assert short["traceback"][-1] == "OptionsError: max_nb_epoch=3: there is no such flag. Did you mean max_nb_epochs?"
    assert "fsmtrain" not in "".join(short["traceback"])

    (stopped,) = (output for output in interrupted if output["output_type"] == "error")
    assert stopped["ename"] == "KeyboardInterrupt"
    assert stopped["traceback"][-1].startswith("KeyboardInterrupt: SIGINT stopped the run after ")
    assert f"{os.sep}fsmtrain{os.sep}" not in "".join(stopped["traceback"])
