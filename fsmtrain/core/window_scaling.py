"""How the gradient of a window becomes the mean over its backwards: the two factors, from the counters alone.

Where a window's length is known when it opens, each loss is divided by that length and nothing is left to do at the step.
Where it is not, the gradients are rescaled once, at the step.

Source: semantics, "accumulate_grad_batches".
"""

from __future__ import annotations

from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits


def windows_are_single(limits: Limits, guards: Guards) -> bool:
    """Whether every window of the run is one backward."""
    return not guards.step and all(length == 1 for _, length in limits.windows)


def windows_are_foreseen(limits: Limits, guards: Guards) -> bool:
    """Whether each window's length is known when it opens, so that there is nothing to rescale at a step."""
    if windows_are_single(limits, guards):
        return True
    return not (guards.step or limits.train_is_stream or limits.splits_batches)


def loss_divisor(limits: Limits, guards: Guards, counters: Counters) -> int:
    """What the loss of the backward under way is divided by: its window's length, as far as it can be known.

    K, and fewer for the last batches of an epoch whose length is known. A stream's last window, and those of truncated BPTT,
    may turn out shorter than this. 1 for an optimizer with a guard of its own, whose window may close at any time.
    """
    if counters.optimizer_i in guards.step:
        return 1
    if limits.train_is_stream or limits.splits_batches:
        return counters.window_length
    first = counters.batch_nb + 1 - counters.gathered  # the batch with which the window opened
    return min(counters.window_length, limits.train_batches - first)


def gradient_scale(limits: Limits, guards: Guards, counters: Counters, left_out: int = 0) -> float:
    """What the gradients of the window that is being stepped are multiplied by; 1 where its length came out as foreseen.

    `left_out` is how many of its backwards were left out, so that it holds only the others.
    """
    return loss_divisor(limits, guards, counters) / (counters.gathered - left_out)
