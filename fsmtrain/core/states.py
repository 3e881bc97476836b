"""The states of a run: a stable vocabulary, in the order in which a run meets them."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a run stands. One visit to a state is one unit of work.

    The eight documented ones do the work; ``start``, ``fetch``, ``round_end``, ``save``, ``epoch_end`` and the final
    ones hold it together. The values are part of the format of traces, plans and checkpoints.
    """

    START = "start"  # once: before anything else
    SANITY_VAL = "sanity_val"  # one validation batch before the first epoch
    FETCH = "fetch"  # one batch from the train loader
    TRAIN_BATCH = "train_batch"  # one forward: one batch (or one split of it), one optimizer
    BACKWARD = "backward"  # its backward
    ACCUMULATE = "accumulate"  # the gradients wait for the rest of their window
    STEP = "step"  # the window is full: clip, step, zero
    ROUND_END = "round_end"  # after an optimizer's turn: the next optimizer, the next split, or what follows a batch
    SAVE = "save"  # one checkpoint
    VAL_CHECK = "val_check"  # one validation batch of a check
    EPOCH_END = "epoch_end"  # schedulers, hooks
    EARLY_STOP = "early_stop"  # goes on or ends
    TEST = "test"  # one test batch
    DONE = "done"  # final: the run came to its end
    STOPPED = "stopped"  # final: a stop request ended it
    ROLLED_BACK = "rolled_back"  # final: numbers were not finite; whoever runs it goes back to a checkpoint, or gives up

    @property
    def is_final(self) -> bool:
        """Whether a run that has entered this state has ended."""
        return self in FINAL

    def __str__(self) -> str:
        return self.value


FINAL = frozenset({State.DONE, State.STOPPED, State.ROLLED_BACK})

# After the visit an autograd graph may be alive; everywhere else a run can be stopped and saved.
HOLDS_GRAPH = frozenset({State.TRAIN_BATCH})
