"""Runs in child processes that kill themselves at a given moment, are resumed, and compared.

All of them are forked from one process that has imported torch and computed nothing, so that hundreds cost seconds.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pickle
import random
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsmtrain import Machine
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.rng import to_plain
from tests.models import TransitionRecorder, same_bits, weights
from tests.resuming.resume_scenarios import Scenario

LOGGED = Path("logged.jsonl")  # the calls of a run's logger, of all its processes
STAGES = ("before its work", "after its work", "after the transition")
Moment = tuple[int, str]  # the visit, from 0, and the stage of it; or the operation on files, and its stage


def import_torch_modules() -> None:
    """Import what torch imports lazily, once here and not in each child. No gradient is computed.

    A process that has computed one cannot be forked and compute others.
    """
    torch.set_num_threads(1)
    layer = torch.nn.Linear(1, 1)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in (torch.optim.Adam(layer.parameters()), torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)):
        optimizer.step()


class UnexpectedExit(Exception):
    """A child process ended in an unexpected way."""


def run_in_child(act: Callable[[], Any], folder: Path, *, kill_after: float | None = None) -> Any:
    """What `act` returns in a process of its own, in a group of its own, in this folder; None where it was killed.

    With `kill_after` it is killed from here after so many seconds, if it has not ended before.
    """
    told = folder.with_suffix(".told")
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)
            os.chdir(folder)
            os.dup2(os.open(folder.with_suffix(".errors"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)  # of workers
            torch.set_num_threads(1)
            warnings.simplefilter("ignore")
            try:
                told.write_bytes(pickle.dumps(act()))
                code = 0
            except BaseException:
                told.write_text(traceback.format_exc())
        os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # its number stays taken until it is reaped below
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # workers that have outlived it
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status != 0:
        raise UnexpectedExit(f"status {status}: {told.read_text() if told.exists() else 'nothing was told'}")
    return pickle.loads(told.read_bytes())


class FileLogger:
    """A logger that keeps its calls in a file, which outlives its process."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Append the call, in one write."""
        with LOGGED.open("a") as file:
            file.write(json.dumps([step, metrics]) + "\n")


def is_recorded(scenario: Scenario) -> Scenario:
    """Return the scenario with a run folder and a logger."""
    return lambda callbacks: scenario(callbacks, runs_dir="runs", logger=FileLogger())


