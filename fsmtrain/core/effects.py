"""Effects: what a transition changes, as plain functions ``(limits, counters) -> None`` that only assign to counters.

An effect reads no signal, so the trace can replay the counters of past transitions from their rows. The one exception is a
`CountedEffect`, which reads one counted signal: the trace keeps the value beside the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from attrs import frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits

Effect = Callable[[Limits, Counters], None]


@frozen
class CountedEffect:
    """The one effect that reads a counted signal: a number from outside becomes a counter here, and nowhere else.

    Attributes:
        function: The effect itself; it reads no other signal.
        signal: The name of the signal.
        once_an_epoch: Whether it does nothing but at the epoch's first batch, so that it need not be applied at others.
    """

    function: Callable[[Limits, Counters, Signals], None]
    signal: str
    once_an_epoch: bool = False

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", self.signal)


AnyEffect = Effect | CountedEffect


def bind(effect: AnyEffect, signals: Signals) -> Effect:
    """Return an effect of two arguments; one that counts a signal finds it in this record."""
    if not isinstance(effect, CountedEffect):
        return effect
    function = effect.function
    return lambda limits, counters: function(limits, counters, signals)


def apply_effects(effects: Iterable[AnyEffect], limits: Limits, counters: Counters, signals: Signals) -> None:
    """Apply the effects of one row in their order."""
    for effect in effects:
        bind(effect, signals)(limits, counters)


def begin_pass(limits: Limits, counters: Counters) -> None:
    """Begin a pass over the val or test loaders."""
    counters.eval_nb = 0


def next_eval_batch(limits: Limits, counters: Counters) -> None:
    """Continue with the next batch of the pass, which may be the first one of the next loader."""
    counters.eval_nb += 1


def begin_validation(limits: Limits, counters: Counters) -> None:
    """Begin a validation: the count of batches up to the next one restarts."""
    counters.eval_nb = 0
    counters.batches_since_validation = 0


def end_validation(limits: Limits, counters: Counters) -> None:
    """Count a finished validation."""
    counters.validations_done += 1


def begin_epoch(limits: Limits, counters: Counters) -> None:
    """Begin the next epoch, with its own K and a new count of batches up to its first validation."""
    counters.current_epoch = counters.epochs_done
    counters.window_length = limits.window_of(counters.current_epoch)
    counters.batch_nb = 0
    counters.batches_since_validation = 0
    if counters.epochs_since_validation >= limits.val_check_epochs:
        counters.epochs_since_validation = 0
    counters.epochs_since_validation += 1


@partial(CountedEffect, signal="epoch_length", once_an_epoch=True)
def count_train_batches(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Set the length of the epoch, once its first batch has been fetched."""
    if counters.batch_nb == 0:
        counters.epoch_batches = signals.epoch_length


