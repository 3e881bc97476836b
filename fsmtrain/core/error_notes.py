"""Add to an error: the last transitions of its run, as a note; an earlier exception, as its context."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from operator import itemgetter

from fsmtrain.core.trace import Trace, where

MAX_NOTED_TRANSITIONS = 10
_BEGINS = "the last transitions, epochs and batches counted from 0:"


def add_recent_transitions(error: BaseException, trace: Trace) -> None:
    """Add the last transitions to an error as a note, unless an inner run has already added its own."""
    note = recent_transitions(trace)
    if note and not any(other.startswith(_BEGINS) for other in getattr(error, "__notes__", ())):
        error.add_note(note)


def add_first_context(error: BaseException, earlier: BaseException) -> None:
    """Make another exception the one during whose handling this error, with all that led to it, was raised.

    >>> error = ValueError("second")
    >>> add_first_context(error, KeyboardInterrupt("first"))
    >>> error.__context__
    KeyboardInterrupt('first')
    """
    seen = {id(earlier)}
    while error.__context__ is not None and id(error) not in seen:
        seen.add(id(error))
        error = error.__context__
    if id(error) not in seen:
        error.__context__ = earlier


def recent_transitions(trace: Trace, last: int = MAX_NOTED_TRANSITIONS) -> str:
    """Return the last transitions, one line for each position; empty if there were none.

    >>> from fsmtrain.core.dispatcher import Dispatcher
    >>> from fsmtrain.core.counters import Counters, Signals
    >>> from fsmtrain.loop import Loop
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.options import Options
    >>> loop = Loop(Options(accumulate_grad_batches=2, max_nb_epochs=1), Sizes(train=9))
    >>> run = Dispatcher(loop.table, loop.limits, Counters.begin(1), loop.limits.begin_signals(), {})
    >>> for _ in range(9):
    ...     taken = run.advance()
    >>> print(recent_transitions(run.trace))
    the last transitions, epochs and batches counted from 0:
      epoch 0, batch 0, optimizer 0: start -> fetch -> train_batch -> backward -> accumulate -> round_end
      epoch 0, batch 1, optimizer 0: fetch -> train_batch -> backward -> step
    """
    taken = deque(trace, maxlen=last)
    if not taken:
        return ""
    lines = [_BEGINS if trace.total <= last else f"{_BEGINS} ..."]
    visits = [(where(transition), transition.source) for transition in taken]
    visits.append((visits[-1][0], taken[-1].to))
    for place, at_place in groupby(visits, key=itemgetter(0)):
        states = ((state, len(list(group))) for state, group in groupby(at_place, key=itemgetter(1)))
        lines.append(f"  {place}: {' -> '.join(f'{state} x {n}' if n > 1 else str(state) for state, n in states)}")
    return "\n".join(lines)
