"""The trace: the last transitions of a run, kept as row numbers and told as `Transition`s.

Only row numbers are written while the run goes on. The counters at each transition are worked out when somebody looks, by
applying the rows' effects again to a copy from the beginning of the block.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.errors import UsageError

BLOCK = 512  # transitions; between one and two blocks are kept


@frozen(kw_only=True)
class Transition:
    """One transition that was taken, and where the run stood when it left `source`.

    `row` is its row's index in the table. All positions count from 0.
    """

    row: int
    source: State
    to: State
    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    global_step: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.to} ({where(self)})"


def where(position: Transition | Counters) -> str:
    """A position for a person: ``epoch 3, batch 17, optimizer 0``. All count from 0."""
    return f"epoch {position.current_epoch}, batch {position.batch_nb}, optimizer {position.optimizer_i}"


def transition(table: Table, row: int, counters: Counters) -> Transition:
    """The transition by this row from these counters."""
    case = table.rows[row]
    return Transition(
        row=row,
        source=case.source,
        to=case.to,
        current_epoch=counters.current_epoch,
        batch_nb=counters.batch_nb,
        split_nb=counters.split_nb,
        optimizer_i=counters.optimizer_i,
        global_step=counters.global_step,
    )


class Trace:
    """The last transitions of a run, oldest first; `len` is how many are kept, `total` how many there were.

    Of those that are not kept any more it is known by which rows they went: `taken` counts them all.
    """

    def __init__(self, table: Table, limits: Limits, counters: Counters) -> None:
        self.table, self._limits = table, limits
        self._older: tuple[Counters, list[int]] = (counters.copy(), [])
        self.rows: list[int] = []  # the block that is being filled: the run appends here
        self._start = counters.copy()
        self._dropped = [0] * len(table)  # by row

    def turn(self, counters: Counters) -> list[int]:
        """Begin a new block at these counters; returns it, with room for `BLOCK` rows."""
        self._dropped = self._with(self._dropped, self._older[1])
        self._older = (self._start, self.rows)
        self._start, self.rows = counters.copy(), []
        return self.rows

    def last(self) -> tuple[State, Counters]:
        """The state that was left last, and the counters of then, before the row's effects.

        Raises:
            UsageError: There was no transition.
        """
        start, rows = (self._start, self.rows) if self.rows else self._older
        if not rows:
            raise UsageError("there has been no transition yet.")
        counters = start.copy()
        for row in rows[:-1]:
            for effect in self.table.rows[row].then:
                effect(self._limits, counters)
        return self.table.rows[rows[-1]].source, counters

    @property
    def last_row(self) -> int | None:
        """The row that was taken last, by its index; None before the first transition."""
        rows = self.rows or self._older[1]
        return rows[-1] if rows else None

    @property
    def source(self) -> State | None:
        """The state that was left last; None before the first transition."""
        row = self.last_row
        return None if row is None else self.table.rows[row].source

    @property
    def total(self) -> int:
        """The transitions of the whole run."""
        return sum(self._dropped) + len(self)

    @property
    def taken(self) -> tuple[int, ...]:
        """How often the run has taken each row of the table, in their order."""
        return tuple(self._with(self._with(self._dropped, self._older[1]), self.rows))

    @staticmethod
    def _with(counts: list[int], rows: list[int]) -> list[int]:
        """The counts, those of a block added. Counting bytes takes a quarter of the time that counting a list does."""
        block = bytes(rows)
        return [count + block.count(row) for row, count in enumerate(counts)]

    def __len__(self) -> int:
        return len(self._older[1]) + len(self.rows)

    def __iter__(self) -> Iterator[Transition]:
        for start, rows in (self._older, (self._start, list(self.rows))):
            counters = start.copy()
            for row in rows:
                yield transition(self.table, row, counters)
                for effect in self.table.rows[row].then:
                    effect(self._limits, counters)
