"""A pytest plugin that drops the action of one state: ``pytest -p tests.planted_faults.drop_action --drop-action step``.

The run then visits the state without doing its work. A test that fails has detected it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback, Guards, every_n_batches
from fsmtrain.core.states import State
from fsmtrain.runtime.actions import Actions
from tests.models import Adversaries, batches, machine_of

ROOT = Path(__file__).parent.parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--drop-action", type=State, metavar="STATE", help="do not do the work of this state in any run")


def pytest_configure(config: pytest.Config) -> None:
    """Drop the action, if requested."""
    state: State | None = config.getoption("--drop-action")
    if state is not None:
        drop_action(state)


def drop_action(state: State) -> None:
    """Drop this state's action in every machine that this process builds from now on."""
    original = Actions.__init__

    def init(self: Actions, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.by_state.pop(state, None)

    Actions.__init__ = init  # type: ignore[method-assign]


def working_states() -> tuple[State, ...]:
    """Return the states that have work to do in a run with everything on."""

    class Everything(Adversaries):
        validation_step = test_step = lambda self, batch, batch_nb: {"val_loss": self.generator_loss(batch)}

    class Ending(Callback):
        def on_batch_end(self, machine: Any) -> None:
            """Give round_end something to do."""

    data = batches(2)
    guards, callbacks = Guards(save=every_n_batches(1)), [Ending()]
    machine = machine_of(Everything(), data, data, data, guards=guards, callbacks=callbacks, early_stop_callback=True)
    return tuple(state for state in State if state in machine._actions.by_state)


def dropped_action_is_noticed(state: State) -> bool:
    """Return whether a test of the runtime fails if this state's work is not done."""
    plugins = ("-p", "no:xdist", "-p", "no:cacheprovider", "-p", __name__)
    tests = ("tests/laws/test_same_bits_as_by_hand.py", "tests/test_trainer.py", "tests/runtime")
    command = (sys.executable, "-m", "pytest", "-q", "-x", *plugins, "--drop-action", state.value, *tests)
    status = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return status == pytest.ExitCode.TESTS_FAILED
