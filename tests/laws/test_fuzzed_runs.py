"""Real runs, driven transition by transition, with stops, errors, streams and metrics in any order.

Somebody asks for a stop, a hook or a forward raises, a guard of the user's changes its mind, a metric gets better or worse, a
stream grows or dries up, gradients overflow, the other engine takes over, somebody looks. After each of these the laws hold,
kept account of here by plain counting.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from fsmtrain import Guards, State
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.decisions import decisions
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.limits import Limits
from fsmtrain.core.trace import Transition
from fsmtrain.core.transition_table import full_table
from fsmtrain.errors import SizesError, UsageError
from fsmtrain.runtime.hooks.callback import HOOKS
from tests.laws.fuzz_run import CONFIGURATIONS, PlannedFailure, Surroundings

pytestmark = pytest.mark.slow

# ---- keeping account


TAKES_REQUESTS = {State.START, State.SANITY_VAL, State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP, State.TEST}


class Account:
    """What a run has done so far, counted from its transitions alone."""

    def __init__(self, limits: Limits, guards: Guards) -> None:
        self.limits, self.guards = limits, guards
        self.seen: list[Transition] = []
        self.windows = [0] * limits.optimizers  # backwards in the open window of each optimizer
        self.steps = [0] * limits.optimizers
        self.rounds = self.epochs = self.batches = self.validations = self.skipped = 0
        self.has_stepped = False

    def count(self, taken: Transition, after: Counters, signals: Signals) -> None:
        """One more transition."""
        source, to, turn = taken.source, taken.to, taken.optimizer_i
        self.seen.append(taken)
        if source is State.FETCH:
            self.batches += 1
            assert taken.batch_nb == after.batch_nb < (self.limits.train_batches or 99)
        elif source is State.TRAIN_BATCH:
            self.windows[turn] += 1
        elif source is State.STEP:
            assert self.windows[turn] > 0
            self.windows[turn] = 0
            self.skipped += signals.step_skipped
            self.steps[turn] += not signals.step_skipped
            self.has_stepped = True
        elif source is State.EPOCH_END:
            assert not any(self.windows), "a window crosses the epoch's end"
            self.epochs += not after.epoch_ended_early
        elif source is State.VAL_CHECK and to is not State.VAL_CHECK:
            self.validations += after.eval_nb + 1 == self.limits.val_batches
        if to is State.ROUND_END and source is not State.SAVE and turn + 1 == self.limits.optimizers:
            self.rounds += self.has_stepped
            self.has_stepped = False
        self._legal(taken, after, signals)

    def _legal(self, taken: Transition, after: Counters, signals: Signals) -> None:
        limits, source, to = self.limits, taken.source, taken.to
        if source is State.BACKWARD and taken.optimizer_i not in self.guards.step:
            assert self.windows[taken.optimizer_i] <= limits.window_of(taken.current_epoch)
        ends_batch = source is State.ROUND_END and to not in (State.TRAIN_BATCH, State.SAVE, State.STOPPED)
        if ends_batch and self.guards.validate is None and limits.validates:
            is_due = (taken.batch_nb + 1) % limits.val_check_batches == 0 and (
                taken.current_epoch + 1
            ) % limits.val_check_epochs == 0
            assert is_due is (to is State.VAL_CHECK)
        if signals.stop_requested and source in TAKES_REQUESTS:
            assert to is State.STOPPED
        if to is State.STOPPED:
            assert signals.stop_requested
        if to is State.DONE:
            assert not any(self.windows)
            assert min(limits.min_epochs, limits.epochs) <= self.epochs <= limits.epochs
        assert (after.batches_begun, after.epochs_done, after.validations_done) == (self.batches, self.epochs, self.validations)
        assert (after.optimizer_steps, after.global_step) == (self.steps, self.rounds)
        assert after.steps_skipped == self.skipped
        assert after.open_windows == sum(window > 0 for window in self.windows)
        assert after.gathered == self.windows[after.optimizer_i]


# ---- the rules

VISITS: Counter[State] = Counter()  # of all runs of the test
ENDINGS: Counter[str] = Counter()  # final states, and where runs failed
SELDOM_CALLED = [name for name in HOOKS if name not in ("on_run_start", "on_transition", "on_batch_start")]
EVALUATES = {State.SANITY_VAL, State.VAL_CHECK, State.TEST}


class FromOutside(RuleBasedStateMachine):
    """One run after the other, each driven by the rules."""

    @initialize(name=st.sampled_from(list(CONFIGURATIONS)))
    def begin(self, name: str) -> None:
        torch.manual_seed(0)
        self.outside = Surroundings()
        self.machine = CONFIGURATIONS[name].machine(self.outside)
        self.run = self.machine.as_transitions().model
        self.failed = False
        loop = self.machine.loop
        self.full = full_table(decisions(loop.guards))
        self.account = Account(loop.limits, loop.guards)

    @precondition(lambda self: self.failed or self.machine.state.is_final)
    @rule(name=st.sampled_from(list(CONFIGURATIONS)))
    def begin_another(self, name: str) -> None:
        self.begin(name)

    @property
    def goes_on(self) -> bool:
        """Whether there is a further transition."""
        return not self.failed and not self.machine.state.is_final

    # ---- going on

    @precondition(lambda self: self.goes_on)
    @rule(theirs=st.booleans())
    def advance(self, theirs: bool) -> None:
        """One transition, by either engine."""
        machine = self.machine
        source, before = machine.state, machine.counters.copy()
        try:
            if theirs:
                assert self.run.advance()
                taken = list(machine.trace)[-1]
            else:
                taken = machine.advance()
        except PlannedFailure as error:
            self.has_failed(error)
            return
        VISITS[source] += 1
        VISITS[machine.state] += machine.state.is_final
        if machine.state.is_final:
            ENDINGS[str(machine.state)] += 1
        assert (taken.source, taken.to) == (source, machine.state)
        assert (taken.current_epoch, taken.batch_nb, taken.optimizer_i) == (
            before.current_epoch,
            before.batch_nb,
            before.optimizer_i,
        )
        self.exactly_one_row_holds(taken, before)
        self.account.count(taken, machine.counters, machine.signals)

    @precondition(lambda self: self.goes_on)
    @rule(theirs=st.booleans(), times=st.integers(2, 8))
    def advance_several_times(self, theirs: bool, times: int) -> None:
        for _ in range(times):
            if self.goes_on:
                self.advance(theirs)

    @precondition(lambda self: self.goes_on)
    @rule(turns=st.lists(st.booleans(), min_size=4, max_size=16))
    def advance_in_turns(self, turns: list[bool]) -> None:
        for theirs in turns:
            if self.goes_on:
                self.advance(theirs)

    @precondition(lambda self: self.goes_on)
    @rule(theirs=st.booleans(), state=st.sampled_from([state for state in State if state is not State.START]))
    def advance_up_to(self, theirs: bool, state: State) -> None:
        while self.goes_on:
            self.advance(theirs)
            if self.machine.state is state:
                break

    def exactly_one_row_holds(self, taken: Transition, before: Counters) -> None:
        """In the folded table, the one that was taken, and in the full one, the same by its source, target and effects."""
        machine = self.machine
        moment = machine.loop.limits, before, machine.signals
        [row] = [row for row in machine.spec.table.leaving(taken.source) if row.holds(*moment)]
        assert row is machine.spec.table.rows[taken.row]
        [of_full] = [row for row in self.full.leaving(taken.source) if row.holds(*moment)]
        assert of_full.to is row.to
        counters = before.copy()
        apply_effects(of_full.then, machine.loop.limits, counters, machine.signals)
        for name in ("round_nb", "stepped_in", "gathered_by"):  # kept only where somebody asks for them
            setattr(counters, name, getattr(machine.counters, name))
        assert counters == machine.counters

    def has_failed(self, error: PlannedFailure) -> None:
        """An error has ended the run: it names the place, everything is restored, and the run cannot go on."""
        machine = self.machine
        self.failed = True
        ENDINGS[str(error)] += 1
        assert any(note.startswith(f"in state {machine.state}, epoch") for note in error.__notes__)
        if not machine.state.is_final:
            for go_on in (machine.advance, machine.run, self.run.advance, lambda: next(iter(machine))):
                with pytest.raises(UsageError, match="ended with an error"):
                    go_on()

    # ---- from outside

    @precondition(lambda self: self.goes_on)
    @rule()
    def ask_for_a_stop(self) -> None:
        self.machine.stop()

    @precondition(lambda self: self.goes_on)
    @rule(theirs=st.booleans(), state=st.sampled_from([State.EARLY_STOP, State.EPOCH_END, State.VAL_CHECK, State.TEST]))
    def ask_for_a_stop_where_it_is_seldom_asked_for(self, theirs: bool, state: State) -> None:
        """Where the run comes to it; at its end otherwise, where it means nothing any more."""
        while self.goes_on and self.machine.state is not state:
            self.advance(theirs)
        self.machine.stop()

    @precondition(lambda self: self.goes_on)
    @rule(in_a_hook=st.booleans())
    def let_the_next_hook_or_forward_fail(self, in_a_hook: bool) -> None:
        self.outside.fails_in = "any hook" if in_a_hook else "forward"

    @precondition(lambda self: self.goes_on)
    @rule(hook=st.sampled_from(SELDOM_CALLED))
    def let_a_hook_fail(self, hook: str) -> None:
        self.outside.fails_in = hook

    @rule(index=st.integers(0, 3), answer=st.booleans())
    def swap_a_guard(self, index: int, answer: bool) -> None:
        self.outside.switches[index] = answer

    @rule(improves=st.booleans())
    def let_the_metric_improve_or_not(self, improves: bool) -> None:
        self.outside.improves = improves

    @rule(batches=st.integers(1, 4))
    def let_the_stream_be_so_long(self, batches: int) -> None:
        self.outside.stream = batches

    @precondition(lambda self: self.machine.loop.options.precision == "16")
    @rule(overflows=st.booleans())
    def let_gradients_overflow_or_not(self, overflows: bool) -> None:
        self.outside.overflows = overflows

    @rule()
    def look(self) -> None:
        """Reading attributes changes nothing."""
        machine = self.machine
        before = machine.counters.copy(), machine.signals.copy(), machine.state, torch.get_rng_state()
        str(machine.loop), str(machine.times)
        with contextlib.suppress(SizesError):
            machine.plan()
        assert self.run.may_advance() is not machine.state.is_final
        assert "Class" in str(self.run.get_graph().draw(None))
        assert (machine.counters, machine.signals, machine.state) == before[:3]
        assert torch.equal(torch.get_rng_state(), before[3])

    # ---- always

    @invariant()
    def the_trace_is_what_was_seen(self) -> None:
        if not self.failed or self.machine.trace.total == len(self.account.seen):
            assert list(self.machine.trace) == self.account.seen
        else:  # the hook for a transition, or for the run's end, raised after it
            assert list(self.machine.trace)[:-1] == self.account.seen

    @invariant()
    def modes_are_as_they_should_be(self) -> None:
        machine, model = self.machine, self.machine.model
        assert torch.is_grad_enabled()
        in_pass = not self.failed and machine.state in EVALUATES and self._has_begun_its_pass()
        assert all(module.training is not in_pass for module in model.modules())
        in_turn = not self.failed and machine.state in (State.BACKWARD, State.ACCUMULATE, State.STEP)
        if not in_turn:
            assert all(parameter.requires_grad for parameter in model.parameters())

    def _has_begun_its_pass(self) -> bool:
        return bool(self.account.seen) and self.account.seen[-1].source is self.machine.state

    def teardown(self) -> None:
        """Most runs are brought to their end."""
        if hasattr(self, "machine"):
            self.outside.fails_in = None
            while self.goes_on:
                self.advance(theirs=False)
            if not self.failed:
                assert self.machine.result.state is self.machine.state
                self.has_ended()

    def has_ended(self) -> None:
        """Running a run again that is over changes nothing; one that was stopped says how to continue it."""
        if self.machine.state is State.STOPPED:
            with pytest.raises(UsageError, match=r"This run was stopped after .* and has ended"):
                self.machine.run()
        else:
            assert self.machine.run() == self.machine.result


# Always the same runs, so that what is counted over all of them is so too.
SETTINGS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def test_the_laws_hold_with_any_outside_signals_and_every_state_is_visited_often(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one visit in a hundred is to each state: rare states would be tested rarely.

    A run that goes back to a checkpoint stands in `rolled_back` for no caller to see: `test_nonfinite` has those runs.
    """
    monkeypatch.chdir(tmp_path)  # for checkpoints
    VISITS.clear()
    ENDINGS.clear()
    run_state_machine_as_test(FromOutside, settings=SETTINGS)
    shares = {str(state): VISITS[state] / VISITS.total() for state in State if state is not State.ROLLED_BACK}
    print({k: round(v * 100, 1) for k, v in shares.items()}, ENDINGS)
    assert {state: share for state, share in shares.items() if share < 0.01} == {}
    failures = ENDINGS.total() - ENDINGS["done"] - ENDINGS["stopped"]
    assert failures > ENDINGS.total() / 10
    assert ENDINGS["forward"] > 0
