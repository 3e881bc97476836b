"""Bounds of Spin's search: the smallest and largest value of each limit and input, in six configurations.

Each configuration explores a part of the loop, with the rest small or off: all together would be too many states.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

Range = tuple[int, int]

MAX_OPTIMIZERS = 2


@frozen(kw_only=True)
class Bounds:
    """Inclusive ranges of limits, and of inputs. Others are fixed: limits and flags at 0, counts among the inputs at 1."""

    limits: Mapping[str, Range]
    inputs: Mapping[str, Range] = field(factory=dict)


WINDOWS = Bounds(
    limits={"fits": (1, 1), "epochs": (1, 1), "train_batches": (0, 3), "train_is_stream": (0, 1), "optimizers": (1, 2),
            "val_check_epochs": (1, 1), "may_return_none": (0, 1), "longest_window": (1, 1)},
    inputs={"batches": (1, 3), "window": (1, 3), "loss_is_none": (0, 1)},
)  # fmt: skip
SPLITS = Bounds(
    limits={"fits": (1, 1), "epochs": (1, 2), "train_batches": (0, 2), "train_is_stream": (0, 1), "optimizers": (1, 2),
            "splits_batches": (0, 1), "val_check_epochs": (1, 1), "longest_window": (1, 1)},
    inputs={"splits": (1, 2), "batches": (1, 2), "window": (1, 2)},
)  # fmt: skip
WAITING_STOP = Bounds(
    limits={"fits": (1, 1), "epochs": (1, 1), "train_batches": (0, 3), "train_is_stream": (0, 1), "optimizers": (1, 2),
            "val_check_epochs": (1, 1), "longest_window": (1, 2)},
    inputs={"batches": (1, 3), "window": (1, 2), "stop": (0, 1)},
)  # fmt: skip
MANUAL = Bounds(
    limits={"fits": (1, 1), "epochs": (1, 2), "max_steps": (0, 2), "train_batches": (0, 2), "train_is_stream": (0, 1),
            "optimizers": (1, 1), "val_check_epochs": (1, 1), "manual_optimization": (0, 1), "has_own_step": (0, 1),
            "longest_window": (1, 1)},
    inputs={"batches": (1, 2), "steps_made": (0, 2), "stop": (0, 1)},
)  # fmt: skip
VALIDATION = Bounds(
    limits={"fits": (1, 1), "epochs": (0, 2), "min_epochs": (0, 1), "train_batches": (0, 2), "train_is_stream": (0, 1),
            "validates": (0, 1), "val_batches": (0, 2), "evaluates_stream": (0, 1), "val_check_batches": (0, 2),
            "val_check_epochs": (1, 2), "optimizers": (1, 1), "stops_early": (0, 1),
            "longest_window": (1, 1)},
    inputs={"batches": (1, 2), "interval": (1, 2), "val_check_batches": (1, 2), "patience_exhausted": (0, 1)},
)  # fmt: skip
RUN_END = Bounds(
    limits={"fits": (0, 1), "epochs": (0, 1), "min_epochs": (0, 0), "train_batches": (0, 1), "validates": (0, 1),
            "val_batches": (0, 2), "sanity_batches": (0, 2), "has_sanity": (0, 1), "tests": (0, 1), "test_batches": (0, 2),
            "evaluates_stream": (0, 1), "val_check_batches": (0, 1), "val_check_epochs": (1, 1), "optimizers": (1, 1),
            "stops_early": (0, 1), "rolls_back": (0, 1), "saves_end": (0, 1), "longest_window": (1, 1)},
    inputs={"sanity_batches": (1, 2), "val_check_batches": (1, 2), "test_batches": (1, 2), "stop": (0, 1),
            "patience_exhausted": (0, 1), "nonfinite": (0, 1)},
)  # fmt: skip
ALL_BOUNDS: Mapping[str, Bounds] = {
    "validation": VALIDATION,
    "run end": RUN_END,
    "windows": WINDOWS,
    "splits": SPLITS,
    "waiting stop": WAITING_STOP,
    "manual": MANUAL,
}
