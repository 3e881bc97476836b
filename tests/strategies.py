"""All Hypothesis strategies of the tests: small legal configurations, and scripts of the signals that come from outside.

A `Case` is a configuration with a script; a `ScriptPlayer` sets the signals of the script, as the code around a loop would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from attrs import Attribute, define, evolve, field, fields, frozen
from hypothesis import reject
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.folding import folded
from fsmtrain.core.interval_guards import every_n_batches, every_n_steps_of
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import limits_of
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.core.visit import Visit
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from tests.reference import Every, Following, Replaced, Schedule, Script, schedule

T = TypeVar("T")

MAX_VISITS = 20_000  # more than any run in these tests has: a run with more never ends

EVALUATIONS = (State.SANITY_VAL, State.VAL_CHECK, State.TEST)


# ---- configurations and scripts


@frozen(kw_only=True)
class Case:
    """A configuration, and the script of the signals that come from outside while it runs."""

    options: Options
    sizes: Sizes
    replaced: Replaced = field(factory=Replaced)
    script: Script = field(factory=Script)
    skips_steps: bool = False

    @property
    def guards(self) -> Guards:
        """The user's guards."""
        return guards_of(self.replaced)

    @property
    def limits(self) -> Limits:
        """The configuration's limits."""
        return evolve(limits_of(self.options, self.sizes, self.guards), skips_steps=self.skips_steps)

    @property
    def full_table(self) -> Table:
        """The full table with this configuration's decisions, not folded."""
        return full_table(decisions(self.guards))

    @property
    def folded_table(self) -> Table:
        """The configuration's own table."""
        return folded(self.full_table, self.limits, self.guards)

    def loop(self) -> Loop:
        """Return the configuration as a loop."""
        return Loop(self.options, self.sizes, guards=self.guards)

    def visits(self) -> Iterator[Visit]:
        """Yield the visits of the iterated loop while the script is played."""
        player = ScriptPlayer(self)
        for visit in assert_ends(self.loop()):
            player.play(visit.state, visit.signals)
            yield visit

    def schedule(self) -> Schedule:
        """Return the schedule by the nested loops of the reference."""
        return schedule(self.options, self.sizes, self.script, self.replaced)

    def dispatcher(self, table: Table, look: Callable[[State, Counters, Signals], None] | None = None) -> Dispatcher:
        """Return a run of a table while the script is played. `look` is called at each visit, before its guards."""
        player, counters, signals = ScriptPlayer(self), Counters.begin(self.limits.optimizers), self.limits.begin_signals()

        def action(state: State) -> Callable[[], None]:
            def act() -> None:
                reset_signals(signals, state)
                player.play(state, signals)
                if look is not None:
                    look(state, counters, signals)

            return act

        return Dispatcher(table, self.limits, counters, signals, {state: action(state) for state in State})


def reset_signals(signals: Signals, state: State) -> None:
    """Reset the signals that a state sets at each of its visits."""
    if state is State.FETCH:
        signals.stream_ended = False
    if state is State.TRAIN_BATCH:
        signals.loss_is_none = False
    if state is State.STEP:
        signals.step_skipped = False
    if state in EVALUATIONS:
        signals.pass_ended = False


@define
class ScriptPlayer:
    """Plays a case's script to one run of it. It only sets signals; resetting them is left to the run."""

    case: Case
    visits: int = 0
    epochs: int = 0
    fetched: int = 0
    fetched_in_epoch: int = 0
    checks: int = 0
    waited: int = 0
    steps: int = 0
    forwards: int = 0
    done_in_pass: int = 0
    before: State | None = None

    def play(self, state: State, signals: Signals) -> None:
        """Set the signals that the work of one visit to this state would set."""
        assert self.visits < MAX_VISITS, "the run does not end"
        script, options = self.case.script, self.case.options
        if state is State.FETCH:
            if options.truncated_bptt_steps is not None:
                signals.splits = nth(script.splits, self.fetched)
            self.fetched += 1
            self.fetched_in_epoch += 1
            if self.case.sizes.train is None and self.fetched_in_epoch == nth(script.train, self.epochs):
                signals.stream_ended = True
        elif state is State.EPOCH_END:
            self.epochs += 1
            self.fetched_in_epoch = 0
        elif state is State.TRAIN_BATCH:
            if self.case.limits.manual_optimization:
                signals.own_steps = nth(script.made, self.forwards)
            signals.loss_is_none = self.case.limits.may_return_none and nth(script.none, self.forwards)
            self.forwards += 1
        elif state is State.STEP:
            if self.case.skips_steps and nth(script.skipped, self.steps):
                signals.step_skipped = True
            self.steps += 1
        elif state in EVALUATIONS:
            self.done_in_pass = self.done_in_pass + 1 if state is self.before else 1
            if self.done_in_pass == self._length_of_pass(state):
                signals.pass_ended = True
            if state is State.VAL_CHECK and self.done_in_pass == 1:
                self.waited = 0 if nth(script.improved, self.checks) else self.waited + 1
                self.checks += 1
                if options.early_stopping is not None:
                    signals.patience_exhausted = self.waited >= max(1, options.early_stopping.patience)
        if script.stop_at is not None and self.visits >= script.stop_at:
            signals.stop_requested = True
        self.visits += 1
        self.before = state

    def _length_of_pass(self, state: State) -> int | None:
        """Return the batches of this pass; None if every loader has a length, so that no signal is needed."""
        script, sizes, options = self.case.script, self.case.sizes, self.case.options
        loaders, true = (sizes.test, script.test) if state is State.TEST else (sizes.val, script.val)
        if None not in loaders:
            return None
        whole = [true[i] if n is None else n for i, n in enumerate(loaders)]
        return sum(min(n, options.nb_sanity_val_steps) if state is State.SANITY_VAL else n for n in whole)