@partial(CountedEffect, signal="epoch_val_interval", once_an_epoch=True)
def count_val_check_batches(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Set the epoch's interval between validations, once its first batch has been fetched."""
    if counters.batch_nb == 0:
        counters.epoch_val_check_batches = signals.epoch_val_interval


@partial(CountedEffect, signal="splits")
def count_splits(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Set the number of splits of the fetched batch."""
    counters.batch_splits = signals.splits


def begin_batch(limits: Limits, counters: Counters) -> None:
    """Begin a fetched batch."""
    counters.batches_begun += 1
    counters.batches_since_validation += 1


def next_batch(limits: Limits, counters: Counters) -> None:
    """Continue with the next batch of the epoch."""
    counters.batch_nb += 1


def wait_for_windows(limits: Limits, counters: Counters) -> None:
    """Count the batch that comes next as one for which a stop waits. The stop stays due from here on."""
    counters.batches_waited += 1


def begin_rounds(limits: Limits, counters: Counters) -> None:
    """Begin with the first split of the batch."""
    counters.split_nb = 0


def next_split(limits: Limits, counters: Counters) -> None:
    """Continue with the next split of the batch."""
    counters.split_nb += 1


def begin_round(limits: Limits, counters: Counters) -> None:
    """Begin a pass over the optimizers."""
    counters.round_nb += 1


def first_turn(limits: Limits, counters: Counters) -> None:
    """Give the turn to the first optimizer, and put back its window."""
    counters.gathered_by[counters.optimizer_i] = counters.gathered
    counters.optimizer_i = 0
    counters.gathered = counters.gathered_by[0]


def next_turn(limits: Limits, counters: Counters) -> None:
    """Give the turn to the next optimizer, and put back its window."""
    counters.gathered_by[counters.optimizer_i] = counters.gathered
    counters.optimizer_i += 1
    counters.gathered = counters.gathered_by[counters.optimizer_i]


def gather(limits: Limits, counters: Counters) -> None:
    """Add the backward that comes now to its optimizer's window, and open the window if none is open."""
    if counters.gathered == 0:
        counters.open_windows += 1
    counters.gathered += 1


def leave_out(limits: Limits, counters: Counters) -> None:
    """Note a forward without a loss, if its optimizer has a window open: the window may turn out shorter than foreseen."""
    if counters.gathered >= 1:
        counters.left_out[counters.optimizer_i] += 1


def reset_left_out(limits: Limits, counters: Counters) -> None:
    """Forget the forwards without a loss: the window closes."""
    counters.left_out[counters.optimizer_i] = 0


@partial(CountedEffect, signal="own_steps")
def count_own_steps(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Take over the number of steps that the model has made by itself: its own ``optimizer_step``, or ``training_step``."""
    counters.steps_made = signals.own_steps


def add_manual_steps(limits: Limits, counters: Counters) -> None:
    """Count the steps that ``training_step`` has made by itself. Each of them counts in `global_step`."""
    counters.optimizer_steps[counters.optimizer_i] += counters.steps_made
    counters.stepped = counters.steps_made


def close_window(limits: Limits, counters: Counters) -> None:
    """Close the window of an optimizer that has visited `step`."""
    counters.gathered = 0
    counters.open_windows -= 1
    counters.optimizer_steps[counters.optimizer_i] += counters.steps_made
    counters.stepped = 1


def note_step(limits: Limits, counters: Counters) -> None:
    """Note the round, if the optimizer has stepped in it."""
    if counters.steps_made >= 1:
        counters.stepped_in[counters.optimizer_i] = counters.round_nb


def drop_window(limits: Limits, counters: Counters) -> None:
    """Close the window of an optimizer whose step was skipped, without counting a step of it."""
    counters.gathered = 0
    counters.open_windows -= 1
    counters.steps_skipped += 1
    counters.stepped = 1


def end_turn(limits: Limits, counters: Counters) -> None:
    """End an optimizer's turn; the last one ends the round, which counts once, however many optimizers stepped in it.

    With manual optimization, every step counts.
    """
    if counters.optimizer_i + 1 == limits.optimizers:
        counters.global_step += counters.stepped
        counters.stepped = 0


def mark_saved(limits: Limits, counters: Counters) -> None:
    """Note that this batch's checkpoint is being written."""
    counters.saved = True


def begin_end_save(limits: Limits, counters: Counters) -> None:
    """Note that the run is being saved where it ends."""
    counters.saved = True
    counters.ending = 1


def finish_end_save(limits: Limits, counters: Counters) -> None:
    """Note that the run has been saved where it ends."""
    counters.ending = 0


def reset_saved(limits: Limits, counters: Counters) -> None:
    """Note that the batch has no checkpoint yet."""
    counters.saved = False


def end_epoch_early(limits: Limits, counters: Counters) -> None:
    """Note that the epoch ends before its last batch."""
    counters.epoch_ended_early = True


def finish_epoch(limits: Limits, counters: Counters) -> None:
    """Count a complete epoch."""
    counters.epochs_done += 1
