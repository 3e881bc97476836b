"""Breadth-first search through every moment of a configuration, without leaving out or merging any.

A *moment* is a state whose work has just been done, the counters, and all that the guards are asked about. In each one exactly
one row of the full table must hold, and one of the folded table, with the same target and effects; the laws of windows, checks
and epochs are seen to by counting; and from no moment a run may come to itself again. It knows neither the dispatcher nor how
the check explores.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterator

from attrs import evolve, field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.folding import folded
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import limits_of
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Row, Table, full_table
from fsmtrain.options import Options

MAX_STREAM_BATCHES = 6  # train batches of an epoch
MAX_PASS_BATCHES = 2  # batches of a val or test stream
MAX_SPLITS = 3
MAX_MOMENTS = 50_000  # of one configuration; one with more never ends

BOTH = (False, True)
TAKES_REQUESTS = {State.START, State.SANITY_VAL, State.ROUND_END, State.EARLY_STOP, State.VAL_CHECK, State.TEST}


class Oracle:
    """A guard that may return either value at any time. The search sets it."""

    def __init__(self) -> None:
        self.answer = False

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        return self.answer


@frozen
class Configuration:
    """One point of a grid."""

    options: Options
    sizes: Sizes
    guards: Guards = field(factory=Guards)
    skips_steps: bool = False
    rolls_back: bool = False

    @property
    def limits(self) -> Limits:
        """Its limits."""
        limits = limits_of(self.options, self.sizes, self.guards)
        return evolve(limits, skips_steps=self.skips_steps, rolls_back=self.rolls_back)


@frozen
class Lasting:
    """Signals that last from one visit to the next."""

    stream_ended: bool = False
    splits: int = 1
    patience_exhausted: bool = False
    stop_requested: bool = False


Key = tuple[object, ...]


class Search:
    """Explores all moments of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.limits, self.guards = configuration.limits, configuration.guards
        full = full_table(decisions(self.guards))
        self.full, self.folded = by_state(full), by_state(folded(full, self.limits, self.guards))
        self.oracles = {
            State.BACKWARD: [g for g in self.guards.step.values() if isinstance(g, Oracle)],
            State.TRAIN_BATCH: [g for g in self.guards.step.values() if isinstance(g, Oracle) and self.limits.may_return_none],
            State.ROUND_END: [g for g in (self.guards.validate, self.guards.save, self.guards.stop) if isinstance(g, Oracle)],
            State.EARLY_STOP: [g for g in (self.guards.stop,) if isinstance(g, Oracle)],
        }
        self.moments: Counter[str] = Counter()  # by the row that holds in them
        self.following: dict[Key, set[Key]] = {}
        self.signals = self.limits.begin_signals()

    def explore(self) -> None:
        """Explore everything from the start on."""
        begin = State.START, Counters.begin(self.limits.optimizers), Lasting()
        waiting = deque([begin])
        self.following[key(*begin)] = set()
        while waiting:
            state, counters, standing = waiting.popleft()
            here = self.following[key(state, counters, standing)]
            assert len(self.following) < MAX_MOMENTS, "the run does not end"
            if state.is_final:
                self.moments[str(state)] += 1
                continue
            for seen in self.possible_signals(state, counters, standing):
                to, after = self.step(state, counters)
                self.laws(state, counters, to, after)
                there = key(to, after, seen)
                here.add(there)
                if there not in self.following:
                    self.following[there] = set()
                    waiting.append((to, after, seen))
        self.every_run_ends()

    # ---- from outside

    def possible_signals(self, state: State, counters: Counters, before: Lasting) -> Iterator[Lasting]:
        """Yield all combinations of signals at a visit; `signals` and the oracles are set to each while it is yielded."""
        limits, signals = self.limits, self.signals
        ended: tuple[bool, ...] = (before.stream_ended,)
        splits: tuple[int, ...] = (before.splits,)
        passed: tuple[bool, ...] = (False,)
        skipped: tuple[bool, ...] = (False,)
        none: tuple[bool, ...] = (False,)
        nonfinite: tuple[bool, ...] = (False,)
        made: tuple[int, ...] = (1,)
        if state is State.FETCH:
            if limits.train_is_stream:
                ended = BOTH if counters.batch_nb + 1 < MAX_STREAM_BATCHES else (True,)
            if limits.splits_batches:
                splits = tuple(range(1, MAX_SPLITS + 1))
        elif state is State.TRAIN_BATCH:
            none = BOTH if limits.may_return_none else (False,)
            made = (0, 1, 2) if limits.manual_optimization else (1,)
        elif state is State.STEP:
            skipped = BOTH if limits.skips_steps else (False,)
            nonfinite = BOTH if limits.rolls_back else (False,)
        elif state in self.pass_lengths and self.pass_lengths[state] == 0:
            passed = BOTH if counters.eval_nb + 1 < MAX_PASS_BATCHES else (True,)
        oracles = self.oracles.get(state, [])
        requested = (True,) if before.stop_requested else BOTH
        for (
            signals.stream_ended,
            signals.splits,
            signals.pass_ended,
            signals.loss_is_none,
            signals.step_skipped,
            signals.nonfinite,
            signals.own_steps,
            signals.stop_requested,
        ) in itertools.product(ended, splits, passed, none, skipped, nonfinite, made, requested):
            for signals.patience_exhausted in self.patience(state, counters, before):
                for answers in itertools.product(BOTH, repeat=len(oracles)):
                    for oracle, answer in zip(oracles, answers, strict=True):
                        oracle.answer = answer
                    yield Lasting(signals.stream_ended, signals.splits, signals.patience_exhausted, signals.stop_requested)

    @property
    def pass_lengths(self) -> dict[State, int]:
        """Return the batches of each pass, 0 if a stream is among its loaders."""
        limits = self.limits
        return {State.SANITY_VAL: limits.sanity_batches, State.VAL_CHECK: limits.val_batches, State.TEST: limits.test_batches}

    def patience(self, state: State, counters: Counters, before: Lasting) -> tuple[bool, ...]:
        """Yield whether patience may be exhausted: the metric arrives at the end of a validation, or of a whole epoch."""
        is_last = counters.eval_nb + 1 == self.limits.val_batches or self.signals.pass_ended
        arrives = is_last if state is State.VAL_CHECK else state is State.EPOCH_END and not counters.epoch_ended_early
        if arrives and self.limits.stops_early:
            return BOTH
        return (before.patience_exhausted,)

    # ---- one transition

    def step(self, state: State, counters: Counters) -> tuple[State, Counters]:
        """Return the next state and its counters; both tables must agree."""
        limits, signals = self.limits, self.signals
        holding = [row for row in self.full[state] if row.holds(limits, counters, signals)]
        mine = [row for row in self.folded[state] if row.holds(limits, counters, signals)]
        assert len(holding) == len(mine) == 1, (state, counters, signals, holding, mine)
        assert holding[0].to is mine[0].to
        after, mine_after = counters.copy(), counters.copy()
        apply_effects(holding[0].then, limits, after, signals)
        apply_effects(mine[0].then, limits, mine_after, signals)
        if limits.optimizers == 1:  # no other optimizer has a turn
            mine_after.gathered_by = after.gathered_by
        if self.guards == Guards():  # no guard reads them
            mine_after.round_nb, mine_after.stepped_in = after.round_nb, after.stepped_in
        assert after == mine_after
        self.moments[label(holding[0])] += 1
        return holding[0].to, after

    def laws(self, state: State, before: Counters, to: State, after: Counters) -> None:
        """Assert the laws of one transition."""
        limits, signals = self.limits, self.signals
        windows = [*after.gathered_by]
        windows[after.optimizer_i] = after.gathered
        assert after.open_windows == sum(window > 0 for window in windows)
        assert all(w <= after.window_length for i, w in enumerate(windows) if i not in self.guards.step)
        if to in (State.EPOCH_END, State.TEST, State.DONE):
            assert not any(windows), "a window crosses the end of an epoch, or is left open at that of the run"
        assert before.batches_waited <= after.batches_waited <= limits.longest_window + 1, "a stop waits for too long"
        if before.batches_waited and to is State.FETCH:
            assert after.batches_waited == before.batches_waited + 1, "a stop that waits is forgotten"
            assert any(windows), "a stop waits although no window is open"
        if state is State.BACKWARD and to is State.ACCUMULATE:
            is_last = before.batch_nb + 1 == limits.train_batches or signals.stream_ended
            assert not (is_last and before.split_nb + 1 == before.batch_splits), (
                "the epoch's last backward leaves a window open"
            )
        if state is State.TRAIN_BATCH:
            has_backward = not signals.loss_is_none and not limits.manual_optimization
            assert (to is State.BACKWARD) is has_backward
            made = signals.own_steps if limits.manual_optimization else 0
            assert limits.optimizers > 1 or to is not State.ROUND_END or after.global_step == before.global_step + made
            assert to is not State.STEP or before.gathered > 0, "a step without a backward"
        if state is State.FETCH:
            assert before.batch_nb < (limits.train_batches or MAX_STREAM_BATCHES)
            assert before.current_epoch == before.epochs_done < limits.epochs
        if state is State.ROUND_END and to in (State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP, State.FETCH):
            assert (to is State.VAL_CHECK) is self.validation_is_due(before)
        if to is State.DONE and limits.epochs:
            assert min(limits.min_epochs, limits.epochs) <= after.epochs_done <= limits.epochs
        if (
            limits.saves_end
            and state is not State.START
            and (to in (State.TEST, State.DONE) or (state is State.EARLY_STOP and to is State.EPOCH_END))
        ):
            assert after.saved, "the end of the run is in no checkpoint"
        assert after.ending == (state is State.EARLY_STOP and to is State.SAVE)
        assert (to is State.ROLLED_BACK) is (state is State.STEP and signals.nonfinite)
        assert (to is State.STOPPED) is (signals.stop_requested and (state in TAKES_REQUESTS or before.epoch_ended_early))

    def validation_is_due(self, counters: Counters) -> bool:
        """Return whether a validation is due by the documented rule, computed with remainders."""
        limits = self.limits
        if self.guards.validate is not None:
            return limits.validates and self.guards.validate(limits, counters, self.signals)
        return (
            limits.validates
            and (counters.batch_nb + 1) % limits.val_check_batches == 0
            and (counters.current_epoch + 1) % limits.val_check_epochs == 0
        )

    def every_run_ends(self) -> None:
        """Assert that no moment follows itself: removing moments without predecessors removes all."""
        leading = Counter(there for following in self.following.values() for there in following)
        free = [here for here in self.following if leading[here] == 0]
        for here in free:
            for there in self.following[here]:
                leading[there] -= 1
                if leading[there] == 0:
                    free.append(there)
        assert len(free) == len(self.following)


def by_state(table: Table) -> dict[State, tuple[Row, ...]]:
    """Return the rows that leave each state."""
    return {state: table.leaving(state) for state in State}


def label(row: Row) -> str:
    """Return a row in words: source, target and guards."""
    return f"{row.source} -> {row.to}: {guard_name(row.when) if row.when is not None else 'otherwise'}"


def key(state: State, counters: Counters, standing: Lasting) -> Key:
    """Return a value that identifies a moment."""
    return state, counters.values(), standing
