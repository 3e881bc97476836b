"""The dispatcher and its trace: what it asks, what it remembers, and what it says when something goes wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.interval_guards import after_batches, after_steps, every_n_batches, every_n_steps_of
from fsmtrain.core.limits import Limits
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.trace import BLOCK, Transition
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import FsmtrainError, GuardError, UsageError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.plurals import a_type_of
from tests.reference import Every, Replaced, Script
from tests.strategies import MAX_VISITS, Case, cases, nth

Place = tuple[State, int, int, int, int, int]

LONG = Case(
    options=Options(
        accumulate_grad_batches=3, truncated_bptt_steps=5, max_nb_epochs=3, val_check_interval=0.25, nb_sanity_val_steps=4
    ),
    sizes=Sizes(train=40, val=(3, 2), test=(7,), optimizers=2),
    replaced=Replaced(step={1: Every(n=4, first=0)}, save=Every(n=7)),
    script=Script(splits=(1, 3, 2)),
)


def place(state: State, counters: Counters) -> Place:
    """A state and a position."""
    return (state, counters.current_epoch, counters.batch_nb, counters.split_nb, counters.optimizer_i, counters.global_step)


def left(transition: Transition) -> Place:
    """The state and the position from which a transition left."""
    return (
        transition.source,
        transition.current_epoch,
        transition.batch_nb,
        transition.split_nb,
        transition.optimizer_i,
        transition.global_step,
    )


def by_run(run: Dispatcher) -> None:
    """To the end at once."""
    run.run()


def by_advance(run: Dispatcher) -> None:
    """To the end step by step."""
    while not run.is_finished:
        run.advance()


def by_turns(run: Dispatcher) -> None:
    """A few steps first, then the rest at once."""
    for _ in range(700):
        if not run.is_finished:
            run.advance()
    run.run()


def plain(loop: Loop, actions: dict[State, Callable[[], None]] | None = None) -> Dispatcher:
    """A run of a loop from its start, and an error where it does not end."""
    run: Dispatcher

    def bounded(action: Callable[[], None] | None) -> Callable[[], None]:
        def act() -> None:
            assert run.trace.total < MAX_VISITS, "the run does not end"
            if action is not None:
                action()

        return act

    bounded_actions = {state: bounded((actions or {}).get(state)) for state in State}
    run = Dispatcher(loop.table, loop.limits, Counters.begin(loop.limits.optimizers), Signals(), bounded_actions)
    return run


# ---- the trace


@pytest.mark.parametrize("go", [by_run, by_advance, by_turns])
def test_the_trace_replays_the_positions_of_the_run(go: Callable[[Dispatcher], None]) -> None:
    """Only rows are kept; the positions are worked out again, over several blocks of them."""
    places: list[Place] = []
    run = LONG.dispatcher(LONG.folded_table, lambda state, counters, _: places.append(place(state, counters)))
    go(run)
    told = list(run.trace)
    assert len(places) > 3 * BLOCK
    assert run.trace.total == len(places)
    assert len(told) == len(run.trace) <= 2 * BLOCK
    assert [left(transition) for transition in told] == places[-len(told) :]
    assert [transition.to for transition in told[:-1]] == [transition.source for transition in told[1:]]
    assert told[-1].to is run.state is State.DONE


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_the_trace_replays_every_counter(case: Case) -> None:
    """Applying the rows' effects to the counters of the beginning gives those of the end."""
    run = case.dispatcher(case.folded_table)
    begin = run.counters.copy()
    run.run()
    assume(run.trace.total == len(run.trace))  # a longer run's trace does not go back to its beginning
    for transition in run.trace:
        assert left(transition) == place(transition.source, begin)
        heard = run.limits.begin_signals(splits=nth(case.script.splits, begin.batches_begun))
        if case.limits.manual_optimization:
            heard.own_steps = nth(case.script.made, begin.batches_begun - 1)
        apply_effects(run.table.rows[transition.row].then, run.limits, begin, heard)
    assert begin == run.counters


