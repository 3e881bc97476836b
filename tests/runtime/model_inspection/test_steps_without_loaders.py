"""A val or test loader without its step method, and a validation_step without a loader, are reported at build."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest

from fsmtrain import Options, Trainer, build
from tests.models import Linear, batches

STEPS = {"val": "validation_step", "test": "test_step"}
FLAGS = {"val": "val_percent_check", "test": "test_percent_check"}


def reports(kind: str, *, has_step: bool, passed: Any, has_method: bool = False, **flags: Any) -> list[str]:
    """Build a run; return the warnings about loaders of this kind without a step, or the other way round."""
    methods: dict[str, Any] = {STEPS[kind]: lambda self, batch, batch_nb: None} if has_step else {STEPS[kind]: None}
    methods |= {f"{kind}_dataloader": lambda self: batches(2)} if has_method else {}
    model = type("Own", (Linear,), methods)()
    defaults: dict[str, Any] = {"max_nb_epochs": 1, "runs_dir": None, "quiet": True, "progress_bar": False}
    options = Options(**(defaults | flags))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(options, model, train_dataloader=batches(2), **{f"{kind}_dataloaders": passed})
    texts = map(str, (w.message for w in caught))
    return [
        text for text in texts if text.startswith((f"{kind}_dataloaders: Own has no method", f"Own.{STEPS[kind]}: there is"))
    ]


@pytest.mark.parametrize("kind", ["val", "test"])
def test_what_is_reported_in_each_case(kind: str) -> None:
    given: list[Any] = [None, [], batches(2)]
    for has_step, passed, has_method in itertools.product([False, True], given, [False, True]):
        has_loader = has_method if passed is None else passed != []
        found = reports(kind, has_step=has_step, passed=passed, has_method=has_method)
        is_missed = (has_loader and not has_step) or (kind == "val" and has_step and not has_loader and passed != [])
        assert len(found) == is_missed, (has_step, passed, has_method, found)
        assert not found or ("there is no loader for it" in found[0]) == has_step


@pytest.mark.parametrize("kind", ["val", "test"])
@pytest.mark.parametrize("has_step", [False, True])
def test_a_percentage_of_0_switches_the_loop_off_and_nothing_is_missed(kind: str, has_step: bool) -> None:
    passed = None if has_step else batches(2)
    assert len(reports(kind, has_step=has_step, passed=passed)) == (kind == "val" or not has_step)
    off: dict[str, Any] = {FLAGS[kind]: 0.0}
    assert reports(kind, has_step=has_step, passed=passed, **off) == []


def test_fit_reports_nothing_of_the_test_which_it_does_not_run() -> None:
    class Own(Linear):
        def test_step(self, batch: Any, batch_nb: int) -> None: ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False).fit(Own(), batches(2))
    assert not any("test_step" in str(w.message) for w in caught)
