"""Claims about epochs, batches, splits and rounds: each is counted, numbered and complete."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import AFTER_FETCH, IN_EPOCH, Claim, a_limit_is_reached, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState


def no_epoch_has_begun(counters: Counters, ghost: GhostState) -> bool:
    return (
        counters.current_epoch == 0 and counters.epochs_done == 0 and counters.epochs_since_validation == 0
        and counters.batch_nb == 0 and counters.batches_begun == 0 and counters.batches_since_validation == 0
        and counters.gathered == 0 and ghost.epochs_begun == 0 and not counters.epoch_ended_early and not counters.saved
    )  # fmt: skip


def an_epoch_past_the_last_is_under_way(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return not limits.is_past_last_epoch or (
        counters.epochs_done >= limits.epochs and counters.epochs_done == counters.current_epoch and ghost.fetched_in_epoch >= 1
    )


def the_last_epoch_is_not_passed(limits: Limits) -> bool:
    return not limits.is_past_last_epoch


def an_epoch_past_the_last_ends_early(limits: Limits, counters: Counters) -> bool:
    return counters.epoch_ended_early or not limits.is_past_last_epoch


def no_epoch_is_under_way(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0


def a_batch_was_fetched(counters: Counters, ghost: GhostState) -> bool:
    return counters.ending == 1 or ghost.fetched_in_epoch >= 1


def an_epoch_that_is_fetched_first_has_a_batch(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 2 or ghost.batches_left >= 0


def an_epoch_with_a_length_has_a_batch(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return limits.train_is_stream or ghost.fetched_in_epoch == 0 or counters.epoch_batches >= 1


def the_length_at_later_fetches_is_positive(limits: Limits, counters: Counters) -> bool:
    return limits.train_is_stream or counters.batch_nb == 0 or counters.epoch_batches >= 1


def a_stream_signals_its_end(limits: Limits, signals: Signals, ghost: GhostState) -> bool:
    return not limits.train_is_stream or ghost.fetched_in_epoch == 0 or signals.stream_ended == (ghost.batches_left == 0)


def early_stop_comes_before_the_last_batch(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        limits.is_past_last_epoch
        or ghost.fetched_in_epoch == 0
        or (not signals.stream_ended and (counters.epoch_batches <= 0 or counters.batch_nb + 1 < counters.epoch_batches))
    )


def no_batch_is_fetched_too_many(ghost: GhostState) -> bool:
    return ghost.batches_left >= 0


def no_pass_has_begun(counters: Counters) -> bool:
    return counters.eval_nb == 0


def current_epoch_is_not_done(counters: Counters, ghost: GhostState) -> bool:
    return (counters.ending == 1 and ghost.fetched_in_epoch == 0) or counters.current_epoch == counters.epochs_done


def an_epoch_is_in_progress_or_just_done(counters: Counters, ghost: GhostState) -> bool:
    return (ghost.fetched_in_epoch == 0 and counters.epochs_done == counters.current_epoch + 1) or (
        ghost.fetched_in_epoch >= 1 and counters.epochs_done == counters.current_epoch
    )


def an_epoch_in_progress_has_batches_left(limits: Limits, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or ghost.batches_left >= 1 or limits.is_past_last_epoch


def another_batch_is_left(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or ghost.batches_left >= 1


def epochs_done_counts_epochs(counters: Counters, ghost: GhostState) -> bool:
    return counters.epochs_done == ghost.epochs_finished


def current_epoch_is_the_index(counters: Counters, ghost: GhostState) -> bool:
    return counters.current_epoch + 1 == ghost.epochs_begun


def an_epoch_is_left(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        (counters.ending == 1 and ghost.fetched_in_epoch == 0)
        or counters.epochs_done + 1 <= limits.epochs
        or limits.is_past_last_epoch
    )


def an_epoch_under_way_is_left(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or counters.epochs_done + 1 <= limits.epochs or limits.is_past_last_epoch


def epochs_done_is_at_most_max(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.epochs_done >= 0 and (counters.epochs_done <= limits.epochs or counters.epochs_done <= ghost.epochs_before)


def batch_nb_is_the_index(counters: Counters, ghost: GhostState) -> bool:
    return (counters.ending == 1 and ghost.fetched_in_epoch == 0) or (
        counters.batch_nb + 1 == ghost.fetched_in_epoch and counters.batch_nb >= 0
    )


def batch_nb_is_the_index_within_an_epoch(counters: Counters, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or (counters.batch_nb + 1 == ghost.fetched_in_epoch and counters.batch_nb >= 0)


def the_lengths_of_an_epoch_are_counters(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or (
        counters.epoch_val_check_batches == ghost.interval
        and (limits.train_is_stream or counters.epoch_batches == ghost.fetched_in_epoch + ghost.batches_left)
    )  # fmt: skip


def the_lengths_of_a_new_epoch_are_signals(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.batch_nb != 0 or (
        signals.epoch_val_interval == ghost.interval
        and (limits.train_is_stream or signals.epoch_length == ghost.fetched_in_epoch + ghost.batches_left)
    )  # fmt: skip


def the_lengths_stay_in_later_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.batch_nb == 0 or (
        counters.epoch_val_check_batches == ghost.interval
        and (limits.train_is_stream or counters.epoch_batches == ghost.fetched_in_epoch + ghost.batches_left)
    )  # fmt: skip


def an_epoch_that_begins_has_a_batch(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 1 or ghost.batches_left >= 1


def the_epoch_has_more_batches(limits: Limits, ghost: GhostState) -> bool:
    return ghost.batches_left >= 1 or limits.is_past_last_epoch


def the_epoch_has_no_more_batches(ghost: GhostState) -> bool:
    return ghost.batches_left == 0


def the_last_batch_is_known(counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (counters.ending == 1 and ghost.fetched_in_epoch == 0) or (
        (counters.batch_nb + 1 >= counters.epoch_batches and counters.epoch_batches >= 1) or signals.stream_ended
    ) == (ghost.batches_left == 0)  # fmt: skip


def a_stream_has_no_length(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return not limits.train_is_stream or (counters.epoch_batches == 0 and signals.epoch_length == 0)


def stream_ended_is_true_at_the_last_batch(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (counters.ending == 1 and ghost.fetched_in_epoch == 0) or (
        ghost.batches_left >= 0 and (
            (limits.train_is_stream and (signals.stream_ended == (ghost.batches_left == 0)))
            or (not limits.train_is_stream and not signals.stream_ended)
        )
    )  # fmt: skip


def an_epoch_ends_after_its_last_batch_or_early(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (counters.epoch_ended_early and (ghost.batches_left >= 1 or limits.is_past_last_epoch or ghost.is_resumed)) or (
        not counters.epoch_ended_early and ghost.batches_left == 0 and not limits.is_past_last_epoch
    )


def batches_begun_counts_batches(counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_begun == ghost.fetched


def split_and_optimizer_are_in_range(limits: Limits, counters: Counters) -> bool:
    return (
        counters.optimizer_i >= 0 and counters.optimizer_i + 1 <= limits.optimizers
        and counters.split_nb >= 0 and (counters.split_nb == 0 or counters.split_nb + 1 <= counters.batch_splits)
    )  # fmt: skip


def the_batch_is_complete(limits: Limits, counters: Counters) -> bool:
    return counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 >= counters.batch_splits


def round_nb_counts_rounds(counters: Counters, ghost: GhostState) -> bool:
    return counters.round_nb == ghost.rounds


def a_batch_is_saved_once(counters: Counters, ghost: GhostState) -> bool:
    return (counters.saved and ghost.saves_left == 0) or (not counters.saved and ghost.saves_left == 1)


def no_epoch_has_ended_early(counters: Counters) -> bool:
    return not counters.epoch_ended_early


def an_end_is_saved_after_enough_epochs(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.ending == 0 or (
        limits.saves_end and (counters.epochs_done >= limits.min_epochs or a_limit_is_reached(limits, counters, signals))
    )


def ending_is_0_or_1(counters: Counters) -> bool:
    return counters.ending == 0 or counters.ending == 1


def no_end_is_being_saved(counters: Counters) -> bool:
    return counters.ending == 0


def an_end_is_saved_after_an_epoch_or_within_one(counters: Counters, ghost: GhostState) -> bool:
    return (
        (counters.ending == 0 and ghost.fetched_in_epoch >= 1)
        or (counters.ending == 1 and ghost.fetched_in_epoch == 0 and counters.epochs_done == counters.current_epoch + 1)
        or (counters.ending == 1 and ghost.fetched_in_epoch >= 1 and counters.epochs_done == counters.current_epoch)
    )


def an_end_that_is_saved_within_an_epoch_has_batches_left(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.ending == 0 or ghost.fetched_in_epoch == 0 or ghost.batches_left >= 1 or limits.is_past_last_epoch


def the_signals_keep_the_lengths(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.epoch_val_interval == counters.epoch_val_check_batches and (
        limits.train_is_stream or signals.epoch_length == counters.epoch_batches
    )


def the_signals_keep_the_lengths_later(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch <= 1 or the_signals_keep_the_lengths(limits, counters, signals)


EPOCHS: tuple[Claim, ...] = (
    Claim("no epoch has begun before training", no_epoch_has_begun, at={State.START, State.SANITY_VAL}),
    Claim("no pass over val or test loaders has begun at start", no_pass_has_begun, at=State.START),
    Claim("no epoch is under way before training", no_epoch_is_under_way, at={State.START, State.SANITY_VAL}),
    Claim("ending is 0 or 1", ending_is_0_or_1),
    Claim("ending is 1 only in save", no_end_is_being_saved, at=all_except(State.SAVE)),
    Claim("the current epoch is not counted as done", current_epoch_is_not_done, at=IN_EPOCH,
          group="under way"),
    Claim("early_stop is visited within an epoch or right after one", an_epoch_is_in_progress_or_just_done,
          at=State.EARLY_STOP, group="under way"),
    Claim("a batch of the epoch has been fetched", a_batch_was_fetched, at=IN_EPOCH - {State.EPOCH_END},
          group="under way"),
    Claim("a run is saved at its end within an epoch or right after one", an_end_is_saved_after_an_epoch_or_within_one,
          at=State.SAVE, group="under way"),
    Claim("a batch of the epoch that ends has been fetched", a_batch_was_fetched, at=State.EPOCH_END,
          group="under way"),
    Claim("no epoch is under way in the test", no_epoch_is_under_way, at=State.TEST),
    Claim("an epoch beyond max_nb_epochs ends early", an_epoch_past_the_last_ends_early, at=State.EPOCH_END),
    Claim("max_nb_epochs is passed only within the epoch in which a run was resumed", an_epoch_past_the_last_is_under_way,
          at=(IN_EPOCH | {State.EARLY_STOP})),
    Claim("max_nb_epochs is not passed before training", the_last_epoch_is_not_passed, at={State.START, State.SANITY_VAL}),
    Claim("batch_nb is the index of the batch in its epoch, from 0", batch_nb_is_the_index, at=IN_EPOCH),
    Claim("batch_nb is the index of the batch after a validation, too", batch_nb_is_the_index_within_an_epoch,
          at=State.EARLY_STOP),
    Claim("a stream has no length", a_stream_has_no_length),
    Claim("an epoch's length and interval are known when its first batch is fetched", the_lengths_of_a_new_epoch_are_signals,
          at=State.FETCH),
    Claim("an epoch keeps its length and interval at its later fetches", the_lengths_stay_in_later_batches, at=State.FETCH,
          group="lengths"),
    Claim("the signals keep the length and interval of an epoch until the next one begins", the_signals_keep_the_lengths,
          at=AFTER_FETCH | {State.EPOCH_END, State.EARLY_STOP}, resumed=False, group="kept lengths"),
    Claim("the signals keep the length and interval of an epoch at its later fetches", the_signals_keep_the_lengths_later,
          at=State.FETCH, resumed=False, group="kept lengths"),
    Claim("an epoch of a loader with a length has as many batches as that said when it began",
          the_lengths_of_an_epoch_are_counters, at=AFTER_FETCH | {State.EARLY_STOP}, group="lengths"),
    Claim("an epoch that begins has a batch", an_epoch_that_begins_has_a_batch),
    Claim("an epoch whose first batch is fetched has a batch", an_epoch_that_is_fetched_first_has_a_batch, at=State.FETCH),
    Claim("the length of an epoch is at least 1", an_epoch_with_a_length_has_a_batch, at=AFTER_FETCH | {State.EARLY_STOP},
          group="length"),
    Claim("the length of an epoch is at least 1 at its later fetches", the_length_at_later_fetches_is_positive,
          at=State.FETCH, group="length"),
    Claim("a stream signals its end with its last batch", a_stream_signals_its_end,
          at=AFTER_FETCH | {State.EARLY_STOP, State.EPOCH_END}),
    Claim("early_stop is visited within an epoch before its last batch", early_stop_comes_before_the_last_batch,
          at=State.EARLY_STOP),
    Claim("no more batches are fetched than the epoch has", no_batch_is_fetched_too_many,
          at=AFTER_FETCH | {State.FETCH, State.EARLY_STOP, State.EPOCH_END}),
    Claim("another batch is fetched, or an epoch ends early, only if the epoch has one left", the_epoch_has_more_batches,
          at={State.ROUND_END, State.VAL_CHECK}, to={State.FETCH, State.EARLY_STOP}),
    Claim("early_stop is visited within an epoch only if it has batches left", an_epoch_in_progress_has_batches_left,
          at=State.EARLY_STOP),
    Claim("another batch of an epoch is fetched only if it has one left", another_batch_is_left,
          at={State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP}, to=State.FETCH),
    Claim("stream_ended is true exactly at the last batch of a stream", stream_ended_is_true_at_the_last_batch, at=AFTER_FETCH),
    Claim("a batch is known to be its epoch's last exactly if no batch is left", the_last_batch_is_known, at=AFTER_FETCH),
    Claim("batches_begun counts the batches of the run", batches_begun_counts_batches, at=all_except(State.FETCH)),
    Claim("split_nb and optimizer_i stay in range", split_and_optimizer_are_in_range,
          at=AFTER_FETCH | {State.EARLY_STOP, State.EPOCH_END}),
    Claim("all splits and optimizers of a batch are done before a save, a validation, a stop or the end of an epoch",
          the_batch_is_complete, at={State.SAVE, State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP}),
    Claim("all splits and optimizers of a batch are done before the next batch or the epoch's end", the_batch_is_complete,
          at=State.ROUND_END, to={State.FETCH, State.EPOCH_END, State.EARLY_STOP}),
    Claim("round_nb counts the rounds of the run", round_nb_counts_rounds),
    Claim("a batch is saved at most once", a_batch_is_saved_once,
          at=AFTER_FETCH | {State.EPOCH_END, State.EARLY_STOP}),
    Claim("epoch_ended_early is true only once the epoch ends", no_epoch_has_ended_early,
          at=all_except(State.EPOCH_END, State.TEST, State.DONE, State.STOPPED)),
    Claim("a run is saved at its end only after min_nb_epochs, max_steps or max_time, and if it is to be",
          an_end_is_saved_after_enough_epochs, at=State.SAVE),
    Claim("a run is saved at its end within an epoch only if it has batches left",
          an_end_that_is_saved_within_an_epoch_has_batches_left, at=State.SAVE),
    Claim("an epoch is complete after its last batch", the_epoch_has_no_more_batches, at={State.ROUND_END, State.VAL_CHECK},
          to=State.EPOCH_END),
    Claim("an epoch ends after its last batch, or ends early", an_epoch_ends_after_its_last_batch_or_early, at=State.EPOCH_END),
    Claim("epochs_done counts the epochs that were trained to their last batch", epochs_done_counts_epochs),
    Claim("current_epoch is the index of the epoch, from 0", current_epoch_is_the_index, at=IN_EPOCH | {State.EARLY_STOP}),
    Claim("no epoch begins once max_nb_epochs are done", an_epoch_is_left, at=IN_EPOCH, group="epochs left"),
    Claim("no epoch continues once max_nb_epochs are done", an_epoch_under_way_is_left, at=State.EARLY_STOP,
          group="epochs left"),
    Claim("epochs_done is at most max_nb_epochs, or what it was when the run was resumed", epochs_done_is_at_most_max),
)  # fmt: skip
