"""States of the training loop: their stable names, and one row of facts for each, from which everything else derives."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Literal

from attrs import frozen

Kind = Literal["training", "evaluation", "decision", "saving", "structural", "final"]
Place = Literal["before training", "in a batch", "after a batch", "after training", "anywhere"]
EvalPass = Literal["sanity", "val", "test"]


class State(Enum):
    """Where a run stands, in the order in which a run meets the states. One visit is one unit of work.

    The eight documented states do the work; ``start``, ``fetch``, ``round_end``, ``save``, ``epoch_end`` and the final
    ones hold it together. The values are part of the format of traces, plans and checkpoints.
    """

    START = "start"  # once, before anything else
    SANITY_VAL = "sanity_val"  # one validation batch before the first epoch
    FETCH = "fetch"  # one batch from the train loader
    TRAIN_BATCH = "train_batch"  # one forward: one batch (or one split of it), one optimizer
    BACKWARD = "backward"  # the backward of that forward
    ACCUMULATE = "accumulate"  # the gradients wait for the rest of their window
    STEP = "step"  # the window is full: clip, step, zero
    ROUND_END = "round_end"  # after an optimizer's turn: the next optimizer, the next split, or what follows a batch
    SAVE = "save"  # one checkpoint
    VAL_CHECK = "val_check"  # one batch of a validation
    EPOCH_END = "epoch_end"  # schedulers and hooks
    EARLY_STOP = "early_stop"  # continue or end
    TEST = "test"  # one test batch
    DONE = "done"  # final: the run is complete
    STOPPED = "stopped"  # final: a stop request ended the run
    ROLLED_BACK = "rolled_back"  # final: a loss or gradient was not finite; the caller loads a checkpoint or gives up

    @property
    def info(self) -> StateInfo:
        """The facts about this state."""
        return _INFO[self]

    @property
    def is_final(self) -> bool:
        """Whether a run that has entered this state has ended."""
        return self.info.kind == "final"

    def __str__(self) -> str:
        return self.value


@frozen(kw_only=True)
class StateInfo:
    """The facts about one state.

    Attributes:
        kind: What the state is for. Diagrams and reports choose their colours by it; a final state ends the run.
        place: When a run visits it.
        is_central: Whether diagrams place it on their middle line, which leads from ``start`` down to ``done``.
        writes: The signals that its action may write.
        eval_pass: The pass over val or test loaders of which one visit is a batch.
        activity: What a progress line says the run is doing, if it says more than the state's name.
    """

    kind: Kind
    place: Place
    is_central: bool = False
    writes: tuple[str, ...] = ()
    eval_pass: EvalPass | None = None
    activity: str = ""

    @property
    def batch_is_done(self) -> bool:
        """Whether the train batch ``batch_nb`` is complete."""
        return self.place in ("after a batch", "after training")


_evaluation = partial(StateInfo, kind="evaluation", writes=("pass_ended",))

_INFO: Mapping[State, StateInfo] = {
    State.START: StateInfo(kind="structural", place="before training", is_central=True),
    State.SANITY_VAL: _evaluation(place="before training", is_central=True, eval_pass="sanity", activity="trying validation"),
    State.FETCH: StateInfo(kind="structural", place="in a batch", is_central=True, writes=("stream_ended", "splits")),
    State.TRAIN_BATCH: StateInfo(kind="training", place="in a batch", is_central=True, writes=("loss_is_none", "own_steps")),
    State.BACKWARD: StateInfo(kind="training", place="in a batch", is_central=True),
    State.ACCUMULATE: StateInfo(kind="training", place="in a batch"),
    State.STEP: StateInfo(
        kind="training", place="in a batch", is_central=True, writes=("step_skipped", "own_steps", "nonfinite")
    ),
    State.ROUND_END: StateInfo(kind="structural", place="in a batch", is_central=True, writes=("time_is_up",)),
    State.SAVE: StateInfo(kind="saving", place="after a batch"),
    State.VAL_CHECK: _evaluation(
        place="after a batch", writes=("pass_ended", "patience_exhausted"), eval_pass="val", activity="validating"
    ),
    State.EPOCH_END: StateInfo(kind="structural", place="after a batch", is_central=True, writes=("patience_exhausted",)),
    State.EARLY_STOP: StateInfo(kind="decision", place="after a batch", is_central=True),
    State.TEST: _evaluation(place="after training", is_central=True, eval_pass="test", activity="testing"),
    State.DONE: StateInfo(kind="final", place="after training", is_central=True),
    State.STOPPED: StateInfo(kind="final", place="anywhere"),
    State.ROLLED_BACK: StateInfo(kind="final", place="anywhere"),
}