def test_the_trace_can_be_read_at_any_time_and_keeps_the_last_block_at_least() -> None:
    places: list[Place] = []
    run = LONG.dispatcher(LONG.folded_table, lambda state, counters, _: places.append(place(state, counters)))
    while not run.is_finished:
        assert run.trace.total == len(places)
        assert min(len(places), BLOCK) <= len(run.trace) <= 2 * BLOCK
        if len(places) % 97 == 0:
            told = [left(transition) for transition in run.trace]
            assert told == places[len(places) - len(told) :]
        run.advance()


def test_a_transition_has_the_place_it_left() -> None:
    run = plain(Loop(Options(), Sizes(train=3)))
    told = [str(run.advance()) for _ in range(8)]
    assert told[0] == "start -> fetch (epoch 0, batch 0, optimizer 0)"
    assert told[7] == "train_batch -> backward (epoch 0, batch 1, optimizer 0)"


# ---- one at a time, or all at once


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_advancing_and_running_are_the_same_run(case: Case) -> None:
    one, other = case.dispatcher(case.folded_table), case.dispatcher(case.folded_table)
    one.run()
    by_advance(other)
    assert list(one.trace)[-BLOCK:] == list(other.trace)[-BLOCK:]
    assert one.trace.total == other.trace.total
    assert (one.counters, one.signals, one.state) == (other.counters, other.signals, other.state)
    assert visits(one) == visits(other)


def visits(run: Dispatcher) -> dict[State, int]:
    """How often each state was visited."""
    return {state: spent.count for state, spent in run.times.items()}


def test_the_visits_that_are_timed_are_those_of_the_run() -> None:
    seen: Counter[State] = Counter()
    run = LONG.dispatcher(LONG.folded_table, lambda state, *_: seen.update([state]))
    run.run()
    assert visits(run) == seen
    assert list(visits(run)) == [state for state in State if state in seen]
    assert all(spent.seconds > 0 for spent in run.times.values())


def test_an_observer_sees_every_transition_after_it_was_taken() -> None:
    seen: list[Transition] = []
    loop = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=2), Sizes(train=3))

    def look(transition: Transition) -> None:
        seen.append(transition)
        assert run.state is transition.to
        assert run.trace.total == len(seen)

    counters, signals = Counters.begin(1), Signals()
    run = Dispatcher(loop.table, loop.limits, counters, signals, {}, observer=look)
    run.run()
    assert seen == list(run.trace)


def test_a_run_can_begin_in_any_state() -> None:
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=3))
    run = Dispatcher(
        loop.table, loop.limits, Counters(batch_nb=2, gathered=1, open_windows=1), Signals(), {}, state=State.BACKWARD
    )
    run.run()
    assert [str(t.source) for t in run.trace] == ["backward", "step", "round_end", "epoch_end", "early_stop"]


def test_there_is_no_transition_after_the_end() -> None:
    run = plain(Loop(Options(max_nb_epochs=0), Sizes(train=1)))
    run.run()
    total = run.trace.total
    with pytest.raises(UsageError, match="has ended in the state done"):
        run.advance()
    run.run()
    assert run.trace.total == total


# ---- errors say where


@pytest.mark.parametrize("go", [by_run, by_advance])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), GuardError("no")])
def test_an_error_in_an_action_has_one_note_with_state_epoch_and_batch(
    go: Callable[[Dispatcher], None], error: BaseException
) -> None:
    def act() -> None:
        if (run.counters.current_epoch, run.counters.batch_nb) == (3, 17):
            raise error

    error.__dict__.pop("__notes__", None)
    run = plain(Loop(Options(max_nb_epochs=5), Sizes(train=20)), {State.BACKWARD: act})
    for _ in range(2):  # also when the same error comes up again
        with pytest.raises(type(error)) as caught:
            go(run)
        assert caught.value is error
    assert error.__notes__ == ["in state backward, epoch 3, batch 17, optimizer 0"]
    assert run.state is State.BACKWARD


