"""Kills during the writing of a checkpoint: at each file operation of the background writer.

The run goes on meanwhile, so that the newest checkpoint may be of any moment before.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from fsmtrain import Guards, ModelCheckpoint
from fsmtrain.runtime.checkpoint_files.files import Files
from tests.models import Perceptron
from tests.resuming.kill_and_resume import KillMatrix, Moment, empty_folder, run_in_child
from tests.resuming.resume_scenarios import (
    WeightedMetrics,
    adam_of,
    noisy_loader,
    scenario,
    several_rules,
    sgd_with_momentum,
    shuffled_loader,
)

STAGES = ("before", "after half of")  # an operation; half of one is a write of half of its bytes

# Rows of the matrix. None of their checkpoints is left out for a newer one, so that all runs make the same operations.
WRITING_SCENARIOS = {
    "plain, at each write": scenario(
        lambda: Perceptron(sgd_with_momentum),
        shuffled_loader(10, drop_last=True),
        guards=Guards(),
        callbacks=lambda: [ModelCheckpoint(every_n_batches=2, save_top_k=2)],
    ),
    "several rules, at each write": scenario(
        WeightedMetrics,
        shuffled_loader(8),
        shuffled_loader(5),
        val_check_interval=2,
        max_nb_epochs=1,
        guards=Guards(),
        callbacks=several_rules,
    ),
    "random augmentation, at each write": scenario(lambda: Perceptron(adam_of), noisy_loader(6), max_nb_epochs=1),
}


class WritingKillMatrix(KillMatrix):
    """A row whose runs are killed by what is written."""

    counted = "operation"

    def moments(self) -> list[Moment]:
        """Before each operation on files, and in the middle of each write."""
        made: list[str] = run_in_child(lambda: self._run_with(_Operations(None)), empty_folder(self.folder))
        return [(i, stage) for i, name in enumerate(made) for stage in STAGES if stage == STAGES[0] or name == "write"]

    def run_to(self, moment: Moment) -> Any:
        """Run in a process that kills itself at an operation."""
        return self._run_with(_Operations(moment))

    def _run_with(self, operations: _Operations) -> list[str]:
        operations.watch()
        self.scenario([]).run()
        return operations.made


class _Operations:
    """Writes down every operation on files in this process, and kills it at one of them."""

    def __init__(self, moment: Moment | None) -> None:
        self.made: list[str] = []
        self._moment = moment

    def watch(self) -> None:
        """Begin, for as long as this process lives."""
        for name, method in list(vars(Files).items()):
            if callable(method):
                setattr(Files, name, self._around(name, method))

    def _around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def operation(files: Files, *given: Any) -> Any:
            i = len(self.made)
            self.made.append(name)
            if (i, STAGES[1]) == self._moment:
                handle, data = given
                method(files, handle, data[: len(data) // 2])
            if self._moment is not None and self._moment[0] == i:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(files, *given)

        return operation