def assert_ends(visits: Iterable[T]) -> Iterator[T]:
    """Yield the visits of a run; raises AssertionError if they do not end."""
    for count, visit in enumerate(visits):
        assert count < MAX_VISITS, "the run does not end"
        yield visit


def nth(values: Sequence[T], index: int) -> T:
    """Return the value at this index, starting over when they are used up."""
    return values[index % len(values)]


def guards_of(replaced: Replaced) -> Guards:
    """Return the guards for decisions that are plain data."""

    def guard_of(own: Every | Following) -> Guard:
        return every_n_batches(own.n, first=own.first) if isinstance(own, Every) else every_n_steps_of(own.other, own.n)

    return Guards(
        step={i: guard_of(own) for i, own in replaced.step.items()},
        validate=None if replaced.validate is None else guard_of(replaced.validate),
        save=None if replaced.save is None else guard_of(replaced.save),
        save_at_end=replaced.save_at_end,
        stop=None if replaced.stop is None else enough_steps(replaced.stop),
    )


def enough_steps(steps: int) -> Guard:
    """Return a stop guard that fires after so many steps."""

    def enough_steps_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step >= steps

    return enough_steps_are_done


# ---- strategies

PERCENTAGES: tuple[float, ...] = (1.0, 1, 0.9, 0.7, 0.5, 0.34, 0.29, 0.25, 0.15)

windows = st.integers(1, 4) | st.dictionaries(st.integers(0, 3), st.integers(1, 4), min_size=1, max_size=3)
fractions_of_an_epoch = st.sampled_from([1.0, 0.95, 0.75, 0.5, 0.34, 0.25, 0.1, 0.01])
early_stopping = st.sampled_from([None, False, True, *(EarlyStopping(patience=n) for n in range(4))])
every = st.builds(Every, n=st.integers(1, 5), first=st.none() | st.integers(0, 4))
loaders = st.lists(st.sampled_from([1, 2, 3, 5, 0, None]), max_size=3)


@st.composite
def configurations(draw: st.DrawFn, *, fitting: bool = False) -> tuple[Options, Sizes]:
    """Flags and sizes, each legal alone; with `fitting` they are likely to fit each other, too."""
    most = draw(st.sampled_from([1, 2, 2, 3, 3, 4, 4, 0]))
    sizes = Sizes(
        train=draw(st.sampled_from([*range(1, 9), None, None, *([] if fitting else [0])])),
        val=draw(loaders),
        test=draw(st.just([]) | loaders),
        optimizers=draw(st.integers(1, 3)),
        fits=draw(st.sampled_from([True] * 7 + [False])),
        may_return_none=draw(st.sampled_from([False, False, True])),
        manual_optimization=draw(st.sampled_from([False] * 5 + [True])),
    )

    def share(of: tuple[int | None, ...], *, off: bool = True) -> float:
        works = [p for p in PERCENTAGES if not fitting or all(n == 0 or (n and n * p >= 1) or p == 1 for n in of)]
        return draw(st.sampled_from([1.0, 1.0, *works, *([0, 0.0] if off else [])]))

    has_stream = None in (sizes.train, *sizes.val, *sizes.test)
    percentages: dict[str, Any] = {
        "train_percent_check": share((sizes.train,), off=False),
        "val_percent_check": share(sizes.val),
        "test_percent_check": share(sizes.test),
        "overfit_pct": 0.0 if fitting and has_stream else draw(st.sampled_from([0.0] * 5 + [0, 0.5, 0.3, 1.0])),
    }
    limits: dict[str, Any] = {
        f"limit_{name}_batches": draw(st.none() | st.integers(least, 5))
        for name, loaders_, least in (("train", (sizes.train,), 1), ("val", sizes.val, 0), ("test", sizes.test, 0))
        if percentages[f"{name}_percent_check"] == 1.0 and not percentages["overfit_pct"] and None not in loaders_
    }
    max_steps = draw(st.sampled_from([None, None, None, *range(1, 13)]))
    min_steps = draw(st.sampled_from([None, None, *range(1, 13)]))
    min_fits = max_steps is None or (min_steps or 0) <= max_steps
    steps: dict[str, Any] = {"max_steps": max_steps, "min_steps": min_steps if min_fits else None}
    whole_numbers = st.integers(1, 8)
    if fitting and sizes.train is not None:
        used = int(sizes.train * (percentages["overfit_pct"] or percentages["train_percent_check"]))
        whole_numbers = st.integers(1, max(1, min(used, limits.get("limit_train_batches") or used)))
    options = Options(
        accumulate_grad_batches=1 if sizes.manual_optimization else draw(windows),
        truncated_bptt_steps=draw(st.sampled_from([None, None, 1, 7])) if not sizes.manual_optimization else None,
        min_nb_epochs=draw(st.integers(0, most or 2)),
        max_nb_epochs=None if max_steps is not None and steps_for_sure(sizes) and draw(st.booleans()) else most,
        early_stop_callback=draw(early_stopping),
        check_val_every_n_epoch=draw(st.sampled_from([1, 1, 2, 3])),
        val_check_interval=draw(whole_numbers if fitting and sizes.train is None else fractions_of_an_epoch | whole_numbers),
        nb_sanity_val_steps=draw(st.sampled_from([0, -1, 1, 2, 5, 6])),
        **percentages,
        **limits,
        **steps,
    )
    return options, sizes