@pytest.mark.parametrize("go", [by_run, by_advance])
def test_an_error_in_a_guard_has_one_note_with_state_epoch_and_batch(go: Callable[[Dispatcher], None]) -> None:
    def fails_at_batch_two(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 1 // (2 - counters.batch_nb) < 5

    loop = Loop(Options(max_nb_epochs=1), Sizes(train=9, optimizers=2), guards=Guards(step={1: fails_at_batch_two}))
    run = plain(loop)
    with pytest.raises(GuardError, match="ZeroDivisionError") as caught:
        go(run)
    assert caught.value.__notes__ == ["in state backward, epoch 0, batch 2, optimizer 1"]


@pytest.mark.parametrize("go", [by_run, by_advance])
def test_after_an_error_the_run_continues_at_the_same_state(go: Callable[[Dispatcher], None]) -> None:
    """The visit that failed is made again, and everything else is as if nothing had happened."""
    failures = iter([False] * 5 + [True])

    def act() -> None:
        if next(failures, False):
            raise RuntimeError("once")

    loop = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=2), Sizes(train=5))
    whole, run = plain(loop), plain(loop, {State.STEP: act})
    whole.run()
    with pytest.raises(RuntimeError, match="once"):
        go(run)
    go(run)
    assert list(run.trace)[-5:] == list(whole.trace)[-5:]
    assert run.counters == whole.counters
    assert run.trace.total == whole.trace.total


def test_the_trace_outlives_errors() -> None:
    """However often the run is taken up again and fails at once, the last block of transitions is kept."""

    def act() -> None:
        if run.counters.batch_nb == 150:
            raise RuntimeError("again")

    run = plain(Loop(Options(max_nb_epochs=1), Sizes(train=200)), {State.STEP: act})
    for _ in range(4):
        with pytest.raises(RuntimeError, match="again"):
            run.run()
        assert len(run.trace) >= min(run.trace.total, BLOCK)


def test_a_table_without_a_row_that_holds_is_an_error_that_names_its_guards() -> None:
    table = Table(
        (
            Row(State.START, when=ask.never, to=State.FETCH),
            Row(State.START, when=ask.stop_is_requested, to=State.DONE),
            Row(State.FETCH, to=State.DONE),
        )
    )
    loop = Loop(Options(), Sizes(train=1))
    for go in (by_run, by_advance):
        run = Dispatcher(table, loop.limits, Counters(), Signals(), {})
        with pytest.raises(GuardError, match="leaves the state start") as caught:
            go(run)
        assert "never: False, stop_is_requested: False" in str(caught.value)
        assert caught.value.__notes__ == ["in state start, epoch 0, batch 0, optimizer 0"]


# ---- guards are asked once, and held to what they must be


class Asked:
    """A guard that counts how often it is asked at each visit and answers as another one does."""

    def __init__(self, answer: Guard) -> None:
        self.answer = answer
        self.places: list[tuple[int, State, int, int, int]] = []
        self.run: Dispatcher

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        at = (counters.current_epoch, counters.batch_nb, counters.split_nb)
        self.places.append((self.run.trace.total, self.run.state, *at))
        return self.answer(limits, counters, signals)

    @property
    def most_often(self) -> int:
        """The most times that it was asked in one visit."""
        return max(Counter(visit for visit, *_ in self.places).values())


def asked(options: Options, sizes: Sizes, **answers: Guard) -> tuple[dict[str, Asked], Dispatcher]:
    """A run with counting guards; ``step_0`` is the first optimizer's."""
    counting = {name: Asked(answer) for name, answer in answers.items()}
    guards = Guards(
        step={i: counting[f"step_{i}"] for i in range(sizes.optimizers) if f"step_{i}" in counting},
        validate=counting.get("validate"),
        save=counting.get("save"),
        stop=counting.get("stop"),
    )
    run = plain(Loop(options, sizes, guards=guards))
    for guard in counting.values():
        guard.run = run
    run.run()
    return counting, run


