"""The extended state of a run: `Counters`, which effects change, and `Signals`, which come from outside.

Both hold only ints, bools and lists of ints, so they can be saved, compared and proved about.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Literal

from attrs import define, field, fields, frozen

from fsmtrain.old_names import renamed_attributes


@renamed_attributes(
    batches_since_check="batches_since_validation",
    checks_done="validations_done",
    cut="epoch_ended_early",
    epochs_since_checks="epochs_since_validation",
    window="window_length",
)
@define
class Counters:
    """The position of a run in numbers, all from 0. Only the effects of the table's rows write here.

    ``*_nb`` and ``*_i`` are the index of the current one, ``*_done`` count what has finished, ``*_since_*`` restart.
    """

    current_epoch: int = 0  # its index
    epochs_done: int = 0  # complete ones, of the whole run
    batch_nb: int = 0  # in its epoch
    batches_begun: int = 0  # in the whole run, the current one included
    split_nb: int = 0  # in its batch
    batch_splits: int = 1  # of the current batch
    optimizer_i: int = 0  # whose turn it is

    epoch_batches: int = 0  # of this epoch, as the loader's length said when it began; 0: a stream
    epoch_val_check_batches: int = 0  # of this epoch: batches from one validation to the next

    window_length: int = 1  # K of this epoch: the backwards in a full window
    gathered: int = 0  # backwards in the window of the optimizer whose turn it is, the current one included
    open_windows: int = 0  # optimizers that have gathered gradients and not stepped
    batches_waited: int = 0  # begun since a stop is due that waits for open windows; from then on not 0
    steps_made: int = 1  # in the last visit to `step`; not 1 only if an `optimizer_step` of the model's own decides by itself
    stepped: int = 0  # 1 if an optimizer has visited `step` in this round
    global_step: int = 0  # rounds with a visit to `step`
    steps_skipped: int = 0  # visits to `step` that left the weights alone, of all optimizers

    batches_since_validation: int = 0  # begun since the epoch or the last validation began
    epochs_since_validation: int = 0  # begun since the last epoch with validations; `val_check_epochs` in such an epoch
    validations_done: int = 0  # complete ones, of the whole run
    eval_nb: int = 0  # batches done before this one in the pass over the val or test loaders, all loaders together
    epoch_ended_early: bool = False  # whether the epoch ends before its last batch
    saved: bool = False  # whether this batch's checkpoint has been written
    ending: int = 0  # 1 while the run is saved where it ends by itself

    gathered_by: list[int] = field(factory=lambda: [0])  # `gathered` of each optimizer during the turns of others
    left_out: list[int] = field(factory=lambda: [0])  # forwards without a loss since the window of each optimizer opened
    optimizer_steps: list[int] = field(factory=lambda: [0])  # of each optimizer, without skipped ones

    # Updated only if there are guards of the user's, which may read them.
    round_nb: int = 0  # of the current round in the whole run, from 1
    stepped_in: list[int] = field(factory=lambda: [-1])  # the round of each optimizer's last step; -1 before its first

    @classmethod
    def begin(cls, optimizers: int) -> Counters:
        """Return the counters of a run with this many optimizers before its first state."""
        none = [0] * optimizers
        return cls(gathered_by=[*none], left_out=[*none], optimizer_steps=[*none], stepped_in=[-1] * optimizers)

    def values(self) -> tuple[object, ...]:
        """Return all values, to compare two moments of a run."""
        return _NUMBERS(self), *map(tuple, _LISTS(self))

    def copy(self) -> Counters:
        """Return a copy that later effects do not change."""
        return Counters(*[list(value) if type(value) is list else value for value in _ALL(self)])  # type: ignore[arg-type]


_ALL = attrgetter(*(f.name for f in fields(Counters)))
_NUMBERS = attrgetter(*(f.name for f in fields(Counters) if f.type not in (list[int], "list[int]")))
_LISTS = attrgetter(*(f.name for f in fields(Counters) if f.type in (list[int], "list[int]")))


SeenBy = Literal["every rank", "one rank"]


@frozen(kw_only=True)
class SignalInfo:
    """The facts about one signal, the metadata of its field.

    A counted signal is an int >= 0 that no guard reads: one `CountedEffect` makes it a counter, and guards read that.

    Attributes:
        seen_by: ``"every rank"``: all ranks see the same value; ``"one rank"``: each its own, so the ranks must agree first.
        needs: The flag of `Limits` without which the signal always keeps its default; empty for none.
        lasts: Whether the value stays until an action writes another; if not, it is that of the last visit that can write it.
        counter: The counter that a counted signal becomes; empty for every other signal.
        tried: The values of a counted signal that the check tries; empty: only the one it begins with.
    """

    seen_by: SeenBy
    needs: str = ""
    lasts: bool = True
    counter: str = ""
    tried: tuple[int, ...] = ()


def _signal(seen_by: SeenBy, **facts: Any) -> dict[str, SignalInfo]:
    return {"info": SignalInfo(seen_by=seen_by, **facts)}


@define
class Signals:
    """Facts from outside the counters. Actions write here, and nothing else does; guards read.

    The metadata of each field is its `SignalInfo`; which actions write it stands in the row of their state in `states`.
    """

    # the fetched batch is its stream's last
    stream_ended: bool = field(default=False, metadata=_signal("one rank", needs="train_is_stream", lasts=False))
    # batches of the epoch that begins, and from one validation to the next in it; guards read the counters
    epoch_length: int = field(default=0, metadata=_signal("every rank", counter="epoch_batches"))
    epoch_val_interval: int = field(default=0, metadata=_signal("every rank", counter="epoch_val_check_batches"))
    # splits of the fetched batch; guards read `Counters.batch_splits`
    splits: int = field(
        default=1, metadata=_signal("one rank", needs="splits_batches", counter="batch_splits", tried=(1, 2, 3))
    )
    # `training_step` returned None: there is nothing to backpropagate
    loss_is_none: bool = field(default=False, metadata=_signal("one rank", needs="may_return_none", lasts=False))
    # the last val or test batch is done
    pass_ended: bool = field(default=False, metadata=_signal("one rank", needs="evaluates_stream", lasts=False))
    # early stopping's patience is exhausted, until an improvement
    patience_exhausted: bool = field(default=False, metadata=_signal("every rank", needs="stops_early"))
    # the optimizer did not step
    step_skipped: bool = field(default=False, metadata=_signal("every rank", needs="skips_steps", lasts=False))
    # steps by the optimizer itself, in this visit to `step`; guards read `Counters.optimizer_steps`
    own_steps: int = field(
        default=1, metadata=_signal("every rank", needs="has_own_step", lasts=False, counter="steps_made", tried=(0, 1))
    )
    # the window holds an inf or NaN: it must not be stepped, and the run must not continue from it
    nonfinite: bool = field(default=False, metadata=_signal("every rank", needs="rolls_back", lasts=False))
    # a stop was requested, by a person or another program
    stop_requested: bool = field(default=False, metadata=_signal("one rank"))
    # `max_time` has passed
    time_is_up: bool = field(default=False, metadata=_signal("one rank", needs="has_max_time"))
    # enough time has passed since the last save
    save_wanted: bool = field(default=False, metadata=_signal("one rank"))

    @classmethod
    def begin(cls, train_batches: int, val_check_batches: int, splits: int = 1) -> Signals:
        """Return the signals of a run before its first state, with the lengths that it expects."""
        return cls(epoch_length=train_batches, epoch_val_interval=val_check_batches, splits=splits)

    def copy(self) -> Signals:
        """Return a copy."""
        return Signals(*signal_values(self))


signal_values = attrgetter(*(f.name for f in fields(Signals)))  # all values, to compare two moments of a run


SIGNALS: Mapping[str, SignalInfo] = {f.name: f.metadata["info"] for f in fields(Signals)}
SIGNAL_DEFAULTS: Mapping[str, bool | int] = dict(zip(SIGNALS, signal_values(Signals()), strict=True))
