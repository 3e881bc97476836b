"""Small grids of configurations, explored completely: every moment, with every signal from outside.

The numbers of moments are pinned in ``data/moments.json``, by grid and by the row that holds in them. They change where a
rule changes, and say where. ``python -m tests.laws.test_small_grids`` writes them anew.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.interval_guards import every_n_batches, every_n_steps_of
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import full_table
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.options import Options
from tests.laws.exhaustive_search import BOTH, Configuration, Oracle, Search, label

pytestmark = pytest.mark.slow


def product(**values: Any) -> Iterator[dict[str, Any]]:
    """Yield each combination of the values, by name."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def windows() -> Iterator[Configuration]:
    """K of 1 to 4 and one that changes, over epochs of 1 to 6 batches and streams, for one optimizer and two."""
    for p in product(k=(1, 2, 3, 4, {1: 3}), train=(1, 2, 3, 4, 5, 6, None), epochs=(1, 2, 3), optimizers=(1, 2)):
        yield Configuration(
            Options(accumulate_grad_batches=p["k"], max_nb_epochs=p["epochs"]),
            Sizes(train=p["train"], optimizers=p["optimizers"]),
        )


def splits() -> Iterator[Configuration]:
    """Each batch of 1 to 3 splits, whichever."""
    for p in product(k=(1, 2, 3, 4), train=(1, 2, 3, None), epochs=(1, 2), optimizers=(1, 2)):
        if p["train"] is not None or p["epochs"] == 1:
            yield Configuration(
                Options(accumulate_grad_batches=p["k"], max_nb_epochs=p["epochs"], truncated_bptt_steps=5),
                Sizes(train=p["train"], optimizers=p["optimizers"]),
            )


def left_out() -> Iterator[Configuration]:
    """Each forward with a loss or without, over sized epochs and streams, with splits and a guard that may say anything."""
    for p in product(k=(1, 2, 3), train=(1, 2, 3, None), optimizers=(1, 2), kind=("plain", "splits", "guard")):
        is_small = p["train"] == 1 or (p["train"] == 2 and p["optimizers"] == 1)
        if not is_small and (p["kind"] != "plain" or (p["train"] is None and p["optimizers"] == 2)):
            continue
        yield Configuration(
            Options(
                accumulate_grad_batches=p["k"],
                max_nb_epochs=2 if is_small and p["kind"] == "plain" else 1,
                truncated_bptt_steps=5 if p["kind"] == "splits" else None,
            ),
            Sizes(train=p["train"], optimizers=p["optimizers"], may_return_none=True),
            Guards(step={0: Oracle()} if p["kind"] == "guard" else {}),
        )


def manual() -> Iterator[Configuration]:
    """Each batch with 0, 1 or 2 steps of ``training_step``, with limits of steps, validations and early stopping."""
    for p in product(train=(1, 2, None), most=(1, 2), steps=(None, 1, 2), least=(None, 1), val=((), (1,)), optimizers=(1, 2)):
        if p["most"] == 2 and (p["train"] is None or p["optimizers"] == 2):
            continue
        yield Configuration(
            Options(
                max_nb_epochs=p["most"],
                min_nb_epochs=0,
                max_steps=p["steps"],
                min_steps=p["least"],
                val_check_interval=1,
                early_stop_callback=EarlyStopping(patience=1) if p["val"] else None,
                nb_sanity_val_steps=0,
            ),
            Sizes(train=p["train"], val=p["val"], optimizers=p["optimizers"], manual_optimization=True),
        )


def checks() -> Iterator[Configuration]:
    """Every interval and number of epochs between validations, with val loaders of 1 and 2 batches and one without a length."""
    for p in product(
        train=(1, 2, 3, 4),
        interval=(1, 2, 0.5, 1.0),
        every=(1, 2),
        epochs=(0, 1, 2, 3),
        val=((1,), (1, 1), (None,)),
        sanity=(0, 1),
    ):
        if p["interval"] == 2 and p["train"] == 1:
            continue
        yield Configuration(
            Options(
                val_check_interval=p["interval"],
                check_val_every_n_epoch=p["every"],
                max_nb_epochs=p["epochs"],
                min_nb_epochs=0,
                nb_sanity_val_steps=p["sanity"],
            ),
            Sizes(train=p["train"], val=p["val"]),
        )


def stopping() -> Iterator[Configuration]:
    """Patience exhausted, kept or regained at any validation, with every minimum of epochs and with open windows."""
    for p in product(train=(1, 2, 3, 4), k=(1, 2, 3), interval=(1, 2, 1.0), least=(0, 1, 2), most=(1, 2, 3), test=((), (1,))):
        if p["least"] > p["most"] or (p["interval"] == 2 and p["train"] == 1):
            continue
        yield Configuration(
            Options(
                accumulate_grad_batches=p["k"],
                val_check_interval=p["interval"],
                min_nb_epochs=p["least"],
                max_nb_epochs=p["most"],
                early_stop_callback=EarlyStopping(patience=1),
                nb_sanity_val_steps=0,
            ),
            Sizes(train=p["train"], val=(1,), test=p["test"]),
        )


def stopping_by_training() -> Iterator[Configuration]:
    """Patience exhausted, kept or regained at the end of any epoch, with a metric of training, with and without validations."""
    for p in product(train=(1, 3), k=(1, 2), least=(0, 1, 2), most=(1, 3), val=((), (1,)), test=((), (1,))):
        yield Configuration(
            Options(
                accumulate_grad_batches=p["k"],
                val_check_interval=1,
                min_nb_epochs=min(p["least"], p["most"]),
                max_nb_epochs=p["most"],
                early_stop_callback=EarlyStopping("loss", patience=1),
                nb_sanity_val_steps=0,
            ),
            Sizes(train=p["train"], val=p["val"], test=p["test"]),
        )


