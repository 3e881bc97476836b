"""The cost of `build`, `plan`, `check` and `draw`, which are paid once a run or on request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.timed_loaders import PlainLoader, make_batches
from benchmarks.trainings import by_hand
from benchmarks.trainings.models import Regression, TwoLayers, Validated
from benchmarks.trainings.with_fsmtrain import BARE
from fsmtrain import Guards, Loop, Options, Sizes, build, plan
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits

EPOCHS, LENGTH = 100, 10_000  # of a long run


class EveryThirdCall:
    """A guard that counts its calls, so that a plan has to call it at each batch."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.calls += 1
        return self.calls % 3 == 0


def milliseconds(run: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the time of the first call, and the median of the others."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times[0], statistics.median(times[1:])


def lines(folder: Path, *, rounds: int) -> list[str]:
    """Return the table."""
    train, val = PlainLoader(make_batches(64)), PlainLoader(make_batches(2))
    by_hand.plain(train)  # torch loads more when it creates the first optimizer
    full = Options(
        **{**BARE, "max_nb_epochs": 20, "accumulate_grad_batches": 4, "early_stop_callback": True, "val_check_interval": 0.25}
    )
    bare = Options(**BARE)
    many = Options(max_nb_epochs=EPOCHS, accumulate_grad_batches=4, val_check_interval=0.25, early_stop_callback=True)
    loop = Loop(full, Sizes(train=64, val=[2]))
    calls: dict[str, Callable[[], object]] = {
        "build, bare": lambda: build(bare, Regression(), train_dataloader=train),
        "build, two optimizers": lambda: build(bare, TwoLayers(), train_dataloader=train),
        "build, accumulation, validation, early stopping": lambda: build(
            full, Validated(), train_dataloader=train, val_dataloaders=[val]
        ),
        "build and run a batch": lambda: build(bare, Regression(), train_dataloader=PlainLoader(make_batches(1))).run(),
        "plan": loop.plan,
        f"plan of {EPOCHS * LENGTH:,} batches": lambda: plan(many, train=LENGTH, val=[2]),
        f"plan of {EPOCHS * LENGTH:,} batches, each with a guard that cannot be read": lambda: plan(
            Options(max_nb_epochs=1), train=EPOCHS * LENGTH, guards=Guards(save=EveryThirdCall())
        ),
        "check": loop.check,
        "draw, .mmd": lambda: loop.draw(folder / "loop.mmd"),
        "draw, .svg": lambda: loop.draw(folder / "loop.svg"),
    }
    text = ["", f"{'once a run, or on request':<68}{'ms':>10}{'first call':>14}"]
    for name, run in calls.items():
        try:
            first, median = milliseconds(run, rounds)
        except ImportError:  # the extra that draws pictures is not installed
            continue
        text.append(f"  {name:<66}{median:>10.2f}{first:>14.2f}")
    return text