def test_a_step_guard_is_called_once_after_each_backward_of_its_optimizer() -> None:
    """Also at the last batch, where the window closes whatever it answers."""
    guards, run = asked(
        Options(max_nb_epochs=2), Sizes(train=5, optimizers=2), step_0=every_n_batches(2), step_1=every_n_batches(3)
    )
    for index in (0, 1):
        assert guards[f"step_{index}"].most_often == 1
        visits = [t for t in run.trace if t.source is State.BACKWARD and t.optimizer_i == index]
        assert len(guards[f"step_{index}"].places) == len(visits) == 10


def test_validate_save_and_stop_guards_are_called_once_at_the_end_of_a_batch() -> None:
    guards, _ = asked(
        Options(min_nb_epochs=0, max_nb_epochs=2, nb_sanity_val_steps=0),
        Sizes(train=5, val=(2,), optimizers=2),
        validate=every_n_batches(2),
        save=every_n_batches(3),
    )
    batches = [(epoch, batch) for epoch in range(2) for batch in range(5)]
    for name in ("validate", "save"):
        assert guards[name].most_often == 1
        assert {state for _, state, *_ in guards[name].places} == {State.ROUND_END}
        assert [(epoch, batch) for _, _, epoch, batch, _ in guards[name].places] == batches


def test_a_stop_guard_is_called_at_most_once_a_visit() -> None:
    guards, _ = asked(
        Options(min_nb_epochs=0, max_nb_epochs=3, nb_sanity_val_steps=0, val_check_interval=2),
        Sizes(train=5, val=(2,)),
        stop=ask.never,
        save=every_n_batches(2),
    )
    assert guards["stop"].most_often == 1
    assert {state for _, state, *_ in guards["stop"].places} == {State.ROUND_END, State.EARLY_STOP}


def test_a_stop_guard_is_called_at_most_once_a_visit_if_a_test_follows() -> None:
    guards, _ = asked(Options(min_nb_epochs=0, max_nb_epochs=3), Sizes(train=2, test=(1,)), stop=ask.never)
    assert guards["stop"].most_often == 1


