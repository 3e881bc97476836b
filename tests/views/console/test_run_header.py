"""What is said when a run begins and when it ends, and what switches it off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import EarlyStopping, Guards, Machine, Options, build
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.views.console.run_header import header_lines
from tests.models import Adversaries, Linear, Validated, batches, machine_of, stream


def said(capsys: pytest.CaptureFixture[str], **flags: Any) -> list[str]:
    """What a short run of a model writes to standard error."""
    options = Options(**{"max_nb_epochs": 1, "device": "cpu", "runs_dir": None, **flags})
    build(options, Validated(), train_dataloader=batches(4), val_dataloaders=batches(2)).run()
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_run_begins_with_what_it_is_and_will_do_and_ends_with_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    model, plan, steps, *progress, last = said(capsys)
    assert model == "Validated: 4 parameters; SGD on cpu, precision 32"
    assert plan == "training: 1 epoch of 2 batches, validations of 1 batch"
    assert steps == "2 steps, 2 validations"
    assert progress[0].startswith("epoch 1/1, batch 1/2 after ")
    assert progress[1].startswith("epoch 1/1 after ")
    assert progress[2].startswith("ended after 1 epoch, ")
    assert progress[4].startswith("state ")
    assert last.startswith("  waiting for loaders ")


def test_without_progress_the_stop_reason_is_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, progress_bar=False)
    assert not any(line.startswith(("epoch ", "ended ")) for line in lines)
    assert lines[-1].startswith("Why it stopped: all epochs are done")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, quiet=True) == []


def test_the_opening_names_frozen_parameters_optimizers_patience_and_the_folder(tmp_path: Path) -> None:
    class Frozen(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Linear(100, 20)
            self.extra.requires_grad_(False)
            self.later = torch.nn.LazyLinear(3)

    stopping = EarlyStopping(monitor="val_loss", patience=1)
    machine = machine_of(Frozen(), batches(4), batches(2), max_nb_epochs=5, early_stop_callback=stopping, runs_dir=tmp_path)
    machine.advance()
    assert header_lines(machine) == [
        "Frozen: 2,024 parameters, 2,020 of them frozen; SGD on cpu, precision 32",
        "training: 5 epochs of 2 batches, validations of 1 batch",
        "10 steps, 10 validations, fewer if val_loss does not improve in 1 validation",
        f"recorded in {tmp_path / '0'}",
    ]
    two = machine_of(Adversaries(), batches(4), max_nb_epochs=1)
    assert header_lines(two)[0].endswith("; Adam and SGD on cpu, precision 32")
    assert header_lines(two)[2] == "2 steps of optimizer 0, 2 steps of optimizer 1"


def test_the_schedule_is_left_out_where_it_takes_long_or_would_call_a_guard_with_a_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def remembers(limits: Limits, counters: Counters, signals: Signals) -> bool:
        calls.append(counters.batch_nb)
        return len(calls) > 3

    def lines(machine: Machine) -> int:
        return len(header_lines(machine))

    assert lines(machine_of(Linear(), batches(4))) == 3
    assert lines(machine_of(Linear(), stream(4))) == 2
    assert lines(machine_of(Linear(), batches(4), guards=Guards(step={0: remembers}))) == 2
    assert calls == []
    monkeypatch.setattr("fsmtrain.views.console.cheap_plan.MAX_TRAIN_BATCHES", 1)
    assert lines(machine_of(Linear(), batches(4))) == 2
