"""Claims about windows and steps: each backward is in exactly one step, which comes when it is due."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import IN_EPOCH, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState


def the_window_is_that_of_the_epoch(counters: Counters, ghost: GhostState) -> bool:
    return counters.window_length == ghost.epoch_window and counters.window_length >= 1


def nothing_is_negative(counters: Counters, ghost: GhostState) -> bool:
    return ghost.pending >= 0 and counters.gathered >= 0 and counters.gathered_by[ghost.watched_i] >= 0


def gathered_is_what_waits(counters: Counters, ghost: GhostState) -> bool:
    return (counters.optimizer_i == ghost.watched_i and counters.gathered == ghost.pending) or (
        counters.optimizer_i != ghost.watched_i and counters.gathered_by[ghost.watched_i] == ghost.pending
    )


def the_backward_under_way_is_gathered(counters: Counters, ghost: GhostState) -> bool:
    return counters.gathered >= 1 and (counters.optimizer_i != ghost.watched_i or ghost.pending >= 1)


def open_windows_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.open_windows == ghost.open_windows


def an_open_window_is_among_them(counters: Counters, ghost: GhostState) -> bool:
    return (
        ghost.open_windows >= 0 and (ghost.pending == 0 or ghost.open_windows >= 1)
        and (counters.optimizer_i == ghost.watched_i or counters.gathered == 0 or ghost.open_windows >= 1)
        and (counters.optimizer_i == ghost.watched_i or counters.gathered == 0 or ghost.pending == 0 or ghost.open_windows >= 2)
    )  # fmt: skip


def no_window_is_left_open(ghost: GhostState) -> bool:
    return ghost.pending == 0


def a_cut_is_allowed(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return not counters.epoch_ended_early or (
        counters.open_windows == 0 and ghost.pending == 0 and counters.epochs_done >= limits.min_epochs
    )


def a_window_has_room(counters: Counters, ghost: GhostState) -> bool:
    return ghost.pending + 1 <= counters.window_length


def a_window_is_at_most_full(counters: Counters, ghost: GhostState) -> bool:
    return ghost.pending + 1 <= counters.window_length or (
        counters.optimizer_i == ghost.watched_i and ghost.pending == counters.window_length
    )


def windows_of_one_are_never_left_open(ghost: GhostState) -> bool:
    return not ghost.never_accumulates or ghost.pending == 0


def no_window_crosses_an_epoch(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 2 or ghost.pending == 0


def no_window_is_open_between_epochs(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 1 or ghost.pending == 0


def the_last_round_leaves_no_window(counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        ghost.batches_left >= 1
        or counters.split_nb + 1 < signals.splits
        or counters.optimizer_i < ghost.watched_i
        or ghost.pending == 0
    )


def a_step_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.gathered == counters.window_length or (
        (counters.batch_nb + 1 == limits.train_batches or signals.stream_ended) and counters.split_nb + 1 == signals.splits
    )


def no_step_is_due(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        counters.gathered != counters.window_length
        and (
            (counters.batch_nb + 1 != limits.train_batches and not signals.stream_ended)
            or counters.split_nb + 1 != signals.splits
        )
    )  # fmt: skip


def the_last_backward_is_stepped(counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return ghost.batches_left >= 1 or counters.split_nb + 1 < signals.splits


def steps_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.optimizer_steps[ghost.watched_i] == ghost.steps and counters.steps_skipped == ghost.skipped


def the_last_step_is_noted(counters: Counters, ghost: GhostState) -> bool:
    return counters.stepped_in[ghost.watched_i] == ghost.last_step


def the_round_has_stepped(counters: Counters, ghost: GhostState) -> bool:
    return (counters.stepped == 1 and ghost.stepped) or (counters.stepped == 0 and not ghost.stepped)


def global_step_is_the_rounds_with_a_step(counters: Counters, ghost: GhostState) -> bool:
    return counters.global_step == ghost.rounds_with_step


ACCUMULATION: tuple[Claim, ...] = (
    Claim("window is the K of the epoch, at least 1", the_window_is_that_of_the_epoch, IN_EPOCH),
    Claim("no window holds less than nothing", nothing_is_negative),
    Claim("each backward waits in the window of its optimizer", gathered_is_what_waits),
    Claim("a step takes all backwards since the last one, at least one", the_backward_under_way_is_gathered,
          frozenset({State.BACKWARD, State.ACCUMULATE, State.STEP})),
    Claim("open_windows counts the optimizers with a window open", open_windows_are_counted),
    Claim("a window that is open is counted", an_open_window_is_among_them),
    Claim("an optimizer's last backward of an epoch is stepped, not accumulated", the_last_backward_is_stepped,
          frozenset({State.ACCUMULATE})),
    Claim("with it, its window is closed", the_last_round_leaves_no_window,
          frozenset({State.ROUND_END, State.SAVE, State.VAL_CHECK})),
    Claim("an epoch is cut only with no window open, and after min_nb_epochs", a_cut_is_allowed),
    Claim("no window is open when an epoch ends", no_window_is_left_open, frozenset({State.EPOCH_END})),
    Claim("nor between two epochs", no_window_is_open_between_epochs, frozenset({State.EARLY_STOP})),
    Claim("nor before an epoch or when the run ends by itself", no_window_is_left_open,
          frozenset({State.START, State.SANITY_VAL, State.TEST, State.DONE})),
    Claim("no window crosses an epoch", no_window_crosses_an_epoch, frozenset({State.FETCH})),
    Claim("before a backward its window holds fewer than K", a_window_has_room,
          IN_EPOCH - {State.BACKWARD, State.STEP}, built_in="step"),
    Claim("no window holds more than K", a_window_is_at_most_full, frozenset({State.BACKWARD, State.STEP}), built_in="step"),
    Claim("a step happens only on a full window or an epoch's last backward", a_step_is_due, frozenset({State.STEP}),
          built_in="step"),
    Claim("no such step is left out", no_step_is_due, frozenset({State.ACCUMULATE}), built_in="step"),
    Claim("windows of one backward are closed by the end of the turn", windows_of_one_are_never_left_open,
          all_except(State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROLLED_BACK), built_in="step"),
    Claim("optimizer_steps and steps_skipped count the visits to step", steps_are_counted),
    Claim("stepped_in is the round of the last step", the_last_step_is_noted),
    Claim("stepped says whether this round had a step", the_round_has_stepped),
    Claim("global_step counts the rounds with a step", global_step_is_the_rounds_with_a_step),
)  # fmt: skip
