"""The one home of the tests' Hypothesis strategies: legal configurations of small size, and what comes from outside to them.

A `Case` is a configuration with a script; a `World` plays the script to a run of it, as the code around a loop would.
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
from fsmtrain.core.guards import Guard
from fsmtrain.core.interval_guards import every_n_batches, every_n_steps_of
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.table import Table, full_table
from fsmtrain.core.visit import Visit
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from tests.reference import Every, Following, Replaced, Schedule, Script, schedule

T = TypeVar("T")

MAX_VISITS = 20_000  # more than any run in these tests has; one that goes beyond would never end

EVALUATIONS = (State.SANITY_VAL, State.VAL_CHECK, State.TEST)


# ---- configurations, and what comes from outside to them


@frozen(kw_only=True)
class Case:
    """A configuration, and what comes from outside while it runs."""

    options: Options
    sizes: Sizes
    replaced: Replaced = field(factory=Replaced)
    script: Script = field(factory=Script)
    skips_steps: bool = False

    @property
    def guards(self) -> Guards:
        """The replaced decisions as guards."""
        return guards_of(self.replaced)

    @property
    def limits(self) -> Limits:
        """The configuration's limits."""
        limits = resolve(self.options, self.sizes, has_own_check=self.replaced.check is not None)
        return evolve(limits, skips_steps=self.skips_steps)

    @property
    def full_table(self) -> Table:
        """The whole table with this configuration's decisions, nothing folded away."""
        return full_table(decisions(self.guards))

    @property
    def folded_table(self) -> Table:
        """The configuration's own table."""
        return folded(self.full_table, self.limits, self.guards)

    def loop(self) -> Loop:
        """The configuration as a loop."""
        return Loop(self.options, self.sizes, guards=self.guards)

    def visits(self) -> Iterator[Visit]:
        """The visits of the iterated loop, with the script played to it."""
        world = World(self)
        for visit in assert_ends(self.loop()):
            world.meets(visit.state, visit.signals)
            yield visit

    def schedule(self) -> Schedule:
        """What the reference says of it."""
        return schedule(self.options, self.sizes, self.script, self.replaced)

    def dispatcher(self, table: Table, look: Callable[[State, Counters, Signals], None] | None = None) -> Dispatcher:
        """A run of a table with the script played to it. `look` sees each visit at the moment when its guards are asked."""
        world, counters, signals = World(self), Counters.begin(self.sizes.optimizers), Signals()

        def action(state: State) -> Callable[[], None]:
            def act() -> None:
                reset_signals(signals, state)
                world.meets(state, signals)
                if look is not None:
                    look(state, counters, signals)

            return act

        return Dispatcher(table, self.limits, counters, signals, {state: action(state) for state in State})


def reset_signals(signals: Signals, state: State) -> None:
    """Forget what was said of the last visit of this kind."""
    if state is State.FETCH:
        signals.stream_ended = False
    if state is State.STEP:
        signals.step_skipped = False
    if state in EVALUATIONS:
        signals.pass_ended = False


@define
class World:
    """Plays a case's script to one run of it. It only says that something is so; to take it back is left to the run."""

    case: Case
    visits: int = 0
    epochs: int = 0
    fetched: int = 0
    fetched_in_epoch: int = 0
    checks: int = 0
    waited: int = 0
    steps: int = 0
    done_in_pass: int = 0
    before: State | None = None

    def meets(self, state: State, signals: Signals) -> None:
        """One visit: the signals that the work in this state gives."""
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
        """The batches of this pass; None where every loader has a length, so that nobody needs to say that it ended."""
        script, sizes, options = self.case.script, self.case.sizes, self.case.options
        loaders, true = (sizes.test, script.test) if state is State.TEST else (sizes.val, script.val)
        if None not in loaders:
            return None
        whole = [true[i] if n is None else n for i, n in enumerate(loaders)]
        return sum(min(n, options.nb_sanity_val_steps) if state is State.SANITY_VAL else n for n in whole)


def assert_ends(visits: Iterable[T]) -> Iterator[T]:
    """The visits of a run, and an error where they do not come to an end."""
    for count, visit in enumerate(visits):
        assert count < MAX_VISITS, "the run does not end"
        yield visit


def nth(values: Sequence[T], index: int) -> T:
    """The value at this index, from the beginning again when they have been used up."""
    return values[index % len(values)]


def guards_of(replaced: Replaced) -> Guards:
    """The decisions that are plain data in a case as the guards that they mean."""

    def guard_of(own: Every | Following) -> Guard:
        return every_n_batches(own.n, first=own.first) if isinstance(own, Every) else every_n_steps_of(own.other, own.n)

    return Guards(
        step={i: guard_of(own) for i, own in replaced.step.items()},
        validate=None if replaced.check is None else guard_of(replaced.check),
        save=None if replaced.save is None else guard_of(replaced.save),
        stop=None if replaced.stop is None else enough_steps(replaced.stop),
    )


