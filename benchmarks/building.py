"""What is paid once a run, before its first batch, and what it costs to ask a loop: `build`, `plan`, `check`, `draw`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import by_hand
from benchmarks.batches import Checks, batches_of
from benchmarks.models import Pair, Regression, Validated
from benchmarks.ours import BARE
from fsmtrain import Guards, Loop, Options, Sizes, build, plan
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits

EPOCHS, LENGTH = 100, 10_000  # of the long run that is planned


class EveryThird:
    """A guard that remembers how often it was asked, so that it has to be asked at each of its moments."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.asked += 1
        return self.asked % 3 == 0


def milliseconds(run: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The first time, and the median of the others."""
    times = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        run()
        times.append((time.perf_counter() - begun) * 1e3)
    return times[0], statistics.median(times[1:])


def lines(folder: Path, *, rounds: int) -> list[str]:
    """The table."""
    train, val = Checks(batches_of(64)), Checks(batches_of(2))
    by_hand.plain(train)  # torch itself loads more when the first optimizer is made
    full = Options(
        **{**BARE, "max_nb_epochs": 20, "accumulate_grad_batches": 4, "early_stop_callback": True, "val_check_interval": 0.25}
    )
    bare = Options(**BARE)
    many = Options(max_nb_epochs=EPOCHS, accumulate_grad_batches=4, val_check_interval=0.25, early_stop_callback=True)
    loop = Loop(full, Sizes(train=64, val=[2]))
    asked: dict[str, Callable[[], object]] = {
        "build, bare": lambda: build(bare, Regression(), train_dataloader=train),
        "build, two optimizers": lambda: build(bare, Pair(), train_dataloader=train),
        "build, windows, checks, early stopping": lambda: build(
            full, Validated(), train_dataloader=train, val_dataloaders=[val]
        ),
        "build and run a batch": lambda: build(bare, Regression(), train_dataloader=Checks(batches_of(1))).run(),
        "plan": loop.plan,
        f"plan of {EPOCHS * LENGTH:,} batches": lambda: plan(many, train=LENGTH, val=[2]),
        f"plan of {EPOCHS * LENGTH:,} batches, each with a guard that cannot be read": lambda: plan(
            Options(max_nb_epochs=1), train=EPOCHS * LENGTH, guards=Guards(save=EveryThird())
        ),
        "check": loop.check,
        "draw, .mmd": lambda: loop.draw(folder / "loop.mmd"),
        "draw, .svg": lambda: loop.draw(folder / "loop.svg"),
    }
    text = ["", f"{'once a run, or when it is asked':<68}{'ms':>10}{'first time':>14}"]
    for name, run in asked.items():
        try:
            first, usual = milliseconds(run, rounds)
        except ImportError:  # what draws pictures is not installed
            continue
        text.append(f"  {name:<66}{usual:>10.2f}{first:>14.2f}")
    return text
