"""`machine.history`: the record as rows, with the columns of ``metrics.csv``, and as data frames."""

from __future__ import annotations

import csv
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback, Machine, Trainer
from fsmtrain.errors import MissingExtraError, UsageError
from fsmtrain.views.recording.history import History, flat_rows
from tests.models import Adversaries, Validated, batches, machine_of, trained


class Logged(Validated):
    """Logs a mean over the epoch, and NaN."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.log("acc", batch_nb, on_epoch=True)
        self.log("gap", math.nan)
        return self.loss(batch)


@pytest.mark.parametrize("model", [Logged, Adversaries])
def test_the_history_has_the_rows_and_columns_of_metrics_csv(tmp_path: Path, model: Any) -> None:
    val = batches(2) if model is Logged else None
    machine = trained(model(), batches(6), val, max_nb_epochs=2, runs_dir=tmp_path)
    history = machine.history
    with (tmp_path / "0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(history.columns) == set(rows[0])
    assert [{name: str(row.get(name, "")).lower() for name in rows[0]} for row in history] == [
        {name: cell.lower() for name, cell in row.items()} for row in rows
    ]
    if model is Logged:
        assert [(row["epoch"], row["acc_epoch"]) for row in history.of("epoch")] == [(0, 1.0), (1, 1.0)]
        assert math.isnan(history[0]["gap"])
        assert {row["kind"] for row in history} == {"train", "epoch", "validation"}


def test_a_trainer_has_the_history_of_its_fit_and_of_later_tests(tmp_path: Path) -> None:
    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=tmp_path)
    trainer.fit(Validated(), batches(4))
    trainer.test(test_dataloaders=batches(2))
    assert [row["kind"] for row in trainer.history] == ["train", "train", "test"]


def test_a_run_that_is_not_recorded_has_no_history_and_the_error_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs_dir=None: nothing is recorded, and the history is read from a run folder"):
        _ = machine_of(Validated(), batches(4), runs_dir=None).history
    with pytest.raises(UsageError, match="history: nothing is recorded yet"):
        _ = machine_of(Validated(), batches(4), runs_dir=tmp_path).history


def test_the_history_can_be_read_in_a_hook(tmp_path: Path) -> None:
    lengths = []

    class Reading(Callback):
        def on_epoch_start(self, machine: Machine) -> None:
            lengths.append(len(machine.history))

    trained(Validated(), batches(4), max_nb_epochs=3, runs_dir=tmp_path, callbacks=[Reading()])
    assert lengths[0] == 0
    assert lengths[0] <= lengths[1] <= lengths[2] <= 4


def test_a_metric_with_the_name_of_a_column_has_a_column_of_its_own() -> None:
    row = {"kind": "train", "time": 0.5, "epoch": 0, "batch": 0, "step": 0, "batches": 1, "values": {"time": 3.0, "lr": 2.0}}
    assert flat_rows([row]) == [
        {"kind": "train", "time": 0.5, "epoch": 0, "batch": 0, "step": 0, "batches": 1, "metric/time": 3.0, "metric/lr": 2.0}
    ]


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_data_frame_is_made_by_the_package_that_is_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that keeps what it is given."""
    history = History([{"kind": "train", "loss": 2.0}, {"kind": "validation", "val_loss": 1.0}])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"to_{name}\(\): {name} is not installed"):
        getattr(history, f"to_{name}")()
    package = types.SimpleNamespace(DataFrame=lambda *args, **options: (args, options))
    monkeypatch.setitem(sys.modules, name, package)
    (given,), options = getattr(history, f"to_{name}")()
    if name == "pandas":
        assert (given, options) == (history, {"columns": ["kind", "loss", "val_loss"]})
    else:
        assert given == {"kind": ["train", "validation"], "loss": [2.0, None], "val_loss": [None, 1.0]}


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_data_frame_of_the_package_itself(name: str) -> None:
    pytest.importorskip(name)
    frame = getattr(History([{"kind": "train", "loss": 2.0}, {"kind": "epoch", "loss_epoch": 1}]), f"to_{name}")()
    assert list(frame.columns) == ["kind", "loss", "loss_epoch"]
    assert len(frame) == 2
