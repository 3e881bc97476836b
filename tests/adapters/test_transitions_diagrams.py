"""The diagrams that the library `transitions` itself draws of a run: complete, and the same bytes each time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diagrams.make import CONFIGURATIONS
from fsmtrain.adapters.transitions import RunMachine, as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.loop import Loop
from tests.adapters.bare_runs import dispatcher_of

ROOT = Path(__file__).parent.parent.parent

each_configuration = pytest.mark.parametrize("loop", CONFIGURATIONS.values(), ids=list(CONFIGURATIONS))


def machine_of(loop: Loop) -> RunMachine:
    """Return a run of a loop without a model."""
    counters, signals = Counters.begin(loop.limits.optimizers), Signals(splits=loop.spec.splits)
    return as_transitions(Dispatcher(loop.table, loop.limits, counters, signals, {}))


def drawn(machine: RunMachine) -> str:
    """Return its diagram as Mermaid text."""
    return str(machine.get_graph().draw(None))


def views(loop: Loop) -> list[str]:
    """Return a loop's diagrams: at the start, some transitions later, and of the region of interest only."""
    machine = machine_of(loop)
    texts = [drawn(machine)]
    for _ in range(9):
        machine.model.advance()
    return [*texts, drawn(machine), str(machine.model.get_graph(show_roi=True).draw(None))]


def digest() -> str:
    """Return one hash of the diagrams of all configurations."""
    texts = [text for loop in CONFIGURATIONS.values() for text in views(loop)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@each_configuration
def test_each_row_is_an_edge_with_its_guards(loop: Loop) -> None:
    lines = [line.strip() for line in drawn(machine_of(loop)).splitlines()]
    edges = dict(line.split(": ", 1) for line in lines if "-->" in line and ": " in line)
    assert {f"{row.source} --> {row.to}" for row in loop.table} == set(edges)
    assert sum(label.count("advance") for label in edges.values()) == len(loop.table)
    for row in loop.table:
        asked = [*([] if row.when is None else [guard_name(row.when)]), *(f"!{guard_name(guard)}" for guard in row.unless)]
        label = f"advance [{' & '.join(asked)}]" if asked else "advance"
        assert label in edges[f"{row.source} --> {row.to}"].split(" | ")
    assert {f'state "{state}" as {state}' for state in loop.table.states} <= set(lines)


@each_configuration
def test_drawing_twice_gives_the_same_bytes(loop: Loop) -> None:
    machine = machine_of(loop)
    assert drawn(machine).encode() == drawn(machine).encode()
    assert views(loop) == views(loop)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_draws_the_same_bytes(seed: str) -> None:
    code = "from tests.adapters.test_transitions_diagrams import digest; print(digest())"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == digest()


@pytest.fixture(name="machine")
def windows_of_two() -> RunMachine:
    """Return a machine of a run with windows of two batches, without a model."""
    return as_transitions(dispatcher_of(accumulate_grad_batches=2))


def test_the_diagram_has_the_names_of_states_and_guards(machine: RunMachine) -> None:
    for _ in range(4):
        machine.model.advance()
    drawn = str(machine.model.get_graph().draw(None))
    assert "backward --> accumulate: advance [!step_is_due]" in drawn
    assert "[*] --> start" in drawn
    assert "Class accumulate s_active" in drawn
    assert drawn == str(machine.get_graph().draw(None))


def test_the_diagram_of_a_run_in_progress_still_begins_at_start() -> None:
    dispatcher = dispatcher_of()
    for _ in range(4):
        dispatcher.advance()
    machine = as_transitions(dispatcher, title="a run under way")
    assert machine.model.state == dispatcher.state.value == "step"
    drawn = str(machine.model.get_graph().draw(None))
    assert "[*] --> start" in drawn
    assert "Class step s_active" in drawn
    assert "a run under way" in drawn
