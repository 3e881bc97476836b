"""How to continue a run, in the words of the shell: after Ctrl-C, and where ``--resume`` finds only runs of other commands."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Machine, ModelCheckpoint, Trainer
from tests.cli.conftest import Run
from tests.models import Linear, batches

FIT = "fit mine.py:Model --checkpoint"


@pytest.fixture(autouse=True)
def _argv(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(sys, "argv", ["fsmtrain"])


def typed(run: Run, monkeypatch: pytest.MonkeyPatch, line: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["fsmtrain", *line.split()])
    return run(line)


def interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Machine.run

    def interrupted(machine: Machine) -> Any:
        monkeypatch.setattr(Machine, "run", plain)
        for transition in machine:
            if transition.batch_nb == 5:
                break
        signal.raise_signal(signal.SIGINT)
        return plain(machine)

    monkeypatch.setattr(Machine, "run", interrupted)


def test_after_ctrl_c_the_command_says_how_to_continue_and_that_works(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_once(monkeypatch)
    line = f"{FIT} --max_nb_epochs 2"
    stopped = typed(run, monkeypatch, line)
    way = "To continue, run the same command with --resume, or with other flags and --resume_from runs/0.\n"
    assert (stopped.code, stopped.err.endswith(way)) == (130, True)
    resumed = typed(run, monkeypatch, f"{line} --resume --json")
    assert json.loads(resumed.out)["global_step"] == 18
    assert [path.name for path in Path("runs").iterdir()] == ["0"]


def test_without_checkpoints_it_says_with_which_flag_there_are_some(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_once(monkeypatch)
    stopped = typed(run, monkeypatch, "fit mine.py:Model")
    assert "It cannot be continued, since it saves no checkpoints: with --checkpoint a run is saved where" in stopped.err


def test_runs_of_other_commands_are_named_the_killed_one_too_with_what_continues_each(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_once(monkeypatch)
    typed(run, monkeypatch, f"{FIT} --max_nb_epochs 2")
    typed(run, monkeypatch, f"{FIT} --max_nb_epochs 1")
    longer = typed(run, monkeypatch, f"{FIT} --max_nb_epochs 3 --resume")
    assert (
        "this command has no run to resume in runs; runs/1, begun by another command, has ended: --resume_from runs/1 with a "
        "higher limit trains it longer; runs/0, begun by another command, was not finished: --resume_from runs/0 continues it; "
        "a new run begins\n"
    ) in longer.err
    found = typed(run, monkeypatch, f"{FIT} --max_nb_epochs 3 --resume_from runs/1 --json")
    assert json.loads(found.out)["epochs_done"] == 3


def test_a_trainer_is_answered_as_a_trainer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for argument in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["train.py", argument])
        Trainer(max_nb_epochs=1, device="cpu", callbacks=[ModelCheckpoint()], resume="auto", quiet=True).fit(
            Linear(), batches(2)
        )
    assert "Trainer(resume='runs/0') with a higher limit trains it longer; a new run begins" in capsys.readouterr().err
