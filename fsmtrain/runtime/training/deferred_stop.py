"""A stop asked for in the middle of a batch that no checkpoint can hold: it waits for the end of the batch."""

from __future__ import annotations

from collections.abc import Callable

from fsmtrain.core.counters import Counters
from fsmtrain.core.guards import another_optimizer_follows, another_split_follows
from fsmtrain.runtime.checkpoint_files.codec.codec import encoding_error
from fsmtrain.runtime.run_state import RunComponents, RunState


def batch_has_more_rounds(parts: RunComponents, memory: RunState, counters: Counters) -> bool:
    """Whether the batch in hand has another turn, when a round has ended: another optimizer's, or of another split."""
    given = parts.loop.limits, counters, memory.signals
    return another_optimizer_follows(*given) or another_split_follows(*given)


class DeferredStop:
    """The action of a round's end in a run that saves and whose batches have several rounds.

    Args:
        parts: What the run is made of.
        memory: What it remembers.
        end_round: What else is done there.
    """

    def __init__(self, parts: RunComponents, memory: RunState, end_round: Callable[[], None] | None) -> None:
        self._parts, self._memory, self._end_round = parts, memory, end_round
        self._waits = False

    def visit(self) -> None:
        """Take a request back while the batch cannot be saved, and make it again when it has ended."""
        if self._end_round is not None:
            self._end_round()
        memory = self._memory
        if not (self._waits or memory.signals.stop_requested):
            return
        is_within = batch_has_more_rounds(self._parts, memory, memory.counters)
        self._waits = is_within and encoding_error([memory.splits, memory.hiddens]) is not None
        memory.signals.stop_requested = not self._waits
