"""Run folders to compare, written without a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fsmtrain.views.recording.comparison.find_runs import runs_of
from fsmtrain.views.recording.comparison.run_table import RunTable, run_table
from fsmtrain.views.recording.files.json_values import json_document
from tests.views.recording.report.reported_runs import metrics_row, write_run_folder

NOW = datetime.fromisoformat("2026-01-02T04:00:00+00:00")


def write_run(
    folder: Path,
    *,
    lr: object = 0.1,
    losses: tuple[float, ...] = (2.0, 1.0),
    reason: str | None = "max_epochs",
    options: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """A folder of a run with one metric, which ended for this reason, or was killed where there is none."""
    rows = [metrics_row(step, {"val_loss": loss}, kind="validation") for step, loss in enumerate(losses)]
    contents = {"command": ["train.py"], "hparams": {"lr": lr}, "options": dict(options or {}), **facts}
    write_run_folder(folder, rows, **contents)
    last = {"epoch": 1, "step": len(losses), "time": 3.0}
    (folder / "status.json").write_bytes(json_document({"written": "2026-01-01T00:00:00+00:00", **last}))
    (folder / ".lock").touch()
    if reason is not None:
        end = {"reason": reason, "sentence": "It ended", "wall_seconds": 3.0, "metrics": {}, **last}
        (folder / "end.json").write_bytes(json_document(end))
    return folder


def table_of(runs: Path, **choices: Any) -> RunTable:
    """The table of all runs in a folder."""
    found, _ = runs_of(runs, NOW)
    return run_table(found, **choices).in_order("run")
