"""A run with two workers that signals its process group: ``python -m tests.resuming.signalled_run CONTEXT [SIGNAL WHEN AT]``.

The signal comes *between* two visits, after transition AT; while a batch after that is being *fetched*; right before the AT-th
start of a worker, when others are *starting*; or at *any* time, AT milliseconds after the run's beginning. The state in which
that was is printed, and at its end the outcome is pickled. ``resume`` in the signal's place goes on where it was stopped.
"""

from __future__ import annotations

import multiprocessing.context as mp
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsmtrain import Machine, State
from tests.models import Perceptron, TransitionRecorder
from tests.resuming.kill_and_resume import outcome
from tests.resuming.resume_scenarios import NoisySamples, adam_of, noisy_loader, scenario

WHEN = ("between", "fetched", "starting", "any")
HOLD_FILE = Path("held")  # while there is such a file, no item comes


class HeldSamples(NoisySamples):
    """Samples that wait while a file exists."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        while HOLD_FILE.exists():
            time.sleep(0.01)
        return super().__getitem__(index)


_before_start: Callable[[], None] = lambda: None  # noqa: E731


class _Forked(mp.ForkProcess):
    def start(self) -> None:
        _before_start()
        super().start()


class _Served(mp.ForkServerProcess):
    def start(self) -> None:
        _before_start()
        super().start()


class _Fork(mp.ForkContext):
    Process = _Forked


class _ForkServer(mp.ForkServerContext):
    Process = _Served


CONTEXTS = {"fork": _Fork, "forkserver": _ForkServer}


class SignalSender(TransitionRecorder):
    """Sends the signal and prints the state of the run."""

    def __init__(self, number: signal.Signals, when: str, at: int) -> None:
        super().__init__()
        self._number, self._when, self._at = number, when, at
        self._starts = 0
        self.machine: Machine | None = None

    def send(self) -> None:
        assert self.machine is not None
        print(f"in {self.machine.state} after {len(self.seen)}", flush=True)
        os.killpg(0, self._number)

    def on_transition(self, machine: Any, transition: Any) -> None:
        super().on_transition(machine, transition)
        if len(self.seen) == self._at and self._when == "between":
            self.send()
        if len(self.seen) == self._at and self._when == "fetched":
            HOLD_FILE.touch()
            threading.Thread(target=self._send_when_held, daemon=True).start()

    def _send_when_held(self) -> None:
        before = -1
        while before != len(self.seen):  # a transition takes milliseconds, and no batch comes any more
            before = len(self.seen)
            time.sleep(0.5)
        self.send()
        time.sleep(0.1)
        HOLD_FILE.unlink()

    def count_starts(self) -> None:
        self._starts += 1
        if self._starts == self._at and self._when == "starting":
            self.send()

    def begin(self, machine: Machine) -> None:
        self.machine = machine
        if self._when == "any":
            timer = threading.Timer(self._at / 1000, self.send)
            timer.daemon = True
            timer.start()


def main(context: str, name: str = "SIGTERM", when: str = "", at: str = "0") -> None:
    """Run. A signal ends this program as it ends any other."""
    global _before_start
    torch.set_num_threads(1)
    workers: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": CONTEXTS[context](), "of": HeldSamples}
    make = scenario(lambda: Perceptron(adam_of), noisy_loader(16, **workers), noisy_loader(4, **workers), val_check_interval=4)
    resumes = name == "resume"
    sender = SignalSender(signal.SIGTERM if resumes else signal.Signals[name], when, int(at))
    _before_start = sender.count_starts
    machine = make([sender])
    if resumes and any(machine.checkpoints.glob("0*")):
        machine.resume()
    sender.begin(machine)
    try:
        machine.run()
    except (KeyboardInterrupt, SystemExit):
        assert machine.state is State.STOPPED
        raise
    Path("outcome").write_bytes(pickle.dumps(outcome(machine, sender)))


if __name__ == "__main__":
    main(*sys.argv[1:])
