"""The section on the time of the states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsmtrain.views.loader_workers import usable_cpus
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.sections.time import time_section
from tests.views.recording.report.reported_runs import record_run


def record_with(workers: object) -> RunRecord:
    """A run of three epochs that has waited for its loader for most of the time."""
    run: Row = {"loader_workers": workers}
    end: Row = {"states": {"fetch": [9, 9.0], "epoch_end": [3, 0.1]}, "data_wait": [9, 9.0], "wall_seconds": 10.0}
    return RunRecord(
        path=Path("run"), run=run, table={}, metrics=[], timeline=[], status={}, end=end, log="", damage=(), is_locked=False
    )


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ({"num_workers": 2, "restarts": True, "cpus": 2}, "persistent_workers=True"),
        ({"num_workers": 2, "restarts": False, "cpus": 4}, "num_workers=2; more may help, up to 4"),
        (None, "a DataLoader with num_workers=... may help."),
        ({"num_workers": "2", "restarts": 1, "cpus": [3]}, "a DataLoader with num_workers=... may help."),
    ],
)
def test_the_bottleneck_is_that_of_the_workers_that_were_recorded_if_they_were(workers: object, told: str) -> None:
    assert told in str(time_section(record_with(workers)))


def test_run_json_has_the_workers_of_the_loaders(tmp_path: Path) -> None:
    machine = record_run(tmp_path, max_nb_epochs=1)
    machine.run()
    assert machine.run_dir is not None
    recorded = json.loads((machine.run_dir / "run.json").read_text())["loader_workers"]
    assert recorded == {"num_workers": None, "restarts": False, "cpus": usable_cpus()}