def record(folder: Path | None) -> dict[str, Any]:
    """Return what a run has recorded, without times: each row once, in order, and each call of its logger at least once."""
    if folder is None:
        return {}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with (folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return {
        "metrics.jsonl": [{name: value for name, value in row.items() if name != "time"} for row in rows],
        "metrics.csv": [{name: value for name, value in row.items() if name != "time"} for row in table],
        "calls of the logger": sorted(_logged_values()),
    }


def _logged_values() -> set[tuple[int, str, str]]:
    """Return the step, name and value of all metrics that loggers got. Which of them come in one call depends on time."""
    calls = [json.loads(line) for line in LOGGED.read_text().splitlines()]
    return {(step, name, repr(value)) for step, metrics in calls for name, value in metrics.items()}


def outcome(machine: Machine, visits: TransitionRecorder) -> dict[str, Any]:
    """Return everything that two runs must have in common at their ends."""
    memory = machine._run
    return {
        **record(machine.run_dir),
        "kept": kept_checkpoints(machine),
        "weights": weights(machine.model),
        "optimizers": [optimizer.state_dict() for optimizer in machine.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in machine.lr_schedulers],
        "metrics": machine.result.metrics,
        "progress_bar_metrics": dict(memory.progress_bar_metrics),
        "counters": machine.counters.values(),
        "patience": None if memory.early_stopping is None else (memory.early_stopping.best, memory.early_stopping.wait),
        "random": [torch.get_rng_state(), random.getstate(), to_plain(np.random.get_state())],
        "modes": [module.training for module in machine.model.modules()],
        "reason": machine.stop_reason,
        "events": [str(transition) for transition in visits.seen],
    }


def kept_checkpoints(machine: Machine) -> dict[str, list[int]]:
    """Return the batches of the run, from 1, whose checkpoints are in each folder, if rules say which are kept."""
    if not machine._checkpoints._rules:
        return {}
    folders = machine._checkpoints.folders(machine.run_dir)
    return {folder.name: [about["batches_begun"] for about in Store(folder).metadata().values()] for folder in folders}


def uninterrupted_run(scenario: Scenario) -> dict[str, Any]:
    """Run without being killed; returns the outcome."""
    visits = TransitionRecorder()
    machine = scenario([visits])
    machine.run()
    return outcome(machine, visits)


def resumed_run(scenario: Scenario, *, must: bool) -> dict[str, Any]:
    """Resume the run that was killed, from the start if it had saved nothing; returns the outcome."""
    visits = TransitionRecorder()
    machine = scenario([visits])
    if must or any(Path().glob("checkpoints/0*")) or any(Path().glob("runs/*/checkpoints*/0*")):
        machine.resume()
    machine.run()
    return outcome(machine, visits)


def run_until_killed(scenario: Scenario, moment: Moment) -> int:
    """A run that kills itself, all that it has saved being written; where the moment never comes, the number of its visits."""
    machine = scenario([])
    done = _KillAtMoment(machine, moment)
    machine.run()
    return done.visit


class _KillAtMoment:
    """Counts the visits of a run and kills its process at a given stage of one."""

    def __init__(self, machine: Machine, moment: Moment) -> None:
        self.machine, self.moment = machine, moment
        self.visit = 0
        dispatcher: Dispatcher = machine._dispatcher
        for node in dispatcher._nodes.values():
            node.action = self._around(node.action)
        dispatcher.observer = self._taken

    def _around(self, action: Callable[[], None] | None) -> Callable[[], None]:
        def act() -> None:
            self.come_to(STAGES[0])
            if action is not None:
                action()
            self.come_to(STAGES[1])

        return act

    def _taken(self, _: object) -> None:
        for stage in STAGES:  # the first visit after a rollback has no work, so that its first two stages come only now
            self.come_to(stage)
        self.visit += 1

    def come_to(self, stage: str) -> None:
        """Kill this process if this is the moment."""
        if (self.visit, stage) == self.moment:
            if self.machine._checkpoints._writer is not None:
                self.machine._checkpoints._writer.wait()
            os.kill(os.getpid(), signal.SIGKILL)


def differences(whole: dict[str, Any], resumed: dict[str, Any]) -> list[str]:
    """Return the names of what differs between two runs; the events of the second must be the last ones of the first."""
    found = [name for name in whole if name != "events" and not same_bits(whole[name], resumed[name])]
    last, events = whole["events"][len(whole["events"]) - len(resumed["events"]) :], resumed["events"]
    if last and last[0].startswith("save -> ") and events[0].startswith("early_stop -> "):
        # A run resumed from its end asks again in early_stop whether it ends there, and needs no save to.
        last = [last[0].replace("save", "early_stop", 1), *last[1:]]
    return found + (["events"] if last != events else [])


def empty_folder(folder: Path) -> Path:
    """Empty a folder; returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class KillMatrix:
    """One scenario's row of the matrix: the uninterrupted run, and the killed ones."""

    counted = "visit"

    def __init__(self, name: str, scenario: Scenario, folder: Path) -> None:
        self.name, self.scenario, self.folder = name, is_recorded(scenario), folder / name.replace(" ", "-")
        self.scenario([])  # its guards are read once, here
        self.reference = run_in_child(lambda: uninterrupted_run(self.scenario), empty_folder(self.folder))
        self.visits = len(self.reference["events"])
        self.from_checkpoint = self.tried = 0
        self.wrong: list[str] = []

    def moments(self) -> list[Moment]:
        """Return every stage of every visit."""
        return [(visit, stage) for visit in range(self.visits) for stage in STAGES]

    def run_to(self, moment: Moment) -> Any:
        """Run until this process kills itself at a moment."""
        return run_until_killed(self.scenario, moment)

    def kill(self, moment: Moment) -> None:
        """Kill a run at a moment, resume it, and compare the outcomes."""
        folder = empty_folder(self.folder)
        if run_in_child(lambda: self.run_to(moment), folder) is not None:
            raise UnexpectedExit(f"{self.name}: nothing was killed at {moment}")
        result = run_in_child(lambda: resumed_run(self.scenario, must=False), folder)
        self.tried += 1
        self.from_checkpoint += len(result["events"]) < self.visits
        found = differences(self.reference, result)
        if found:
            self.wrong.append(f"{self.name}: killed {moment[1]}, {self.counted} {moment[0]}: {', '.join(found)} differ")