def evaluations() -> Iterator[Configuration]:
    """What comes before the first epoch and after the last one, and runs that have no epoch."""
    passes = ((), (1,), (2,), (None,), (1, 1))
    for p in product(epochs=(0, 1), fits=BOTH, sanity=(0, 1, 2), val=passes, test=passes):
        yield Configuration(
            Options(max_nb_epochs=p["epochs"], min_nb_epochs=0, nb_sanity_val_steps=p["sanity"]),
            Sizes(train=1, val=p["val"], test=p["test"], fits=p["fits"]),
        )


def skipped_steps() -> Iterator[Configuration]:
    """Each step skipped or not."""
    for p in product(k=(1, 2, 3), train=(1, 2, 3), epochs=(1, 2), optimizers=(1, 2)):
        yield Configuration(
            Options(accumulate_grad_batches=p["k"], max_nb_epochs=p["epochs"]),
            Sizes(train=p["train"], optimizers=p["optimizers"]),
            skips_steps=True,
        )


def rollbacks() -> Iterator[Configuration]:
    """Each window finite or not, each step skipped or not."""
    for p in product(k=(1, 2, 3), train=(1, 2, 3), epochs=(1, 2), optimizers=(1, 2)):
        yield Configuration(
            Options(accumulate_grad_batches=p["k"], max_nb_epochs=p["epochs"]),
            Sizes(train=p["train"], optimizers=p["optimizers"]),
            skips_steps=True,
            rolls_back=True,
        )


def replaced() -> Iterator[Configuration]:
    """User guards in every place, which may return either value at any time."""
    for p in product(step=range(5), check=BOTH, save=BOTH, stop=BOTH, train=(1, 2, 3)):
        steps: dict[int, Guard] = [
            {},
            {0: Oracle()},
            {1: Oracle()},
            {0: every_n_batches(2), 1: Oracle()},
            {1: every_n_batches(2, first=0)},
        ][p["step"]]
        yield Configuration(
            Options(accumulate_grad_batches=2, min_nb_epochs=0, max_nb_epochs=1, val_check_interval=1.0, nb_sanity_val_steps=0),
            Sizes(train=p["train"], val=(1,), optimizers=2 if 1 in steps else 1),
            guards=Guards(
                step=steps,
                validate=Oracle() if p["check"] else None,
                save=Oracle() if p["save"] else None,
                stop=Oracle() if p["stop"] else None,
            ),
        )


def saved_ends() -> Iterator[Configuration]:
    """Runs that are saved where they end: within an epoch or after one, before a test or not, beside other saves or not."""
    for p in product(save=BOTH, stop=BOTH, train=(1, 2, 3), k=(1, 2), epochs=(0, 1, 2), test=((), (1,))):
        yield Configuration(
            Options(accumulate_grad_batches=p["k"], min_nb_epochs=0, max_nb_epochs=p["epochs"], nb_sanity_val_steps=0),
            Sizes(train=p["train"], test=p["test"]),
            guards=Guards(save=Oracle() if p["save"] else None, stop=Oracle() if p["stop"] else None, save_at_end=True),
        )


def waiting_stops() -> Iterator[Configuration]:
    """Stops that may become due at any batch, with windows that close together, never together, or at any time."""
    for p in product(train=(1, 4, 6, None), second=range(4), epochs=(1, 2), k=(1, 2)):
        if p["train"] is None and p["epochs"] == 2:
            continue
        guard: Guard = [every_n_batches(2, first=0), every_n_batches(3), every_n_steps_of(0, 2), Oracle()][p["second"]]
        yield Configuration(
            Options(accumulate_grad_batches=p["k"], min_nb_epochs=0, max_nb_epochs=p["epochs"], nb_sanity_val_steps=0),
            Sizes(train=p["train"], optimizers=2),
            guards=Guards(step={0: every_n_batches(2), 1: guard}, stop=Oracle()),
        )


GRIDS: dict[str, Callable[[], Iterator[Configuration]]] = {
    "windows": windows,
    "splits": splits,
    "left out": left_out,
    "manual": manual,
    "checks": checks,
    "stopping": stopping,
    "stopping by training": stopping_by_training,
    "evaluations": evaluations,
    "skipped steps": skipped_steps,
    "rollbacks": rollbacks,
    "replaced guards": replaced,
    "saved ends": saved_ends,
    "waiting stops": waiting_stops,
}

DATA = Path(__file__).parent.parent / "data" / "moments.json"


def explored(name: str) -> dict[str, int]:
    """The configurations of a grid, and their moments by the row that holds in them."""
    found: Counter[str] = Counter()
    for configuration in GRIDS[name]():
        search = Search(configuration)
        search.explore()
        found += search.moments
        found["configurations"] += 1
    return dict(sorted(found.items()))


@pytest.mark.parametrize("name", GRIDS)
def test_exactly_one_row_holds_in_every_moment_of_every_small_configuration(name: str) -> None:
    """And the laws, and the end of every run; see `Search`."""
    assert explored(name) == json.loads(DATA.read_text())[name]


def test_there_is_no_row_of_the_full_table_that_no_moment_of_the_grids_takes() -> None:
    pinned = json.loads(DATA.read_text())
    taken = set().union(*pinned.values()) - {"configurations", "done", "stopped", "rolled_back"}
    assert taken == {label(row) for row in full_table(decisions(Guards()))}
    assert pinned.keys() == GRIDS.keys()


if __name__ == "__main__":
    DATA.write_text(json.dumps({name: explored(name) for name in GRIDS}, indent=1) + "\n")