def enough_steps(steps: int) -> Guard:
    """A guard to stop by: so many steps are done."""

    def enough_steps_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step >= steps

    return enough_steps_are_done


# ---- strategies

PERCENTAGES: tuple[float, ...] = (1.0, 1, 0.9, 0.7, 0.5, 0.34, 0.29, 0.25, 0.15)

windows = st.integers(1, 4) | st.dictionaries(st.integers(0, 3), st.integers(1, 4), max_size=3)
fractions_of_an_epoch = st.sampled_from([1.0, 0.95, 0.75, 0.5, 0.34, 0.25, 0.1, 0.01])
early_stopping = st.sampled_from([None, False, True, *(EarlyStopping(patience=n) for n in range(4))])
every = st.builds(Every, n=st.integers(1, 5), first=st.none() | st.integers(0, 4))
loaders = st.lists(st.sampled_from([1, 2, 3, 5, 0, None]), max_size=3)


@st.composite
def configurations(draw: st.DrawFn, *, fitting: bool = False) -> tuple[Options, Sizes]:
    """Flags and sizes, each legal by itself. Whether they fit each other is open, and likely if `fitting` is asked for."""
    most = draw(st.sampled_from([1, 2, 2, 3, 3, 4, 4, 0]))
    sizes = Sizes(
        train=draw(st.sampled_from([*range(1, 9), None, None, *([] if fitting else [0])])),
        val=draw(loaders),
        test=draw(st.just([]) | loaders),
        optimizers=draw(st.integers(1, 3)),
        fits=draw(st.sampled_from([True] * 7 + [False])),
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
    whole_numbers = st.integers(1, 8)
    if fitting and sizes.train is not None:
        whole_numbers = st.integers(
            1, max(1, int(sizes.train * (percentages["overfit_pct"] or percentages["train_percent_check"])))
        )
    options = Options(
        accumulate_grad_batches=draw(windows),
        truncated_bptt_steps=draw(st.sampled_from([None, None, 1, 7])),
        min_nb_epochs=draw(st.integers(0, most or 2)),
        max_nb_epochs=most,
        early_stop_callback=draw(early_stopping),
        check_val_every_n_epoch=draw(st.sampled_from([1, 1, 2, 3])),
        val_check_interval=draw(whole_numbers if fitting and sizes.train is None else fractions_of_an_epoch | whole_numbers),
        nb_sanity_val_steps=draw(st.sampled_from([0, -1, 1, 2, 5, 6])),
        **percentages,
    )
    return options, sizes


@st.composite
def replacements(draw: st.DrawFn, optimizers: int) -> Replaced:
    """Guards for some of the decisions, often for none."""
    if draw(st.booleans()):
        return Replaced()
    own = every | st.builds(Following, other=st.integers(0, optimizers - 1), n=st.integers(1, 3))
    return Replaced(
        step=draw(st.dictionaries(st.integers(0, optimizers - 1), own, max_size=optimizers)),
        check=draw(st.none() | every),
        save=draw(st.none() | every),
        stop=draw(st.none() | st.integers(0, 20)),
    )


@st.composite
def scripts(draw: st.DrawFn, options: Options, sizes: Sizes, *, skips_steps: bool) -> Script:
    """What comes from outside to this configuration. Nothing is drawn that nobody would ask for."""

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
    )


@st.composite
def cases(draw: st.DrawFn, *, skips_steps: bool = False) -> Case:
    """Configurations that fit their sizes, with guards and a script."""
    options, sizes = draw(configurations(fitting=True))
    replaced = draw(replacements(sizes.optimizers))
    try:
        resolve(options, sizes, has_own_check=replaced.check is not None)
    except SizesError:
        reject()
    skips_steps = skips_steps and draw(st.booleans())
    return Case(
        options=options,
        sizes=sizes,
        replaced=replaced,
        script=draw(scripts(options, sizes, skips_steps=skips_steps)),
        skips_steps=skips_steps,
    )


def _of_type(attribute: Attribute[Any]) -> st.SearchStrategy[Any]:
    """Small values for a field of one of the records that a guard is given."""
    values: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(0, 4),
        "list[int]": st.lists(st.integers(0, 4), min_size=3, max_size=3),
    }
    return values.get(str(attribute.type), st.just(()))


limits_records = st.builds(Limits, **{f.name: _of_type(f) for f in fields(Limits)})
counters_records = st.builds(Counters, **{f.name: _of_type(f) for f in fields(Counters)})
signals_records = st.builds(Signals, **{f.name: _of_type(f) for f in fields(Signals)})

# Any moment at all, also those that no run ever meets.
moments = st.tuples(limits_records, counters_records, signals_records)
