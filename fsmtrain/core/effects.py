"""What a transition changes: plain functions ``(limits, counters) -> None`` that do nothing but assign to counters.

An effect reads no signal: the trace replays the counters of past transitions from their rows alone.
"""

from __future__ import annotations

from collections.abc import Callable

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits

Effect = Callable[[Limits, Counters], None]


def begin_pass(limits: Limits, counters: Counters) -> None:
    """A pass over the val or test loaders begins."""
    counters.eval_nb = 0


def next_eval_batch(limits: Limits, counters: Counters) -> None:
    """The pass goes on to its next batch, which may be the next loader's first."""
    counters.eval_nb += 1


def begin_validation(limits: Limits, counters: Counters) -> None:
    """A check begins: the count of batches up to the next one starts again."""
    counters.eval_nb = 0
    counters.batches_since_validation = 0


def end_validation(limits: Limits, counters: Counters) -> None:
    """A check has seen all its batches."""
    counters.validations_done += 1


def begin_epoch(limits: Limits, counters: Counters) -> None:
    """The next epoch begins, with its own K and a fresh count up to its first check."""
    counters.current_epoch = counters.epochs_done
    counters.window_length = limits.window_of(counters.current_epoch)
    counters.batch_nb = 0
    counters.batches_since_validation = 0
    if counters.epochs_since_validation == limits.val_check_epochs:
        counters.epochs_since_validation = 0
    counters.epochs_since_validation += 1


def begin_batch(limits: Limits, counters: Counters) -> None:
    """A fetched batch begins with its first split."""
    counters.batches_begun += 1
    counters.batches_since_validation += 1


def next_batch(limits: Limits, counters: Counters) -> None:
    """The epoch goes on to its next batch."""
    counters.batch_nb += 1


def begin_rounds(limits: Limits, counters: Counters) -> None:
    """The batch's first split."""
    counters.split_nb = 0


def next_split(limits: Limits, counters: Counters) -> None:
    """The batch goes on to its next split."""
    counters.split_nb += 1


def begin_round(limits: Limits, counters: Counters) -> None:
    """A pass over the optimizers begins."""
    counters.round_nb += 1


def first_turn(limits: Limits, counters: Counters) -> None:
    """The turn goes to the first optimizer, which finds its window as it left it."""
    counters.gathered_by[counters.optimizer_i] = counters.gathered
    counters.optimizer_i = 0
    counters.gathered = counters.gathered_by[0]


def next_turn(limits: Limits, counters: Counters) -> None:
    """The turn goes to the next optimizer, which finds its window as it left it."""
    counters.gathered_by[counters.optimizer_i] = counters.gathered
    counters.optimizer_i += 1
    counters.gathered = counters.gathered_by[counters.optimizer_i]


def gather(limits: Limits, counters: Counters) -> None:
    """The backward that comes now joins its optimizer's window, and opens it where none is open."""
    if counters.gathered == 0:
        counters.open_windows += 1
    counters.gathered += 1


def close_window(limits: Limits, counters: Counters) -> None:
    """The optimizer has stepped: its window is closed."""
    counters.gathered = 0
    counters.open_windows -= 1
    counters.optimizer_steps[counters.optimizer_i] += 1
    counters.stepped = 1


def note_step(limits: Limits, counters: Counters) -> None:
    """The optimizer has stepped in this round."""
    counters.stepped_in[counters.optimizer_i] = counters.round_nb


def drop_window(limits: Limits, counters: Counters) -> None:
    """The optimizer's step was skipped: its window is closed, and no step is counted."""
    counters.gathered = 0
    counters.open_windows -= 1
    counters.steps_skipped += 1
    counters.stepped = 1


def end_turn(limits: Limits, counters: Counters) -> None:
    """With the last optimizer's turn the round ends: it counts once, however many optimizers stepped in it."""
    if counters.optimizer_i + 1 == limits.optimizers:
        counters.global_step += counters.stepped
        counters.stepped = 0


def mark_saved(limits: Limits, counters: Counters) -> None:
    """This batch's checkpoint is being written."""
    counters.saved = True


def reset_saved(limits: Limits, counters: Counters) -> None:
    """The batch has no checkpoint yet."""
    counters.saved = False


def end_epoch_early(limits: Limits, counters: Counters) -> None:
    """The epoch ends before its last batch."""
    counters.epoch_ended_early = True


def finish_epoch(limits: Limits, counters: Counters) -> None:
    """The epoch has seen all its batches."""
    counters.epochs_done += 1
