"""A run with two workers that a signal is sent to: ``python -m tests.resuming.signalled CONTEXT [resume] [outcome]``.

It says each transition as it comes, so that whoever sends the signal can choose the moment; at its end it pickles its outcome.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from tests.models import Perceptron, Visits
from tests.resuming.killing import outcome
from tests.resuming.presets import adam, noisy, preset


class Telling(Visits):
    """Says each transition."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        super().on_transition(machine, transition)
        print(len(self.seen), flush=True)


def main(context: str, *how: str) -> int:
    """Run; returns the exit code."""
    torch.set_num_threads(1)
    workers = {"num_workers": 2, "multiprocessing_context": context}
    make = preset(lambda: Perceptron(adam), noisy(16, **workers), noisy(4, **workers), val_check_interval=4)
    visits = Telling()
    machine = make([visits])
    if "resume" in how:
        machine.resume()
    machine.run()
    if machine.interrupt:
        return machine.interrupt.exit_code
    Path("outcome").write_bytes(pickle.dumps(outcome(machine, visits)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
