"""A run with two workers that a signal is sent to: ``python -m tests.resuming.signalled CONTEXT [resume | AT]``.

It says each transition as it comes, and waits for the signal after transition number AT; at its end it pickles its outcome.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.models import Perceptron, Visits
from tests.resuming.killing import outcome
from tests.resuming.presets import adam, noisy, preset


class Telling(Visits):
    """Says each transition, and waits at one of them, so that the signal comes at no other moment."""

    def __init__(self, waits_at: int) -> None:
        super().__init__()
        self._waits_at = waits_at

    def on_transition(self, machine: Any, transition: Any) -> None:
        super().on_transition(machine, transition)
        print(len(self.seen), flush=True)
        while len(self.seen) == self._waits_at and not machine.interrupt:
            time.sleep(0.01)


def main(context: str, how: str = "") -> int:
    """Run; returns the exit code."""
    torch.set_num_threads(1)
    workers = {"num_workers": 2, "multiprocessing_context": context}
    make = preset(lambda: Perceptron(adam), noisy(16, **workers), noisy(4, **workers), val_check_interval=4)
    visits = Telling(int(how) if how.isdigit() else -1)
    machine = make([visits])
    if how == "resume":
        machine.resume()
    machine.run()
    if machine.interrupt:
        return machine.interrupt.exit_code
    Path("outcome").write_bytes(pickle.dumps(outcome(machine, visits)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
