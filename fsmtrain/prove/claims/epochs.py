"""Claims about epochs, batches and turns: each is counted, numbered and complete."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import AFTER_FETCH, IN_EPOCH, IN_ROUND, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState


def no_epoch_has_begun(counters: Counters, ghost: GhostState) -> bool:
    return (
        counters.current_epoch == 0 and counters.epochs_done == 0 and counters.epochs_since_validation == 0
        and counters.batch_nb == 0 and counters.batches_begun == 0 and counters.batches_since_validation == 0
        and counters.gathered == 0 and ghost.epochs_begun == 0 and not counters.epoch_ended_early and not counters.saved
    )  # fmt: skip


def no_pass_has_begun(counters: Counters) -> bool:
    return counters.eval_nb == 0


def the_epoch_is_under_way(counters: Counters) -> bool:
    return counters.current_epoch == counters.epochs_done


def an_epoch_is_under_way_or_finished(counters: Counters, ghost: GhostState) -> bool:
    return (ghost.fetched_in_epoch == 0 and counters.epochs_done == counters.current_epoch + 1) or (
        ghost.fetched_in_epoch >= 1 and counters.epochs_done == counters.current_epoch
    )


def an_epoch_under_way_has_batches_left(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or ghost.batches_left >= 1


def epochs_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.epochs_done == ghost.epochs_finished


def epochs_are_numbered(counters: Counters, ghost: GhostState) -> bool:
    return counters.current_epoch + 1 == ghost.epochs_begun


def another_epoch_is_due(limits: Limits, counters: Counters) -> bool:
    return counters.epochs_done + 1 <= limits.epochs


def epochs_are_at_most_max(limits: Limits, counters: Counters) -> bool:
    return counters.epochs_done >= 0 and counters.epochs_done <= limits.epochs


def batches_are_numbered(counters: Counters, ghost: GhostState) -> bool:
    return counters.batch_nb + 1 == ghost.fetched_in_epoch and counters.batch_nb >= 0


def a_sized_epoch_has_its_batches(limits: Limits, ghost: GhostState) -> bool:
    return limits.train_is_stream or ghost.fetched_in_epoch + ghost.batches_left == limits.train_batches


def a_stream_ends_with_its_last_batch(limits: Limits, signals: Signals, ghost: GhostState) -> bool:
    return ghost.batches_left >= 0 and (
        (limits.train_is_stream and (signals.stream_ended == (ghost.batches_left == 0)))
        or (not limits.train_is_stream and not signals.stream_ended)
    )


def an_epoch_ends_with_its_last_batch_or_is_cut(counters: Counters, ghost: GhostState) -> bool:
    return (counters.epoch_ended_early and ghost.batches_left >= 1) or (
        not counters.epoch_ended_early and ghost.batches_left == 0
    )


def batches_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_begun == ghost.fetched


def turns_are_in_range(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return (
        counters.optimizer_i >= 0 and counters.optimizer_i + 1 <= limits.optimizers
        and counters.split_nb >= 0 and counters.split_nb + 1 <= signals.splits
    )  # fmt: skip


def the_batch_is_complete(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 == signals.splits


def rounds_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.round_nb == ghost.rounds


def a_batch_is_saved_once(counters: Counters, ghost: GhostState) -> bool:
    return (counters.saved and ghost.saves_left == 0) or (not counters.saved and ghost.saves_left == 1)


EPOCHS: tuple[Claim, ...] = (
    Claim("a run begins before any epoch", no_epoch_has_begun, frozenset({State.START, State.SANITY_VAL})),
    Claim("... and before any pass", no_pass_has_begun, frozenset({State.START})),
    Claim("an epoch is not counted as done while it is under way", the_epoch_is_under_way, IN_EPOCH),
    Claim("early_stop is visited within an epoch or right after one", an_epoch_is_under_way_or_finished,
          frozenset({State.EARLY_STOP})),
    Claim("batch_nb is the batch's index in its epoch", batches_are_numbered, IN_EPOCH),
    Claim("a sized epoch has train_batches batches", a_sized_epoch_has_its_batches, IN_EPOCH),
    Claim("an epoch goes on as long as there are batches", a_stream_ends_with_its_last_batch, AFTER_FETCH),
    Claim("batches_begun counts the batches of the run", batches_are_counted, all_except(State.FETCH)),
    Claim("split_nb and optimizer_i stay within their ranges", turns_are_in_range, IN_ROUND),
    Claim("a batch's splits and optimizers are all done before it is saved or followed by a check", the_batch_is_complete,
          frozenset({State.SAVE, State.VAL_CHECK})),
    Claim("... and before its epoch ends or goes on", the_batch_is_complete, frozenset({State.ROUND_END}),
          frozenset({State.FETCH, State.EPOCH_END, State.EARLY_STOP})),
    Claim("round_nb counts the rounds", rounds_are_counted),
    Claim("a batch has at most one checkpoint", a_batch_is_saved_once, AFTER_FETCH),
    Claim("an epoch ends after its last batch, or is cut", an_epoch_ends_with_its_last_batch_or_is_cut,
          frozenset({State.EPOCH_END})),
    Claim("epochs_done counts the epochs whose last batch has been trained", epochs_are_counted),
    Claim("within an epoch, current_epoch is its index from 0", epochs_are_numbered, IN_EPOCH),
    Claim("... within one only where batches are left", an_epoch_under_way_has_batches_left, frozenset({State.EARLY_STOP})),
    Claim("no epoch begins after the last of max_nb_epochs", another_epoch_is_due, IN_EPOCH),
    Claim("epochs_done <= max_nb_epochs", epochs_are_at_most_max),
)  # fmt: skip
