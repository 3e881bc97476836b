"""Typical mistakes of users, each with the finding of the static check that it must produce."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fsmtrain import (
    EarlyStopping,
    Guards,
    Loop,
    ModelCheckpoint,
    Options,
    Sizes,
    State,
    after_batches,
    after_steps,
    build,
    check,
    every_n_batches,
    every_n_steps_of,
)
from fsmtrain.core.checking.check import check_loop, quick_findings
from fsmtrain.core.checking.findings import Finding, Report, Severity
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast import parse
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.guard_ast.source import find_source
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard, window_is_full
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import GuardError
from tests.models import Adversaries, Linear, Validated, batches, flags, machine_of, slow_descent, trained
from tests.strategies import Case, cases

Change = Callable[[list[Row]], list[Row]]


def the_one(report: Report) -> Finding:
    """Return the only finding of a report."""
    [finding] = report.findings
    return finding


def of_three_epochs(**given: Any) -> Report:
    """Return the report on a run, by default of three epochs of five batches."""
    given = {"train": 5, **given}
    sizes = {name: given.pop(name) for name in ("train", "val", "optimizers", "guards") if name in given}
    return check(Options(**{"max_nb_epochs": 3, "nb_sanity_val_steps": 0, **given}), **sizes)


def warned_by_build(model: nn.Module, *loaders: Any, **given: Any) -> list[str]:
    """Return the warnings of `build`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine_of(model, *loaders, **given)
    return [str(warning.message) for warning in caught]


def with_rows(loop: Loop, change: Change) -> Loop:
    """The loop with other rows in its table."""
    object.__setattr__(loop.spec, "table", Table(tuple(change(list(loop.table)))))
    return loop


# ---- guards that never fire, or not where it counts


def test_a_guard_that_waits_for_something_from_outside_may_fire_at_any_time() -> None:
    assert warned_by_build(Linear(), batches(8), callbacks=[ModelCheckpoint(every_n_seconds=60)], max_nb_epochs=2) == []
    report = of_three_epochs(guards=Guards(save=lambda limits, counters, signals: signals.stop_requested))
    assert not any("never fires" in finding.text for finding in report.findings)


def test_a_guard_that_never_fires() -> None:
    finding = the_one(of_three_epochs(guards=Guards(step={0: every_n_batches(9)})))
    assert finding.about == "Guards(step={0: nth_batch_is_done})"
    assert "never fires in this run of 3 epochs of 5 batches" in finding.text
    assert "only the epoch's last batch closes the windows of optimizer 0" in finding.text
    assert "It waits for: batch_nb >= 8 and (batch_nb - 8) % 9 == 0." in finding.text


@pytest.mark.parametrize(
    ("guards", "about", "text"),
    [
        (
            Guards(stop=after_batches(1_000)),
            "stop=n_batches_are_begun",
            "never stops the run. It waits for: batches_begun >= 1000.",
        ),
        (Guards(save=lambda limits, counters, signals: counters.current_epoch == 3), "save=lambda", "no checkpoint is"),
        (Guards(step={0: after_steps(99)}), "step={0: n_steps_are_done}", "only the epoch's last batch closes"),
    ],
    ids=["stop", "save", "step"],
)
def test_a_guard_that_fires_only_after_the_run(guards: Guards, about: str, text: str) -> None:
    finding = the_one(of_three_epochs(guards=guards))
    assert about in finding.about
    assert text in finding.text


def test_a_validate_guard_that_never_fires_means_no_validation() -> None:
    finding = the_one(of_three_epochs(val=[2], guards=Guards(validate=every_n_batches(9))))
    assert "no validation takes place" in finding.text


def test_a_validate_guard_with_nothing_to_validate() -> None:
    finding = the_one(of_three_epochs(guards=Guards(validate=every_n_batches(2))))
    assert finding.text == "it is never called, because there is nothing to validate."


