"""Runs without a model, for the tests of the machines of ``transitions``."""

from __future__ import annotations

from typing import Any

from fsmtrain import Loop, Options, Sizes, State
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Action, Dispatcher
from fsmtrain.core.transition_table import Table


def dispatcher_of(table: Table | None = None, actions: dict[State, Action] | None = None, **flags: Any) -> Dispatcher:
    """Return a run without a model: one epoch of five batches, or the run of another table."""
    loop = Loop(Options(**{"max_nb_epochs": 1, **flags}), Sizes(train=5))
    return Dispatcher(table or loop.table, loop.limits, Counters.begin(1), Signals(), actions or {})