@pytest.mark.parametrize("times", range(5))
def test_a_stop_guard_that_changes_its_mind_does_not_cost_the_test(times: int) -> None:
    """It looks at a clock, say: asked twice in one visit, it would lead past the test that follows."""
    answers = iter([False] * times + [True] * 20)

    def time_is_up(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return next(answers)

    run = plain(Loop(Options(max_nb_epochs=9), Sizes(train=1, test=(1,)), guards=Guards(stop=time_is_up)))
    run.run()
    assert list(run.trace)[-1].source is State.TEST


def answers_with(value: Any) -> Guard:
    """A guard that answers with this."""

    def answer(limits: Limits, counters: Counters, signals: Signals) -> bool:
        given: bool = value
        return given

    return answer


@pytest.mark.parametrize("value", [None, 1, 0, "yes", 1.0, [True]])
def test_an_answer_that_is_no_bool_is_an_error(value: Any) -> None:
    run = plain(Loop(Options(), Sizes(train=2), guards=Guards(step={0: answers_with(value)})))
    expected = re.escape(f"Guards(step={{0: answer}}): the guard returned {value!r}, {a_type_of(value)}")
    with pytest.raises(GuardError, match=expected) as caught:
        run.run()
    assert "bool(...)" in str(caught.value)
    assert isinstance(caught.value, FsmtrainError)


@pytest.mark.parametrize("kind", ["step", "validate", "save", "stop"])
def test_a_guard_that_raises_is_named_with_its_place(kind: str) -> None:
    def broken(limits: Limits, counters: Counters, signals: Signals) -> bool:
        raise KeyError("lr")

    guards = Guards(step={0: broken}) if kind == "step" else Guards(**{kind: broken})  # type: ignore[arg-type]
    loop = Loop(Options(min_nb_epochs=0, nb_sanity_val_steps=0), Sizes(train=2, val=(1,)), guards=guards)
    place = "step={0: broken}" if kind == "step" else f"{kind}=broken"
    with pytest.raises(GuardError, match=re.escape(f"Guards({place}): the guard raised KeyError: 'lr'")) as caught:
        plain(loop).run()
    assert isinstance(caught.value.__cause__, KeyError)


def changes_a_counter(limits: Limits, counters: Counters, signals: Signals) -> bool:
    counters.gathered += 7
    return False


def changes_a_list(limits: Limits, counters: Counters, signals: Signals) -> bool:
    counters.optimizer_steps[0] += 1
    return False


def changes_a_signal(limits: Limits, counters: Counters, signals: Signals) -> bool:
    signals.stop_requested = True
    return False


@pytest.mark.parametrize("guard", [changes_a_counter, changes_a_list, changes_a_signal])
@pytest.mark.parametrize("kind", ["step", "validate", "save", "stop"])
def test_a_guard_that_changes_its_arguments_is_an_error(guard: Guard, kind: str) -> None:
    guards = Guards(step={0: guard}) if kind == "step" else Guards(**{kind: guard})  # type: ignore[arg-type]
    loop = Loop(Options(min_nb_epochs=0, nb_sanity_val_steps=0), Sizes(train=2, val=(1,)), guards=guards)
    with pytest.raises(GuardError, match="changed the counters or signals"):
        plain(loop).run()


def test_a_guard_cannot_change_the_limits() -> None:
    def changes_a_limit(limits: Limits, counters: Counters, signals: Signals) -> bool:
        limits.epochs = 1  # type: ignore[misc]
        return False

    with pytest.raises(GuardError, match="FrozenInstanceError"):
        plain(Loop(Options(), Sizes(train=2), guards=Guards(step={0: changes_a_limit}))).run()


@pytest.mark.parametrize(
    ("guards", "says"),
    [
        ({"stop": True}, "Guards(stop): True is not a function"),
        ({"step": [(0, ask.never)]}, "Guards(step=[("),
        ({"step": {0: "always"}}, "Guards(step={0: ...}): 'always' is not a function"),
        ({"step": {-1: ask.never}}, "step={-1: ...}): the key is an optimizer's index"),
        ({"step": {True: ask.never}}, "step={True: ...}): the key is an optimizer's index"),
        ({"step": {"0": ask.never}}, "step={'0': ...}): the key is an optimizer's index"),
    ],
)
def test_what_can_be_no_guard_is_refused_at_once(guards: dict[str, Any], says: str) -> None:
    with pytest.raises(GuardError, match=re.escape(says)):
        Guards(**guards)


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (every_n_batches, (0,), "every_n_batches(0)"),
        (every_n_batches, (True,), "every_n_batches(True)"),
        (every_n_batches, (2.0,), "every_n_batches(2.0)"),
        (every_n_batches, (2, -1), "every_n_batches(2, first=-1)"),
        (every_n_batches, (2, "0"), "every_n_batches(2, first='0')"),
        (every_n_steps_of, (-1, 2), "every_n_steps_of(-1, 2)"),
        (every_n_steps_of, (0.0, 2), "every_n_steps_of(0.0, 2)"),
        (every_n_steps_of, (0, 0), "every_n_steps_of(0, 0)"),
        (every_n_steps_of, (0, True), "every_n_steps_of(0, True)"),
        (after_batches, (-1,), "after_batches(-1)"),
        (after_batches, (2.0,), "after_batches(2.0)"),
        (after_steps, (-1,), "after_steps(-1)"),
        (after_steps, (None,), "after_steps(None)"),
    ],
)
def test_guards_made_from_numbers_take_only_ints(make: Callable[..., Guard], arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(GuardError, match=re.escape(says)):
        make(*arguments)