def test_a_stop_guard_that_holds_only_inside_a_window_stops_the_run_all_the_same() -> None:
    def in_mid_window(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb == 2

    given = {"accumulate_grad_batches": 2, "min_nb_epochs": 0}
    assert of_three_epochs(guards=Guards(stop=in_mid_window), **given).findings == ()


def test_a_stop_guard_that_holds_only_before_enough_epochs_are_done() -> None:
    def at_batch_2(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun == 2

    finding = the_one(of_three_epochs(guards=Guards(stop=at_batch_2)))
    assert "before min_nb_epochs=1 epochs are done" in finding.text
    assert of_three_epochs(guards=Guards(stop=at_batch_2), min_nb_epochs=0).findings == ()


def test_a_stop_guard_for_which_min_nb_epochs_leaves_no_room() -> None:
    finding = the_one(of_three_epochs(guards=Guards(stop=after_batches(2)), min_nb_epochs=3))
    assert finding.text.startswith("it is never called: min_nb_epochs=3 allows no stop")


def test_a_guard_that_reads_what_differs_between_ranks() -> None:
    def at_the_end(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return signals.stream_ended

    finding = the_one(of_three_epochs(train=None, guards=Guards(save=at_the_end)))
    assert finding.about == "Guards(save=at_the_end)"
    assert "reads stream_ended, which may differ between ranks" in finding.text


# ---- guards that are no guards


@pytest.mark.parametrize(
    ("guard", "error"),
    [
        (every_n_steps_of(5, 2), "the guard raised IndexError"),
        (lambda limits, counters, signals: counters.gathered, "It must return True or False"),
    ],
    ids=["raises", "number"],
)
def test_a_guard_that_fails_stops_the_build(guard: Guard, error: str) -> None:
    guards = Guards(step={0: guard})
    report = of_three_epochs(guards=guards)
    assert error in report.errors[0].text
    with pytest.raises(GuardError, match=rf"Guards\(step=.*{error}"):
        machine_of(Linear(), batches(10), max_nb_epochs=3, guards=guards)


class Remembers:
    """A guard that counts how often it is asked, so that to ask it changes what it answers."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.asked += 1
        return self.asked % 3 == 0


def test_a_stateful_guard_is_called_by_the_run_only() -> None:
    """Neither `build` nor a check asks it; the check tries both its answers, and says so."""
    guards = Guards(step={0: Remembers()}, validate=Remembers(), save=Remembers(), stop=Remembers())
    machine = machine_of(Validated(), batches(10), batches(2), max_nb_epochs=3, guards=guards)
    report = machine.check()
    assert [guard.asked for guard in (guards.step[0], guards.validate, guards.save, guards.stop)] == [0] * 4  # type: ignore[union-attr]
    assert report.errors == ()
    assert "Guards(stop=Remembers) cannot be read, because it is not a plain function: both answers were tried" in str(report)


def test_what_hangs_on_a_guard_that_cannot_be_read_is_left_untold() -> None:
    """It may be that optimizer 0 steps, and that there is a check."""
    guards = Guards(step={0: Remembers(), 1: every_n_steps_of(0, 9)}, validate=Remembers())
    report = of_three_epochs(
        train=1, val=[1], optimizers=2, guards=guards, early_stop_callback=EarlyStopping(patience=9), max_nb_epochs=2
    )
    assert report.findings == ()
    assert of_three_epochs(optimizers=2, guards=Guards(step={1: every_n_steps_of(0, 90)})).findings != ()


# ---- sources that mislead


class About(int):
    """A number that takes its neighbours for itself."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and abs(int(self) - int(other)) <= 1

    __hash__ = int.__hash__


def near(n: int) -> Guard:
    """A guard whose source says that it holds at one batch."""

    def is_near(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb == n

    return is_near


@pytest.mark.parametrize("quickly", [False, True], ids=["check", "build"])
def test_a_guard_whose_source_misleads_is_opaque_from_then_on(quickly: bool) -> None:
    guard = near(About(2))
    assert not is_opaque(parse_guard(guard))
    if quickly:
        [message] = warned_by_build(Linear(), batches(10), max_nb_epochs=3, guards=Guards(step={0: guard}))
    else:
        finding = the_one(of_three_epochs(guards=Guards(step={0: guard})))
        assert finding.example[-1] == "backward (epoch 0, batch 1, optimizer 0)"
        message = f"{finding.about}: {finding.text}"
    assert message.startswith("Guards(step={0: is_near}): its source gives False, but it returned True.")
    assert is_opaque(parse_guard(guard))
    assert "its source contradicts what it returns: both answers" in str(of_three_epochs(guards=Guards(step={0: guard})))


def test_the_table_never_depends_on_a_user_guard_s_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save guard that seems to be always False, and holds all the same."""

    def never(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return False

    def second(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb == 1

    right = find_source
    monkeypatch.setattr(parse, "find_source", lambda code: right(never.__code__ if code is second.__code__ else code))
    loop = Loop(Options(max_nb_epochs=2), Sizes(train=3), guards=Guards(save=second))
    assert parse_guard(second) == parse_guard(never)
    assert [visit.batch_nb for visit in loop if visit.state is State.SAVE] == [1, 1]
    [finding] = loop.check().findings
    assert "gives False, but it returned True" in finding.text
    assert [visit.batch_nb for visit in loop if visit.state is State.SAVE] == [1, 1]


# ---- early stopping and checks


@pytest.mark.parametrize(
    ("given", "about", "text"),
    [
        ({"early_stop_callback": EarlyStopping(patience=4)}, "patience=4", "in this run: there are only 3 validations"),
        ({"early_stop_callback": True}, "patience=3", "before the last validation: there are only 3"),
        (
            {"early_stop_callback": EarlyStopping(patience=1), "min_nb_epochs": 3},
            "min_nb_epochs=3",
            "it waits for all 3 epochs",
        ),
        ({"check_val_every_n_epoch": 4}, "check_val_every_n_epoch=4", "no validation takes place: the run has 3 epochs"),
        (
            {"early_stop_callback": True, "val": []},
            "early_stop_callback",
            "will never act: there is nothing to validate, so its metric 'val_loss' is missing",
        ),
        ({"early_stop_callback": True, "val_percent_check": 0}, "early_stop_callback", "will never act"),
    ],
    ids=["patience", "last check", "min_nb_epochs", "check_val_every_n_epoch", "no loader", "switched off"],
)
def test_a_validation_that_never_comes_or_cannot_stop_anything(given: dict[str, Any], about: str, text: str) -> None:
    finding = the_one(of_three_epochs(**{"val": [2], **given}))
    assert about in finding.about
    assert text in finding.text
    assert finding.severity is Severity.WARNING


def scheduled(make: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    """What ``configure_optimizers`` returns with a scheduler."""

    def configure(parameters: Any) -> Any:
        optimizer = slow_descent(parameters)
        return [optimizer], [{"scheduler": make(optimizer), **options}]

    return configure


@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (lambda o: LinearLR(o, total_iters=500), {}, "500 steps to reach its end or last milestone, but the run makes only 3."),
        (lambda o: LinearLR(o, total_iters=500), {"interval": "step"}, "the run makes only 15. Shorten it, or train longer."),
        (lambda o: ConstantLR(o, total_iters=20), {"interval": "step"}, "takes 20 steps"),
        (lambda o: OneCycleLR(o, 0.1, total_steps=16), {"interval": "step"}, "takes 16 steps"),
        (
            lambda o: SequentialLR(o, [LinearLR(o), StepLR(o, 5)], milestones=[40]),
            {"interval": "step"},
            "takes 45 steps to reach its end or last milestone",
        ),
        (lambda o: CosineAnnealingLR(o, T_max=1000), {}, "takes 1,000 steps to reach its end or last milestone"),
        (lambda o: PolynomialLR(o, 1000), {}, "takes 1,000 steps"),
        (lambda o: MultiStepLR(o, [1, 9]), {}, "takes 9 steps"),
        (lambda o: StepLR(o, 30), {}, "takes 30 steps"),
        (lambda o: ChainedScheduler([StepLR(o, 1), MultiStepLR(o, [8])]), {}, "takes 8 steps"),
        (lambda o: StepLR(o, 1), {"frequency": 4}, "frequency=4 is counted in epochs, and this run has fewer"),
        (
            lambda o: StepLR(o, 1),
            {"interval": "step", "frequency": 16},
            "frequency=16 is counted in steps, and this run has fewer",
        ),
        (ReduceLROnPlateau, {}, "will never act: there is nothing to validate"),
    ],
    ids=[
        "epochs for steps",
        "warm-up",
        "constant",
        "one cycle",
        "sequence",
        "cosine",
        "polynomial",
        "milestones",
        "a drop",
        "chain",
        "frequency",
        "frequency in steps",
        "plateau",
    ],
)
def test_a_schedule_that_the_run_is_too_short_for(make: Any, options: dict[str, Any], text: str) -> None:
    [message] = warned_by_build(Linear(scheduled(make, **options)), batches(10), max_nb_epochs=3)
    assert message.startswith("scheduler 0: ")
    assert text in message


def one_cycle(steps: int) -> Any:
    return Linear(scheduled(lambda o: OneCycleLR(o, 0.1, total_steps=steps), interval="step"))


def test_a_scheduler_that_is_over_before_the_run_is_reported() -> None:
    """Fourteen steps are one too few for a run of fifteen; the warning says how many it needs."""
    [message] = warned_by_build(one_cycle(14), batches(10), max_nb_epochs=3)
    assert "scheduler 0: it raises an error after 14 steps, but the run makes 15." in message
    assert "total_steps=15" in message
    with pytest.warns(UserWarning, match="raises an error"), pytest.raises(ValueError, match="Tried to step 15 times"):
        trained(one_cycle(14), batches(10), max_nb_epochs=3)
    assert warned_by_build(one_cycle(15), batches(10), max_nb_epochs=3) == []
    trained(one_cycle(15), batches(10), max_nb_epochs=3)


def test_a_plateau_scheduler_without_a_validation_in_the_run() -> None:
    model = Validated(scheduled(ReduceLROnPlateau))
    messages = warned_by_build(model, batches(10), batches(2), max_nb_epochs=3, check_val_every_n_epoch=4)
    assert len(messages) == 2
    assert "it needs a validation metric, and this run has no" in messages[1]


# ---- the model's own optimizer_step


class AtItsOwnIntervals(Adversaries):
    """The page's example: one optimizer every second batch, the other every fourth."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if optimizer_i == 0 and batch_nb % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()

        if optimizer_i == 1:
            if batch_nb % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
            else:
                pass


def test_the_page_s_intervals_alone_are_as_documented() -> None:
    assert warned_by_build(AtItsOwnIntervals(), batches(20), max_nb_epochs=2) == []


def test_the_page_s_intervals_together_with_accumulation() -> None:
    """Windows of two close at batch_nb 1, 3, 5: never where ``batch_nb % 2 == 0``."""
    first, second = warned_by_build(AtItsOwnIntervals(), batches(20), max_nb_epochs=2, accumulate_grad_batches=2)
    assert first.startswith("optimizer_step of optimizer 0: optimizer 0 never steps in this run: the model's optimizer_step ")
    assert "steps it only if batch_nb % 2 == 0, and is called only when a window closes" in first
    assert "at batch_nb 1, 3, 5, 7, ..." in first
    assert "Guards(step={0: every_n_batches(n)})" in first
    assert "optimizer 1 never steps in this run" in second
    assert "batch_nb % 4 == 0" in second


def test_the_page_s_intervals_together_with_windows_that_they_meet_now_and_then() -> None:
    first, second = warned_by_build(AtItsOwnIntervals(), batches(20), max_nb_epochs=1, accumulate_grad_batches=3)
    assert "steps 2 of 4 windows, those with batch_nb % 2 == 0" in first  # after the batches 2, 5, 8, 9
    assert "steps 1 of 4 windows" in second


def test_the_page_s_intervals_together_with_a_step_guard() -> None:
    guards = Guards(step={0: every_n_batches(2), 1: every_n_batches(4, first=0)})
    first, second = warned_by_build(AtItsOwnIntervals(), batches(24), max_nb_epochs=1, guards=guards)
    assert first.startswith("optimizer_step of optimizer 0: optimizer 0 never steps")
    assert "steps 3 of 4 windows, those with batch_nb % 4 == 0" in second  # not the one that the epoch's end closes


class Elsewhere(Linear):
    """An override of which nothing can be told."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        self.step_with(optimizer)

    def step_with(self, optimizer: Any) -> None:
        """Elsewhere."""
        optimizer.step()


def test_an_override_that_cannot_be_read_is_warned_of_in_combination_alone() -> None:
    assert warned_by_build(Elsewhere(), batches(10), max_nb_epochs=2) == []
    [message] = warned_by_build(Elsewhere(), batches(10), max_nb_epochs=2, accumulate_grad_batches=4)
    assert message.startswith("optimizer_step: with accumulate_grad_batches=4 the model's optimizer_step is called only when")


def test_the_machine_s_check_knows_of_the_override_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = build(flags(max_nb_epochs=2, accumulate_grad_batches=2), AtItsOwnIntervals(), train_dataloader=batches(20))
    assert [finding.about for finding in machine.check().findings] == [f"optimizer_step of optimizer {i}" for i in (0, 1)]


# ---- rows of one's own


def windows(*rows: Row) -> Change:
    """Other rows in the place of those that decide when a window closes."""
    return lambda old: [*rows, *(r for r in old if r.source is not State.BACKWARD)]


LOOP = Loop(Options(max_nb_epochs=2, nb_sanity_val_steps=0, accumulate_grad_batches=3), Sizes(train=6))


def errors_of(change: Change, loop: Loop = LOOP) -> list[Finding]:
    """The errors of a loop with other rows."""
    return list(with_rows(evolve(loop), change).check().errors)


def test_two_guards_that_overlap() -> None:
    rows = (
        Row(State.BACKWARD, when=every_n_batches(2), to=State.STEP),
        Row(State.BACKWARD, when=every_n_batches(3), to=State.ACCUMULATE),
        Row(State.BACKWARD, unless=(every_n_batches(2), every_n_batches(3)), to=State.ACCUMULATE),
    )
    [finding] = errors_of(windows(*rows))
    assert finding.about == "state backward"
    assert finding.text.startswith("2 rows hold at once, to step, accumulate.")
    assert finding.example[-1] == "backward (epoch 0, batch 5, optimizer 0)"


def test_a_forgotten_case() -> None:
    rows = (
        Row(State.BACKWARD, when=every_n_batches(2), to=State.STEP),
        Row(State.BACKWARD, when=every_n_batches(2, first=2), to=State.ACCUMULATE),
    )
    [finding] = errors_of(windows(*rows))
    assert "no row holds, so the run cannot continue" in finding.text
    assert [line.split()[0] for line in finding.example] == ["fetch", "train_batch", "backward"]
    assert finding.example[-1] == "backward (epoch 0, batch 0, optimizer 0)"


def test_a_window_that_the_epoch_s_end_does_not_close() -> None:
    full = (
        Row(State.BACKWARD, when=window_is_full, to=State.STEP),
        Row(State.BACKWARD, unless=window_is_full, to=State.ACCUMULATE),
    )
    assert errors_of(windows(*full)) == []  # two windows of three in six batches
    [finding] = errors_of(windows(*full), Loop(LOOP.options, Sizes(train=7)))
    assert "gradients that no optimizer has stepped" in finding.text


def test_an_optimizer_that_never_steps() -> None:
    unstepped, never = errors_of(windows(Row(State.BACKWARD, to=State.ACCUMULATE)))
    assert "gradients" in unstepped.text
    assert never.about == "optimizer 0"
    assert "never steps" in never.text


def without(*to: State) -> Change:
    """No rows from the end of a round to these states; what is left asks nobody else."""

    def change(old: list[Row]) -> list[Row]:
        kept = [r for r in old if not (r.source is State.ROUND_END and r.to in to)]
        return [evolve(r, unless=r.unless[:1]) if r.source is State.ROUND_END and r.when is None else r for r in kept]

    return change


def test_a_table_that_continues_beyond_the_epoch_s_last_batch() -> None:
    [finding] = errors_of(without(State.EPOCH_END), Loop(LOOP.options, Sizes(train=2)))
    assert finding.text.startswith("the run may never end: it continues after its last batch")
    assert finding.example[-1] == "round_end (epoch 0, batch 1, optimizer 0)"


def test_a_save_without_mark_saved_repeats_forever() -> None:
    loop = Loop(LOOP.options, Sizes(train=2), guards=Guards(save=every_n_batches(2)))
    [finding] = errors_of(lambda old: [evolve(r, then=()) if r.to is State.SAVE else r for r in old], loop)
    assert finding.text.startswith("the run may never end: it can return here with all counters unchanged")
    assert finding.example[-1] == "round_end (epoch 0, batch 1, optimizer 0)"


def test_a_state_that_no_run_comes_to() -> None:
    report = with_rows(evolve(LOOP), lambda old: [*old, Row(State.SAVE, to=State.ROUND_END)]).check()
    assert [(f.about, f.text) for f in report.findings] == [
        ("row save -> round_end", "it is never taken: no run reaches the state save.")
    ]


def test_a_row_whose_guard_is_never_true_in_its_state() -> None:
    second = every_n_batches(9)
    rows = (Row(State.BACKWARD, when=second, to=State.ACCUMULATE), Row(State.BACKWARD, unless=second, to=State.STEP))
    report = with_rows(evolve(LOOP), windows(*rows)).check()
    assert ("row backward -> accumulate", "it is never taken: nth_batch_is_done never holds when it is called there.") in [
        (f.about, f.text) for f in report.findings
    ]


@settings(max_examples=25)
@given(cases(), st.data())
def test_a_dropped_row_is_found_in_any_configuration(case: Case, data: st.DataObject) -> None:
    """One that some run takes leaves a state that nothing leaves then."""
    loop = case.loop()
    untaken = check_loop(loop.spec, max_moments=2_000).unused_rows
    dropped = data.draw(st.sampled_from([i for i in range(len(loop.table)) if i not in untaken]))
    report = check_loop(with_rows(loop, lambda old: [r for i, r in enumerate(old) if i != dropped]).spec, max_moments=2_000)
    assert any("no row holds" in finding.text for finding in report.errors)


@settings(max_examples=25)
@given(cases(), st.data())
def test_a_row_that_is_always_open_overlaps_in_any_configuration(case: Case, data: st.DataObject) -> None:
    loop = case.loop()
    untaken = check_loop(loop.spec, max_moments=2_000).unused_rows
    source = data.draw(st.sampled_from([r.source for i, r in enumerate(loop.table) if i not in untaken]))
    report = check_loop(with_rows(loop, lambda old: [*old, Row(source, to=State.DONE)]).spec, max_moments=2_000)
    assert any(f.about == f"state {source}" and "rows hold at once" in f.text for f in report.errors)


@settings(max_examples=25)
@given(cases())
def test_build_warns_of_what_the_check_finds(case: Case) -> None:
    """The quick part finds nothing that the whole does not find."""
    loop = case.loop()
    assert {f.about for f in quick_findings(loop.spec)} <= {f.about for f in check_loop(loop.spec, max_moments=2_000).findings}
