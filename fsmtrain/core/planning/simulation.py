"""A run without actions that leaves out what repeats itself: where a part of it has gone by, it is tried for all repetitions.

A trial walks the part with numbers that stand for all its repetitions (`repetitions`). If it ends as the next repetition
begins, the run goes on behind the last one in which every guard, and every effect, would answer as in the first.

What a guard that cannot be read would answer is not known, and it may have a memory. A trial takes it to answer as it did when
the part was walked, and writes down its moments. Then it is asked at each of them, in the order of the run, up to the first
answer that is another. The repetitions before are left out; in the next one the run takes the answers as they were given, since
a guard may not be asked twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from attrs import define, field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Case, Node, choose
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.affine import Change, NotAffineError, Repetitions, change, each_moment, grown, identical, moved
from fsmtrain.core.planning.epoch_builder import EpochBuilder
from fsmtrain.core.states import State
from fsmtrain.errors import GuardError

MANY = 16  # visits to one state in a row, from which on it is worth while to find out how many follow
ASKED = 8  # times as many repetitions have to be left out for it to be worth while where a guard is asked in each of them

Rows = tuple[int, ...]  # the rows that were taken in a batch; -n stands for n more visits to the state before it


@frozen
class Jump:
    """A part of an epoch that was left out so many times; it changes the counters by so much."""

    course: Sequence[Rows | Jump]
    by: Change
    times: int


Course = list["Rows | Jump"]  # how an epoch was walked: batch by batch, with jumps between


@frozen
class Moment:
    """A moment of a trial in which a guard that cannot be read is asked: what it sees, and the row that is taken."""

    node: Node
    counters: Counters
    signals: Signals
    row: int


@define
class Simulation:
    """A run without actions, or a trial of a part of it that stands for all repetitions of the part.

    Attributes:
        limits: What the guards see.
        opaque: The states that ask a guard that cannot be read.
        exhausted_after: The check after which patience is exhausted; None for never.
        depth: 0 in a run; in a trial how many repetitions it stands in, one inside the other.
        jumps: Whether anything is left out at all.
        visits: How many have been made, those of trials included.
        moments: Of a trial: when a guard that cannot be read is asked.
        answered: Of a run: the rows that such a guard has chosen beforehand, for the next visits that ask one.
    """

    limits: Limits
    opaque: frozenset[State]
    exhausted_after: int | None
    node: Node
    counters: Counters
    signals: Signals
    notes: EpochBuilder
    depth: int = 0
    jumps: bool = True
    visits: list[int] = field(factory=lambda: [0])
    sanity_batches: int = 0
    test_batches: int = 0
    moments: list[Moment] = field(factory=list)
    answered: deque[int] = field(factory=deque)

    def advance(self, before: Rows = ()) -> Rows:
        """Go on to the next fetch, or to the end; the rows that were taken. `before`: those of the batch that is repeated."""
        rows: list[int] = []
        in_a_row = 0
        while True:
            node, nb = self.node, len(rows)
            rows.append(self.visit(before[nb] if nb < len(before) else None))
            if self.node is node:
                in_a_row += 1
                if in_a_row == MANY:
                    rows.append(-self._stay())
                continue
            in_a_row = 0
            if self.node.state is State.FETCH or self.node.is_final:
                return tuple(rows)

    def visit(self, before: int | None = None) -> int:
        """One visit; the row that was taken. `before`: the one that was taken in what is repeated, where that is known."""
        node, counters, notes = self.node, self.counters, self.notes
        state = node.state
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
        if state in self.opaque and (self.depth or self.answered):
            case = self._unasked(before)
        else:
            case = choose(node, self.limits, counters, self.signals)
        for effect in case.effects:
            effect(self.limits, counters)
        self.node = case.target
        self.visits[0] += 1
        if state is State.VAL_CHECK and case.target is not node:
            notes.validations.add(counters.batch_nb)
            if self.exhausted_after is not None and counters.validations_done >= self.exhausted_after:
                self.signals.patience_exhausted = True
        return case.row

    def _unasked(self, before: int | None) -> Case:
        """The row of this state, without asking the guard that cannot be read."""
        node = self.node
        if not self.depth:
            row = self.answered.popleft()
        elif self.depth > 1 or before is None:
            raise NotAffineError
        else:
            row = before
            self.moments.append(Moment(node, self.counters.copy(), self.signals, row))
        for case in node.cases:
            if case.row == row:
                return case
        raise NotAffineError

    def follow(self, course: Sequence[Rows | Jump]) -> None:
        """Walk a part of an epoch, or all of it, as it went before."""
        for part in course:
            if self.notes.is_over:
                raise NotAffineError
            if isinstance(part, Jump):
                self.leave_out(self.attempt(partial(Simulation.follow, course=part.course), part.by), part.times)
            else:
                self.advance(part)

    def _stay(self) -> int:
        """Leave out the visits to this state that are like the one before; how many."""
        node, before = self.node, self.counters.copy()
        self.visit()
        if self.node is not node:
            return 0
        jump = self.repeat(Simulation.visit, before)
        return 0 if jump is None else jump.times

    def repeat(self, part: Callable[[Simulation], object], before: Counters, least: int = 1) -> Jump | None:
        """Leave out the repetitions of the part of the run that has just gone by, all that there are.

        Args:
            part: Walks it.
            before: The counters as it began.
            least: How many there have to be; `ASKED` times as many where a guard that cannot be read has a say.

        Raises:
            GuardError: A guard that cannot be read fails in one of them.

        Returns:
            How many they are, and how each changes the counters; None where nothing was left out.
        """
        if not self.jumps:
            return None
        try:
            by = change(before, self.counters)
            trial = self.attempt(part, by)
            times = trial.repetitions.most()
            if times is not None:
                trial.repetitions.confirm(times)
        except (NotAffineError, GuardError, TypeError):  # a guard that fails does so again where the run comes to it
            return None
        if trial.moments:
            least *= ASKED
            if times is None or times >= least:
                times = self._ask(trial.moments, least, times)
        if times is None or times < least:
            return None
        self.leave_out(trial, times)
        return Jump((), by, times)

    def _ask(self, moments: Sequence[Moment], least: int, most: int | None) -> int:
        """Ask at these moments, repetition by repetition, up to the first answer that is another.

        What is not left out keeps its answers: the repetition with the other one, and all before it if they are too few.

        Returns:
            How many repetitions are as the first, `most` at most.
        """
        limits, answered = self.limits, self.answered
        asked = [(moment.node, each_moment(moment.counters), moment.signals, moment.row) for moment in moments]
        as_before = [moment.row for moment in moments]
        for times in count() if most is None else range(most):
            for i, (node, moment_by_moment, signals, row) in enumerate(asked):
                counters = next(moment_by_moment)
                answer = answered.popleft() if answered else choose(node, limits, counters, signals).row
                if answer != row:
                    kept = as_before * times if times < least else []
                    answered.extendleft(reversed([*kept, *as_before[:i], answer]))
                    return times
        assert most is not None
        return most

    def attempt(self, part: Callable[[Simulation], object], by: Change) -> Trial:
        """Walk a part of the run from here, for all its repetitions at the same time.

        Raises:
            UnevenError: It does not end as the next repetition begins.
        """
        repetitions = Repetitions(self.depth)
        run = Simulation(
            self.limits,
            self.opaque,
            self.exhausted_after,
            self.node,
            grown(self.counters, by, repetitions),
            self.signals.copy(),
            EpochBuilder(self.limits.optimizers),
            self.depth + 1,
            visits=self.visits,
        )
        part(run)
        next_one = grown(moved(self.counters, by, 1), by, repetitions)
        if run.node is not self.node or run.signals != self.signals or not identical(run.counters, next_one):
            raise NotAffineError
        if run.notes.has_places:  # at the same batch each time
            raise NotAffineError
        return Trial(repetitions, run.notes, by, run.moments)

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
    notes: EpochBuilder
    by: Change
    moments: Sequence[Moment]
