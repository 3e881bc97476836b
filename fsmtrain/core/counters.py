"""The extended state of a run: `Counters`, which effects change, and `Signals`, which come from outside.

Both are plain whole numbers and flags, so that they can be saved, compared and reasoned about.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Literal

from attrs import define, field, fields, frozen

from fsmtrain.renamed import renamed_attributes


@renamed_attributes(
    batches_since_check="batches_since_validation",
    checks_done="validations_done",
    cut="epoch_ended_early",
    epochs_since_checks="epochs_since_validation",
    window="window_length",
)
@define
class Counters:
    """Where a run stands, in numbers. Everything counts from 0; only the effects of the table's rows write here.

    ``*_nb`` and ``*_i`` are indices of what is under way, ``*_done`` count what has finished, ``*_since_*`` start again.
    """

    current_epoch: int = 0
    epochs_done: int = 0
    batch_nb: int = 0  # in its epoch
    batches_begun: int = 0  # in the whole run, the one under way included
    split_nb: int = 0  # in its batch
    optimizer_i: int = 0  # whose turn it is

    window_length: int = 1  # K of this epoch: the backwards in a full window
    gathered: int = 0  # backwards in the window of the optimizer whose turn it is, the one under way included
    open_windows: int = 0  # optimizers that have gathered gradients and not stepped
    stepped: int = 0  # 1 where an optimizer has visited `step` in this round
    global_step: int = 0  # rounds with a visit to `step`
    steps_skipped: int = 0  # visits to `step` that left the weights alone, of all optimizers

    batches_since_validation: int = 0  # begun since the epoch or the last check began
    epochs_since_validation: int = 0  # begun since the last epoch with checks; `val_check_epochs` in one
    validations_done: int = 0
    eval_nb: int = 0  # batches done before this one in the pass over the val or test loaders, all loaders together
    epoch_ended_early: bool = False  # whether the epoch ends before its last batch
    saved: bool = False  # whether this batch's checkpoint has been written

    gathered_by: list[int] = field(factory=lambda: [0])  # `gathered` of each optimizer while others take their turn
    optimizer_steps: list[int] = field(factory=lambda: [0])  # of each optimizer, skipped ones left out

    # Kept only where a guard of the user's may look at them.
    round_nb: int = 0  # of the round under way in the whole run, from 1
    stepped_in: list[int] = field(factory=lambda: [-1])  # the round of each optimizer's last step; -1 before its first

    @classmethod
    def begin(cls, optimizers: int) -> Counters:
        """The counters of a run with this many optimizers before its first state."""
        return cls(gathered_by=[0] * optimizers, optimizer_steps=[0] * optimizers, stepped_in=[-1] * optimizers)

    def values(self) -> tuple[object, ...]:
        """All values, to compare two moments of a run."""
        return _NUMBERS(self), tuple(self.gathered_by), tuple(self.optimizer_steps), tuple(self.stepped_in)

    def copy(self) -> Counters:
        """The counters as they are now; later effects leave the copy alone."""
        return Counters(*[list(value) if type(value) is list else value for value in _ALL(self)])  # type: ignore[arg-type]


_ALL = attrgetter(*(f.name for f in fields(Counters)))
_NUMBERS = attrgetter(*(f.name for f in fields(Counters) if f.type not in (list[int], "list[int]")))


SeenBy = Literal["every rank", "one rank"]


@frozen(kw_only=True)
class SignalInfo:
    """The facts about one signal, the metadata of its field.

    Attributes:
        seen_by: ``"every rank"``: all ranks see the same value; ``"one rank"``: each its own, so the ranks must agree first.
        needs: The flag of `Limits` without which the signal always keeps its default; empty for none.
        lasts: Whether the value stays until an action writes another; if not, it is that of the last visit that can write it.
    """

    seen_by: SeenBy
    needs: str = ""
    lasts: bool = True


def _signal(seen_by: SeenBy, *, needs: str = "", lasts: bool = True) -> dict[str, SignalInfo]:
    return {"info": SignalInfo(seen_by=seen_by, needs=needs, lasts=lasts)}


@define
class Signals:
    """Facts from outside the counters. Actions write here, and nothing else does; guards read.

    The metadata of each field is its `SignalInfo`; which actions write it stands in the row of their state in `states`.
    """

    # the batch in hand is its stream's last
    stream_ended: bool = field(default=False, metadata=_signal("one rank", needs="train_is_stream", lasts=False))
    # of the batch in hand
    splits: int = field(default=1, metadata=_signal("one rank", needs="splits_batches"))
    # the last val or test batch is done
    pass_ended: bool = field(default=False, metadata=_signal("one rank", needs="evaluates_stream", lasts=False))
    # until an improvement
    patience_exhausted: bool = field(default=False, metadata=_signal("every rank", needs="stops_early"))
    # the optimizer did not step
    step_skipped: bool = field(default=False, metadata=_signal("every rank", needs="skips_steps", lasts=False))
    # the window holds an inf or NaN: it must not be stepped, and the run must not continue from it
    nonfinite: bool = field(default=False, metadata=_signal("every rank", needs="rolls_back", lasts=False))
    # by a person or another program
    stop_requested: bool = field(default=False, metadata=_signal("one rank"))
    # enough time has passed since the last save
    save_wanted: bool = field(default=False, metadata=_signal("one rank"))

    def copy(self) -> Signals:
        """The signals as they are now."""
        return Signals(*signal_values(self))


signal_values = attrgetter(*(f.name for f in fields(Signals)))  # all values, to compare two moments of a run


SIGNALS: Mapping[str, SignalInfo] = {f.name: f.metadata["info"] for f in fields(Signals)}
SIGNAL_DEFAULTS: Mapping[str, bool | int] = dict(zip(SIGNALS, signal_values(Signals()), strict=True))
