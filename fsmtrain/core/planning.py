"""Works a plan out: runs the very table of a loop with no actions, and writes down what happens in each epoch.

No signal is raised on the way but, where asked for, that patience is exhausted.

What no guard can tell apart is planned once, be it val batches, train batches, windows or epochs. Where a stretch of the run
has come twice, it is walked once more with numbers that stand for all its repetitions (`repetitions`). If that shows that it
ends as the next repetition begins, the run goes on behind the last one in which every guard, and every effect, would answer
as in the first. A guard that cannot be read may have a memory: it is asked at each of its moments, in the order of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Literal

from attrs import define, evolve, field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatch import Node, choose, nodes_of
from fsmtrain.core.expressions import is_opaque, read, reads_of
from fsmtrain.core.guards import Guard, Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.notes import Epoch, Notes
from fsmtrain.core.periods import Periods
from fsmtrain.core.repetitions import Change, Repetitions, UnevenError, are_the_same, change, grown, moved
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.errors import GuardError

MANY = 16  # visits to one state in a row, from which on it is worth while to find out how many follow
WORTH = 32  # batches that have to be left out for it to be worth while


@frozen
class Jump:
    """A part of an epoch that was left out so many times; it changes the counters by so much."""

    course: Sequence[Literal[1] | Jump]
    by: Change
    times: int


Course = list["Literal[1] | Jump"]  # how an epoch was walked: batch by batch, with jumps between


@define
class Run:
    """A run without actions, or a trial of a part of it that stands for all repetitions of the part.

    Attributes:
        limits: What the guards see.
        opaque: The states that ask a guard that cannot be read.
        exhausted_after: The check after which patience is exhausted; None for never.
        depth: 0 in a run; in a trial how many repetitions it stands in, one inside the other.
        visits: How many have been made, those of trials included.
    """

    limits: Limits
    opaque: frozenset[State]
    exhausted_after: int | None
    node: Node
    counters: Counters
    signals: Signals
    notes: Notes
    depth: int = 0
    visits: list[int] = field(factory=lambda: [0])
    sanity_batches: int = 0
    test_batches: int = 0

    def advance(self) -> tuple[int, ...]:
        """Go on to the next fetch, or to the end; the rows that were taken."""
        rows: list[int] = []
        in_a_row = 0
        while True:
            node = self.node
            rows.append(self.visit())
            if self.node is node:
                in_a_row += 1
                if in_a_row == MANY:
                    rows.append(-self._stay())
                continue
            in_a_row = 0
            if self.node.state is State.FETCH or self.node.is_final:
                return tuple(rows)

    def visit(self) -> int:
        """One visit; the row that was taken."""
        node, counters, notes = self.node, self.counters, self.notes
        state = node.state
        if self.depth and state in self.opaque:
            raise UnevenError
        if state is State.STEP:
            notes.step(counters.optimizer_i, counters.gathered)
        elif state is State.SAVE:
            notes.saves.add(counters.batch_nb)
        elif state is State.EPOCH_END:
            notes.end(counters)
        elif state is State.SANITY_VAL:
            self.sanity_batches = counters.eval_nb + 1
        elif state is State.TEST:
            self.test_batches = counters.eval_nb + 1
        case = choose(node, self.limits, counters, self.signals)
        for effect in case.effects:
            effect(self.limits, counters)
        self.node = case.target
        self.visits[0] += 1
        if state is State.VAL_CHECK and case.target is not node:
            notes.checks.add(counters.batch_nb)
            if self.exhausted_after is not None and counters.checks_done >= self.exhausted_after:
                self.signals.patience_exhausted = True
        return case.row

    def follow(self, course: Sequence[Literal[1] | Jump]) -> None:
        """Walk a part of an epoch as it went before, its last batch excluded."""
        for part in course:
            if isinstance(part, Jump):
                self.leave_out(self.attempt(partial(Run.follow, course=part.course), part.by), part.times)
            else:
                self.advance()
                if self.notes.is_over:
                    raise UnevenError

    def _stay(self) -> int:
        """Leave out the visits to this state that are like the one before; how many."""
        node, before = self.node, self.counters.copy()
        self.visit()
        if self.node is not node:
            return 0
        jump = self.repeat(Run.visit, before)
        return 0 if jump is None else jump.times

    def repeat(self, part: Callable[[Run], object], before: Counters, least: int = 1) -> Jump | None:
        """Leave out the repetitions of the part of the run that has just gone by, all that there are.

        Args:
            part: Walks it.
            before: The counters as it began.
            least: How many there have to be.

        Returns:
            How many they are, and how each changes the counters; None where nothing was left out.
        """
        try:
            by = change(before, self.counters)
            trial = self.attempt(part, by)
            most = trial.repetitions.most()
            if most is None or most < least:
                return None
            self.leave_out(trial, most)
        except (UnevenError, GuardError, TypeError):  # a guard that fails does so again where the run comes to it
            return None
        return Jump((), by, most)

    def attempt(self, part: Callable[[Run], object], by: Change) -> Trial:
        """Walk a part of the run from here, for all its repetitions at the same time.

        Raises:
            UnevenError: It does not end as the next repetition begins.
        """
        repetitions = Repetitions(self.depth)
        run = Run(
            self.limits,
            self.opaque,
            self.exhausted_after,
            self.node,
            grown(self.counters, by, repetitions),
            self.signals.copy(),
            Notes(self.limits.optimizers),
            self.depth + 1,
            self.visits,
        )
        part(run)
        next_one = grown(moved(self.counters, by, 1), by, repetitions)
        if run.node is not self.node or run.signals != self.signals or not are_the_same(run.counters, next_one):
            raise UnevenError
        return Trial(repetitions, run.notes, by)

    def leave_out(self, trial: Trial, times: int) -> None:
        """Go on behind so many repetitions.

        Raises:
            UnevenError: They are not that many in each repetition around them.
        """
        trial.repetitions.confirm(times)
        self.notes.repeat(trial.notes, times)
        self.counters = moved(self.counters, trial.by, times)


@frozen
class Trial:
    """What came out when a part of a run was walked for all its repetitions."""

    repetitions: Repetitions
    notes: Notes
    by: Change


class Walk:
    """A run of a loop's table without actions, epoch by epoch.

    Args:
        table, limits: The loop's.
        splits: Splits of each batch.
        exhausted_after: The check after which patience is exhausted; None for never.
        jumps: Whether to leave out what repeats itself; the plan is the same without, and takes longer.
    """

    def __init__(
        self, table: Table, limits: Limits, splits: int, exhausted_after: int | None = None, *, jumps: bool = True
    ) -> None:
        self._jumps = jumps
        self._run = Run(
            limits,
            frozenset(State) if not jumps else _opaque(table),
            exhausted_after,
            nodes_of(table, {})[State.START],
            Counters.begin(limits.optimizers),
            Signals(splits=splits),
            Notes(limits.optimizers),
        )

    @property
    def counters(self) -> Counters:
        """Where the run stands."""
        return self._run.counters

    @property
    def sanity_batches(self) -> int:
        """Val batches of the sanity pass."""
        return self._run.sanity_batches

    @property
    def test_batches(self) -> int:
        """Batches of the test."""
        return self._run.test_batches

    @property
    def visits(self) -> int:
        """The visits that were made to work the plan out."""
        return self._run.visits[0]

    def epochs(self) -> Iterator[tuple[int, Epoch]]:
        """The epochs of the run, in order, and how many like it are in a row; or the beginning of such a row."""
        run, periods = self._run, Periods()
        walked: list[tuple[Counters, Course]] = []  # where the last epochs began, and how they went
        run.advance()
        while run.node.state is State.FETCH:
            began = run.counters.copy()
            course, epoch = _epoch(run)
            walked.append((began, course))
            yield 1, epoch
            period = periods.hear(epoch)
            if period and run.node.state is State.FETCH:
                before, courses = walked[-period][0], [course for _, course in walked[-period:]]
                epochs: list[Epoch] = []
                jump = run.repeat(partial(_follow_all, courses=courses, epochs=epochs), before)
                if jump is not None:
                    yield from [(jump.times, epochs[0])] if period == 1 else [(1, epoch) for epoch in epochs] * jump.times
                    periods, walked = Periods(), []


class _Looker:
    """Looks for what comes twice, and compares the counters before and after it when it comes for the third time."""

    def __init__(self) -> None:
        self._periods, self._heard = Periods(), 0
        self._due: dict[int, tuple[int, Counters]] = {}

    def hear(self, shape: Hashable, counters: Counters) -> tuple[int, Counters] | None:
        """How long the part is that may just have come for the third time, and the counters before it."""
        self._heard += 1
        period = self._periods.hear(shape)
        if period:
            self._due[self._heard + period] = period, counters.copy()
        return self._due.pop(self._heard, None)


def _epoch(run: Run) -> tuple[Course, Epoch]:
    """Walk an epoch; how it went, and what there is to say of it."""
    run.notes, began = Notes(run.limits.optimizers), run.counters.global_step
    course: Course = []
    names: dict[Hashable, int] = {}
    near, far = _Looker(), _Looker()  # at batches since the last jump; at all batches, and the jumps between them

    def jump(part: Course, before: Counters) -> int:
        """Leave out the repetitions of a part of the course; how many."""
        done = run.repeat(partial(Run.follow, course=part), before, least=-(-WORTH // len(part)))
        if done is None:
            return 0
        course.append(evolve(done, course=part))
        return done.times

    while True:
        rows = run.advance()
        course.append(1)
        if run.notes.is_over:
            return course, run.notes.epoch(run.counters.global_step - began)
        shape = names.setdefault(rows, len(names))
        candidate = near.hear(shape, run.counters)
        wider = far.hear(shape, run.counters)
        if candidate is not None:
            period, before = candidate
            times = jump([1] * period, before)
            if times:
                near = _Looker()
                wider = far.hear(names.setdefault((period, times), len(names)), run.counters)
        if wider is not None and jump(course[-wider[0] :], wider[1]):
            near, far = _Looker(), _Looker()


def _follow_all(trial: Run, courses: list[Course], epochs: list[Epoch]) -> None:
    epochs.extend(_follow(trial, course) for course in courses)


def _follow(trial: Run, course: Course) -> Epoch:
    """Walk an epoch, for all its repetitions at the same time, as another one went."""
    trial.notes, began = Notes(trial.limits.optimizers), trial.counters.global_step
    trial.follow(course[:-1])
    trial.advance()
    if not trial.notes.is_over:
        raise UnevenError
    epoch = trial.notes.epoch(trial.counters.global_step - began)
    trial.notes = Notes(trial.limits.optimizers)  # all of them are in the epoch
    return epoch


def _opaque(table: Table) -> frozenset[State]:
    """The states that ask a guard that cannot be read."""
    return frozenset(
        row.source for row in table for guard in (row.when, *row.unless) if guard is not None and is_opaque(read(guard))
    )


# Counters that only ever grow: an epoch that a guard sees through one of these is like no other.
_GROWING = frozenset(
    {
        "current_epoch",
        "epochs_done",
        "batches_begun",
        "global_step",
        "checks_done",
        "steps_skipped",
        "round_nb",
        "optimizer_steps",
        "stepped_in",
    }
)


def looks_at_growth(guards: Guards) -> bool:
    """Whether a guard of the user's may tell one epoch from another that began alike."""
    given: list[Guard] = [*guards.step.values(), *(g for g in (guards.check, guards.save, guards.stop) if g is not None)]
    for guard in given:
        expression = read(guard)
        if is_opaque(expression) or any(r.name.split("[")[0] in _GROWING for r in reads_of(expression)):
            return True
    return False
