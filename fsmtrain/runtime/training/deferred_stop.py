"""Defer a stop request that came in the middle of a batch which no checkpoint can hold, to the end of that batch."""

from __future__ import annotations

from collections.abc import Mapping

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Action
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import another_optimizer_follows, another_split_follows
from fsmtrain.runtime.checkpoint_files.codec.codec import encoding_error
from fsmtrain.runtime.run_state import RunComponents, RunState


def batch_has_more_rounds(components: RunComponents, run: RunState, counters: Counters) -> bool:
    """Return whether the batch has another turn after this round: another optimizer's, or of another split."""
    moment = components.spec.limits, counters, run.signals
    return another_optimizer_follows(*moment) or another_split_follows(*moment)


class DeferredStop:
    """Withdraw a stop request at a round's end while the batch cannot be saved, and repeat it when the batch has ended.

    Needed only in a run that saves and whose batches have several rounds.
    """

    def __init__(self, components: RunComponents, run: RunState) -> None:
        self._components, self._run = components, run
        self._is_deferred = False

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the action of `round_end`."""
        end_round, run = actions.get(State.ROUND_END), self._run

        def end_round_and_defer() -> None:
            if end_round is not None:
                end_round()
            if self._is_deferred or run.signals.stop_requested:
                is_within_batch = batch_has_more_rounds(self._components, run, run.counters)
                self._is_deferred = (
                    is_within_batch and encoding_error([run.splits, run.hiddens, run.batch, run.outputs]) is not None
                )
                run.signals.stop_requested = not self._is_deferred

        return {**actions, State.ROUND_END: end_round_and_defer}
