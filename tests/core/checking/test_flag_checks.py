"""What flags and sizes show by themselves: an interval or a window that means something else than it seems to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import Guards, Loop, Options, Sizes, State, every_n_batches
from fsmtrain.core.checking.check import quick_findings


def told(
    train: int | None = 9, *, val: Any = (2,), guards: Guards | None = None, optimizers: int = 1, **options: Any
) -> list[str]:
    """What is told of a run of 3 epochs, in `check` and before the run alike."""
    options = {"max_nb_epochs": 3, "nb_sanity_val_steps": 0, **options}
    sizes = Sizes(train=train, val=val, optimizers=optimizers)
    loop = Loop(Options(**options), sizes, guards=guards or Guards())
    findings = [str(finding) for finding in loop.check().findings]
    assert findings == [str(finding) for finding in quick_findings(loop.spec)]
    return findings


def opaque(limits: Any, counters: Any, signals: Any) -> bool:
    return bool([counters.batch_nb])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"val_check_interval": 1}, "a validation after every batch, 9 times an epoch. .*pass a float: val_check_interval=1.0"),
        ({"val_check_interval": 1, "train": None}, "a validation after every batch. For one"),
        ({"val_check_interval": 1.0}, None),
        ({"val_check_interval": 2}, None),
        ({"val_check_interval": 1, "train": 1}, None),
        ({"val_check_interval": 1, "val": ()}, None),
        ({"val_check_interval": 1, "val_percent_check": 0}, None),
        ({"val_check_interval": 1, "guards": Guards(validate=every_n_batches(3))}, None),
        ({"val_check_interval": 1, "guards": Guards(validate=opaque)}, None),
        (
            {"val_check_interval": 0.25, "train": 7},
            "of 7 batches this is 1, rounded down, so there are 7 validations an epoch, not 4",
        ),
        ({"val_check_interval": 0.25, "train": 3}, "there are 3 validations an epoch, not 4"),
        ({"val_check_interval": 0.25, "train": 8}, None),
        ({"val_check_interval": 0.5, "train": 7}, None),
        ({"train": 2}, None),  # the default, which nobody chose
    ],
)
def test_an_interval_that_validates_at_other_times_than_it_seems_to_is_reported(
    given: dict[str, Any], text: str | None
) -> None:
    findings = told(**given)
    assert [finding.startswith("warning: val_check_interval=") for finding in findings] == [True] * (text is not None)
    if text is not None:
        assert re.search(text, findings[0])


@given(st.integers(1, 60), st.integers(1, 100).map(lambda hundredths: hundredths / 100))
def test_a_fraction_is_reported_if_an_epoch_has_another_number_of_validations(train: int, fraction: float) -> None:
    """Counted in the run, against how often the fraction goes into 1."""
    options = Options(max_nb_epochs=1, nb_sanity_val_steps=0, val_check_interval=fraction)
    loop = Loop(options, Sizes(train=train, val=[1]))
    validations = sum(visit.state is State.VAL_CHECK for visit in loop)
    findings = [finding for finding in quick_findings(loop.spec) if finding.about.startswith("val_check_interval")]
    asked = 100 // round(fraction * 100)
    assert bool(findings) == (validations != asked and fraction != 0.95)
    if findings:
        assert f"{validations} validation" in findings[0].text
        assert f"not {asked}" in findings[0].text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"accumulate_grad_batches": 10}, "an epoch has only 9 batches, so a window of 10 is never full"),
        ({"accumulate_grad_batches": 9}, None),
        ({"accumulate_grad_batches": {0: 1, 2: 10}}, "a window of 10 is never full"),
        (
            {"accumulate_grad_batches": {0: 1, 3: 2}},
            "windows of 2 never begin: their first epoch is 3, and the run has 3 epochs",
        ),
        ({"accumulate_grad_batches": {0: 1, 3: 99}}, "windows of 99 never begin"),
        ({"accumulate_grad_batches": {0: 1, 2: 2}}, None),
        ({"accumulate_grad_batches": 10, "train": None}, None),  # unknown
        ({"accumulate_grad_batches": 10, "truncated_bptt_steps": 2}, None),  # a window holds backwards, of splits
        ({"accumulate_grad_batches": 10, "guards": Guards(step={0: every_n_batches(3)})}, None),
        ({"accumulate_grad_batches": 10, "guards": Guards(step={0: opaque})}, None),
        ({"accumulate_grad_batches": 10, "guards": Guards(step={0: opaque}), "optimizers": 2}, "a window of 10 is never full"),
    ],
)
def test_windows_that_never_begin_or_are_never_full_are_reported(given: dict[str, Any], text: str | None) -> None:
    findings = told(**{"val": (), **given})
    assert [text is not None and text in finding for finding in findings] == [True] * (text is not None)
