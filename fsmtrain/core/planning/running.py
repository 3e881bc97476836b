"""A run without actions that leaves out what repeats itself: where a part of it has gone by, it is tried for all repetitions.

A trial walks the part with numbers that stand for all its repetitions (`repetitions`). If it ends as the next repetition
begins, the run goes on behind the last one in which every guard, and every effect, would answer as in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from attrs import define, field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatch import Node, choose
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.notes import Notes
from fsmtrain.core.planning.repetitions import Change, Repetitions, UnevenError, are_the_same, change, grown, moved
from fsmtrain.core.states import State
from fsmtrain.errors import GuardError

MANY = 16  # visits to one state in a row, from which on it is worth while to find out how many follow


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