def steps_for_sure(sizes: Sizes) -> bool:
    """Return whether every run of these sizes steps, so that ``max_steps`` ends it."""
    return not sizes.may_return_none and not sizes.manual_optimization


def compatible(flags: dict[str, Any]) -> dict[str, Any]:
    """Return drawn flags without those that exclude others, or must fit them."""
    return {name: value for name, value in flags.items() if not name.startswith(("limit_", "min_"))}


@st.composite
def replacements(draw: st.DrawFn, optimizers: int) -> Replaced:
    """Guards for some of the decisions, often for none. With 0 optimizers, none of them steps by a guard."""
    if draw(st.booleans()):
        return Replaced()
    own = every | st.builds(Following, other=st.integers(0, max(0, optimizers - 1)), n=st.integers(1, 3))
    return Replaced(
        step=draw(st.dictionaries(st.integers(0, optimizers - 1), own, max_size=optimizers)) if optimizers else {},
        validate=draw(st.none() | every),
        save=draw(st.none() | every),
        stop=draw(st.none() | st.integers(0, 20)),
        save_at_end=draw(st.booleans()),
    )


@st.composite
def scripts(draw: st.DrawFn, options: Options, sizes: Sizes, *, skips_steps: bool) -> Script:
    """The signals for this configuration. Only what the configuration uses is drawn."""

    def some(values: st.SearchStrategy[T], wanted: bool, default: T) -> tuple[T, ...]:
        return tuple(draw(st.lists(values, min_size=1, max_size=5))) if wanted else (default,)

    return Script(
        improved=some(st.booleans(), options.early_stopping is not None, True),
        stop_at=draw(st.integers(0, 120)) if draw(st.sampled_from([False] * 4 + [True])) else None,
        train=some(st.integers(1, 8), sizes.train is None, 1),
        val=draw(st.tuples(*[st.integers(1, 5)] * 3)) if None in sizes.val else (1, 1, 1),
        test=draw(st.tuples(*[st.integers(1, 5)] * 3)) if None in sizes.test else (1, 1, 1),
        splits=some(st.integers(1, 4), options.truncated_bptt_steps is not None, 1),
        skipped=some(st.booleans(), skips_steps, False),
        none=some(st.booleans(), sizes.may_return_none, False),
        made=some(st.integers(0, 3), sizes.manual_optimization, 1),
    )


@st.composite
def cases(draw: st.DrawFn, *, skips_steps: bool = False) -> Case:
    """Configurations that fit their sizes, with guards and a script."""
    options, sizes = draw(configurations(fitting=True))
    replaced = draw(replacements(0 if sizes.manual_optimization else sizes.optimizers))
    try:
        limits_of(options, sizes, guards_of(replaced))
    except SizesError:
        reject()
    skips_steps = skips_steps and not sizes.manual_optimization and draw(st.booleans())
    return Case(
        options=options,
        sizes=sizes,
        replaced=replaced,
        script=draw(scripts(options, sizes, skips_steps=skips_steps)),
        skips_steps=skips_steps,
    )


def _of_type(attribute: Attribute[Any]) -> st.SearchStrategy[Any]:
    """Small values for a field of a record that guards get."""
    values: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(0, 4),
        "list[int]": st.lists(st.integers(0, 4), min_size=3, max_size=3),
    }
    return values.get(str(attribute.type), st.just(()))


limits_records = st.builds(Limits, **{f.name: _of_type(f) for f in fields(Limits)})
counters_records = st.builds(Counters, **{f.name: _of_type(f) for f in fields(Counters)})
signals_records = st.builds(Signals, **{f.name: _of_type(f) for f in fields(Signals)})

# Any arguments of a guard, also those that no run produces.
moments = st.tuples(limits_records, counters_records, signals_records)
