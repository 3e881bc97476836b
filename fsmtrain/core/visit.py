"""`Visit`: one step of iterating over a loop: what to do now, with the position and scale factors."""

from __future__ import annotations

from attrs import field, frozen

from fsmtrain.core.counters import Signals
from fsmtrain.core.states import State
from fsmtrain.old_names import renamed_attributes


@renamed_attributes(window="gathered")
@frozen(kw_only=True)
class Visit:
    """What to do now, and the position of the run. All positions count from 0.

    Attributes:
        state: The work to do.
        current_epoch, batch_nb, split_nb, optimizer_i, global_step: The position.
        gathered: Backwards in the window of this optimizer so far.
        loss_scale: In `backward`: multiply the loss by it.
        gradient_scale: In `step`: multiply the gradients by it first. Both together make a window's gradient the mean over
            its backwards.
        signals: Write here what the work found: ``visit.signals.stream_ended = True``, ``visit.signals.loss_is_none = True``.
    """

    state: State
    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    global_step: int
    gathered: int
    loss_scale: float
    gradient_scale: float
    signals: Signals = field(eq=False, repr=False)
