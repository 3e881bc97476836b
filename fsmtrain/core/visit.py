"""`Visit`: what whoever iterates over a loop is told at each state."""

from __future__ import annotations

from attrs import field, frozen

from fsmtrain.core.counters import Signals
from fsmtrain.core.states import State
from fsmtrain.renamed import renamed_attributes


@renamed_attributes(window="gathered")
@frozen(kw_only=True)
class Visit:
    """What is to be done now, and where the run stands. All positions count from 0.

    `window` is how many backwards the window of this optimizer holds so far.

    `loss_scale`, in `backward`, is what the loss is multiplied by; `gradient_scale`, in `step`, what the gradients are
    multiplied by before it. Together they make a window's gradient the mean over its backwards. `signals` is where the
    code that does the work says what it found: ``visit.signals.stream_ended = True``.
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
