"""Old public names: each is our error that gives the new one, and costs nothing where it is not used."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import FsmtrainError, GuardError, RenamedError
from fsmtrain.loop import Loop
from fsmtrain.options import Options

LOOP = Loop(Options(), Sizes(train=2))


@pytest.mark.parametrize(
    ("record", "old", "new"),
    [
        (Counters(), "checks_done", "validations_done"),
        (Counters(), "batches_since_check", "batches_since_validation"),
        (Counters(), "epochs_since_checks", "epochs_since_validation"),
        (Counters(), "cut", "epoch_ended_early"),
        (Counters(), "window", "window_length"),
        (LOOP.limits, "check_batches", "val_check_batches"),
        (LOOP.limits, "check_epochs", "val_check_epochs"),
        (next(iter(LOOP)), "window", "gathered"),
        (LOOP.plan(), "checks", "validations"),
        (LOOP.plan(), "check_batches", "validation_batches"),
        (LOOP.plan(), "most_rollbacks", "max_rollbacks"),
        (Timing(3, 0.5), "visits", "count"),
    ],
)
def test_an_old_attribute_is_an_error_with_the_new_name(record: object, old: str, new: str) -> None:
    name = type(record).__name__.lower()
    with pytest.raises(RenamedError, match=rf"{name}\.{old}: .* Its name here is {name}\.{new}\.") as raised:
        getattr(record, old)
    assert isinstance(raised.value, AttributeError)
    assert not hasattr(record, old)
    assert hasattr(record, new)
    with pytest.raises(AttributeError):
        setattr(record, old, 1)


def test_guards_check_is_an_error_that_names_guards_validate() -> None:
    keywords: dict[str, Any] = {"check": lambda limits, counters, signals: True}
    with pytest.raises(RenamedError, match=r"Guards\(check=...\): .* Guards\(validate=...\)") as raised:
        Guards(**keywords)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, FsmtrainError)


def test_an_unknown_keyword_of_guards_is_still_a_type_error_and_its_signature_is_its_own() -> None:
    keywords: dict[str, Any] = {"chek": None}
    with pytest.raises(TypeError, match="chek"):
        Guards(**keywords)
    assert list(inspect.signature(Guards).parameters) == ["step", "validate", "save", "stop", "save_at_end"]


def test_a_guard_with_an_old_counter_fails_with_the_new_name() -> None:
    loop = Loop(Options(min_nb_epochs=0), Sizes(train=2), guards=Guards(stop=eval("lambda l, c, s: c.checks_done > 0")))
    with pytest.raises(GuardError, match=r"counters\.validations_done"):
        list(loop)
