"""What a run's plan shows before it begins: each thing at the edge from which on it is told."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from fsmtrain import Guards, Loop, Options, Sizes, after_batches, every_n_batches
from fsmtrain.core.checking.guards_to_check import user_guards
from fsmtrain.core.checking.parse_optimizer_step import parse_optimizer_step
from fsmtrain.core.checking.patience_and_schedule_checks import missing_metric_findings, schedule_findings
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.sizes import Schedule
from fsmtrain.core.transition_guards import Guard
from fsmtrain.early_stopping import EarlyStopping


def a_loop(*, guards: Guards | None = None, **given: Any) -> Loop:
    """Three epochs of five batches, unless told otherwise."""
    given = {"max_nb_epochs": 3, "nb_sanity_val_steps": 0, "val_check_interval": 1.0, "train": 5, **given}
    sizes = {name: given.pop(name) for name in ("train", "val", "optimizers", "schedulers") if name in given}
    return Loop(Options(**given), Sizes(**sizes), guards=guards or Guards())


def told(loop: Loop) -> list[str]:
    """What is told, each with what it is about."""
    return [f"{finding.about}: {finding.text}" for finding in schedule_findings(loop.spec, {})[0]]


def stopping(patience: int) -> EarlyStopping:
    return EarlyStopping(patience=patience)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"early_stop_callback": stopping(4)}, "cannot act in this run: there are only 3 validations"),
        ({"early_stop_callback": stopping(3)}, "cannot act before the last validation: there are only 3 validations."),
        ({"early_stop_callback": stopping(2)}, None),
        ({"early_stop_callback": stopping(2), "min_nb_epochs": 2}, None),
        ({"early_stop_callback": stopping(2), "min_nb_epochs": 3}, "cannot act before the end: it waits for all 3 epochs."),
        ({"early_stop_callback": stopping(0)}, None),
        ({"early_stop_callback": stopping(0), "max_nb_epochs": 1}, "before the last validation: there is only 1 validation."),
        ({"early_stop_callback": stopping(2), "max_nb_epochs": 1}, "in this run: there is only 1 validation."),
        ({"check_val_every_n_epoch": 3}, None),
        ({"check_val_every_n_epoch": 4}, "no validation takes place: the run has 3 epochs"),
        ({"check_val_every_n_epoch": 2, "max_nb_epochs": 1}, "no validation takes place: the run has 1 epoch."),
        ({"check_val_every_n_epoch": 4, "val": []}, None),
        ({"check_val_every_n_epoch": 4, "val": [0]}, None),
        ({"check_val_every_n_epoch": 4, "val_percent_check": 0}, None),
        ({"check_val_every_n_epoch": 4, "val_percent_check": 0, "overfit_pct": 0.5}, "no validation takes place"),
        ({"check_val_every_n_epoch": 4, "early_stop_callback": stopping(9)}, "no validation takes place"),
    ],
)
def test_validations_that_never_take_place_or_too_late_for_patience(given: dict[str, Any], text: str | None) -> None:
    findings = told(a_loop(**{"val": [2], **given}))
    assert [text is not None and text in finding for finding in findings] == ([] if text is None else [True])


@pytest.mark.parametrize(
    ("schedule", "given", "text"),
    [
        (Schedule(length=3), {}, None),
        (
            Schedule(length=4),
            {},
            "takes 4 steps to reach its end or last milestone, but the run makes only 3. Shorten it, or count",
        ),
        (Schedule(interval="step", length=15), {}, None),
        (
            Schedule(interval="step", length=16),
            {},
            "16 steps to reach its end or last milestone, but the run makes only 15. Shorten it",
        ),
        (Schedule(interval="step", length=15, raises_after_end=True), {}, None),
        (Schedule(interval="step", length=14, raises_after_end=True), {}, "an error after 14 steps, but the run makes 15."),
        (Schedule(interval="step", length=14), {}, None),
        (Schedule(interval="step", raises_after_end=True), {}, None),  # nobody said how long it is
        (Schedule(frequency=3), {}, None),
        (Schedule(frequency=4), {}, "frequency=4 is counted in epochs, and this run has fewer"),
        (Schedule(interval="step", frequency=16), {}, "frequency=16 is counted in steps, and this run has fewer"),
        (Schedule(needs_validation=True, frequency=2), {"val": [1]}, None),
        (
            Schedule(needs_validation=True, frequency=2),
            {"val": [1], "check_val_every_n_epoch": 3},
            "frequency=2 is counted in epochs with",
        ),
        (Schedule(needs_validation=True), {"val": [1], "check_val_every_n_epoch": 4}, "never act: it needs a validation"),
        (Schedule(needs_validation=True), {}, None),  # that is said by itself
    ],
)
def test_a_scheduler_with_another_length_than_the_run_is_reported(
    schedule: Schedule, given: dict[str, Any], text: str | None
) -> None:
    findings = [finding for finding in told(a_loop(schedulers=[schedule], **given)) if finding.startswith("scheduler 0: ")]
    assert [text is not None and text in finding for finding in findings] == ([] if text is None else [True])


def hidden(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return bool(hash(counters.batch_nb) >= 0)  # cannot be read


def at_step(n: int) -> Guard:
    def is_at_step(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step == n

    return is_at_step


def when_asked(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.stop_requested


def when_asked_late(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.stop_requested and counters.batch_nb == 4


def behind_the_last_batch(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb == limits.train_batches


def at_a_step_of_the_first_batch(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb == 0 and counters.global_step == 99


@pytest.mark.parametrize(
    ("guards", "given", "is_told"),
    [
        (Guards(save=at_step(99)), {}, True),
        (Guards(save=at_step(99), stop=hidden), {}, True),
        (Guards(save=at_step(99), step={0: hidden}), {}, False),  # nobody knows how many steps there will be
        (Guards(save=at_step(99), validate=hidden), {"val": [1]}, False),
        (Guards(save=after_batches(99), step={0: hidden}), {}, True),  # it counts batches alone
        (Guards(save=behind_the_last_batch, step={0: hidden}), {}, True),
        (Guards(save=at_a_step_of_the_first_batch, step={0: hidden}), {}, False),
        (Guards(save=hidden), {}, False),
        (Guards(save=when_asked), {}, False),  # nobody knows what comes from outside
        (Guards(save=when_asked_late), {}, False),
        (Guards(save=every_n_batches(5)), {}, False),
        (Guards(save=every_n_batches(6)), {}, True),
    ],
)
def test_a_guard_that_never_fires_is_reported_unless_something_unknown_could_make_it_fire(
    guards: Guards, given: dict[str, Any], is_told: bool
) -> None:
    assert [("never fires" in finding) for finding in told(a_loop(guards=guards, **given))] == [True] * is_told


@pytest.mark.parametrize(
    ("schedule", "guards", "is_told"),
    [
        (Schedule(interval="step", length=99), Guards(step={1: hidden}), True),
        (Schedule(interval="step", length=99, optimizer_i=1), Guards(step={1: hidden}), False),
        (Schedule(length=99, optimizer_i=1), Guards(step={1: hidden}), True),
        (Schedule(needs_validation=True, length=99), Guards(validate=hidden), False),
        (Schedule(needs_validation=True, length=99), Guards(step={1: hidden}), True),
        (Schedule(length=99), Guards(validate=hidden), True),
    ],
)
def test_a_scheduler_that_depends_on_an_opaque_guard_is_not_reported(schedule: Schedule, guards: Guards, is_told: bool) -> None:
    loop = a_loop(optimizers=2, val=[1], schedulers=[schedule], guards=guards)
    assert ["takes 99 steps" in finding for finding in told(loop)] == [True] * is_told


def test_patience_that_depends_on_an_opaque_guard_is_not_reported() -> None:
    given = {"val": [1], "early_stop_callback": stopping(9)}
    assert told(a_loop(guards=Guards(validate=hidden), **given)) == []
    assert len(told(a_loop(guards=Guards(step={0: hidden}), **given))) == 1


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({}, ["early_stop_callback", "scheduler 1"]),
        ({"val": [0]}, ["early_stop_callback", "scheduler 1"]),
        ({"val": [0, 1]}, []),
        ({"val": [1], "val_percent_check": 0}, ["early_stop_callback", "scheduler 1"]),
        ({"early_stop_callback": None}, ["scheduler 1"]),
        ({"max_nb_epochs": 0}, []),
    ],
)
def test_what_waits_for_a_metric_that_never_comes_is_named(given: dict[str, Any], about: list[str]) -> None:
    schedulers = [Schedule(), Schedule(needs_validation=True)]
    loop = a_loop(**{"schedulers": schedulers, "early_stop_callback": stopping(2), **given})
    assert [finding.about for finding in missing_metric_findings(loop.spec)] == about


def each_second_batch(epoch: int, batch: int, opt: Any, i: int) -> None:
    """A hook of the model's own."""
    if batch % 2 == 0:
        opt.step()


