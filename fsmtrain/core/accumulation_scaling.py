"""Gradient accumulation: the two factors that make the gradient of a window the mean over its backwards.

If the length of a window is known when it opens, each loss is divided by it, and nothing is left to do at the step.
If it is not, the gradients are rescaled once, at the step.

Source: semantics, "accumulate_grad_batches".
"""

from __future__ import annotations

from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits


def windows_are_single(limits: Limits, guards: Guards) -> bool:
    """Return whether every window of the run is one backward."""
    return not (guards.step or limits.begins_in_window) and all(length == 1 for _, length in limits.windows)


def windows_are_foreseen(limits: Limits, guards: Guards) -> bool:
    """Return whether the length of each window is known when it opens, so that no step rescales gradients."""
    unknown = guards.step or limits.train_is_stream or limits.splits_batches or limits.may_return_none
    return windows_are_single(limits, guards) or not (unknown or limits.begins_in_window)


def by_hand_notes(limits: Limits, guards: Guards) -> tuple[str, ...]:
    """Return what a training loop written by hand has to do at `step`, if the losses alone do not make the mean."""
    if limits.epochs == 0 or windows_are_foreseen(limits, guards):
        return ()
    reasons = [f"Guards(step={{{i}: ...}})" for i in sorted(guards.step)]
    if any(length > 1 for _, length in limits.windows):
        reasons += ["a stream"] * limits.train_is_stream + ["truncated_bptt_steps with K > 1"] * limits.splits_batches
        reasons += ["a training_step that may return None"] * limits.may_return_none
    return (
        f"note: {' and '.join(reasons)}: the length of a window is not known when it opens. A training loop of your own must "
        f"multiply the gradients by visit.gradient_scale in `step`, or it trains on their sum. A machine does so by itself.",
    )


def loss_divisor(limits: Limits, guards: Guards, counters: Counters) -> int:
    """Return what to divide the loss of the current backward by: the length of its window, as far as it is known.

    It is K, and less for the last batches of an epoch of known length. The last window of a stream, and windows under
    truncated BPTT, may turn out shorter. It is 1 for an optimizer with its own guard, whose window may close at any time.
    """
    if counters.optimizer_i in guards.step:
        return 1
    if limits.train_is_stream or limits.splits_batches:
        return counters.window_length
    # The batch with which the window opened. One whose forward had no loss may lie within it.
    first = counters.batch_nb + 1 - counters.gathered - counters.left_out[counters.optimizer_i]
    return max(1, min(counters.window_length, counters.epoch_batches - first))


def gradient_scale(limits: Limits, guards: Guards, counters: Counters, excluded: int = 0) -> float:
    """Return what to multiply the gradients of the window by before its step; 1 if it has the expected length.

    `excluded` is the number of its backwards that a rollback has excluded, so that it holds only the others.
    """
    return loss_divisor(limits, guards, counters) / (counters.gathered - excluded)