@pytest.mark.parametrize(
    ("guards", "optimizers"), [(Guards(), [0, 1]), (Guards(step={0: hidden}), [1]), (Guards(validate=hidden), [0, 1])]
)
def test_windows_that_an_optimizer_step_override_does_not_step_are_reported_if_the_windows_are_known(
    guards: Guards, optimizers: list[int]
) -> None:
    loop = a_loop(guards=guards, optimizers=2, val=[1], accumulate_grad_batches=2)
    found, _ = schedule_findings(evolve(loop, hook=parse_optimizer_step(each_second_batch)).spec, {})
    assert [finding.about for finding in found] == [f"optimizer_step of optimizer {i}" for i in optimizers]


def test_a_guard_that_fires_where_it_has_no_effect_is_reported_with_the_way_there() -> None:
    loop = a_loop(guards=Guards(save=every_n_batches(9)))
    [finding], _ = schedule_findings(loop.spec, {"save=nth_batch_is_done": ("fetch", "step")})
    assert finding.example == ("fetch", "step")
    [finding], _ = schedule_findings(loop.spec, {})
    assert finding.example == ()


HELD = ("round_end (epoch 0, batch 0, optimizer 0)",)


@pytest.mark.parametrize(
    ("guards", "given", "held", "text"),
    [
        (Guards(validate=every_n_batches(9)), {}, (), "it is never called, because there is nothing to validate."),
        (
            Guards(validate=every_n_batches(9)),
            {"val": [1]},
            (),
            "never fires in this run of 3 epochs of 5 batches, so no validation",
        ),
        (Guards(stop=after_batches(2)), {"min_nb_epochs": 3}, (), "never called: min_nb_epochs=3 allows no stop"),
        (Guards(stop=after_batches(99)), {}, (), "never fires in this run of 3 epochs of 5 batches, so it never stops"),
        (Guards(stop=after_batches(99)), {}, HELD, "holds only when no stop is allowed, before min_nb_epochs=1"),
        (Guards(save=after_batches(99)), {}, HELD, "never fires in this run of 3 epochs of 5 batches, so no checkpoint"),
        (Guards(save=after_batches(99)), {"train": 1, "max_nb_epochs": 1}, (), "in this run of 1 epoch of 1 batch, so"),
        (Guards(step={0: after_batches(99)}), {}, (), "so only the epoch's last batch closes the windows of optimizer 0"),
    ],
)
def test_the_reason_why_a_guard_has_no_effect_is_reported(
    guards: Guards, given: dict[str, Any], held: tuple[str, ...], text: str
) -> None:
    loop = a_loop(guards=guards, **given)
    [finding], _ = schedule_findings(loop.spec, dict.fromkeys([own.name for own in user_guards(guards)], held))
    assert text in finding.text
    assert finding.example == held


class Even(int):
    """A number that takes each of its own kind for itself."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) % 2 == other % 2

    __hash__ = int.__hash__


def test_a_guard_that_contradicts_its_source_is_reported_at_the_first_place() -> None:
    two = Even(2)

    def at_two(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb == two

    _, [heard] = schedule_findings(a_loop(guards=Guards(save=at_two)).spec, {})
    assert heard.counters is not None
    assert (heard.counters.current_epoch, heard.counters.batch_nb) == (0, 0)
    assert heard.disagreement is not None
    assert (heard.disagreement.source_answer, heard.disagreement.answer) == (False, True)
