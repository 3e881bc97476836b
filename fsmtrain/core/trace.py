"""Trace: the last transitions of a run, kept as row numbers and read as `Transition` values.

During the run only row numbers are written, and the values of counted signals beside them. The counters at each
transition are computed when somebody reads: the rows' effects are applied again, from the beginning of the block.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import CountedEffect, apply_effects
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table
from fsmtrain.errors import UsageError

BLOCK = 512  # transitions; between one and two blocks are kept


@frozen(kw_only=True)
class Transition:
    """One transition, with the position of the run when it left `source`. All positions count from 0.

    `row` is the index of its row in the table.
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
    """Return a position in words, counted from 0: ``epoch 3, batch 17, optimizer 0``."""
    return f"epoch {position.current_epoch}, batch {position.batch_nb}, optimizer {position.optimizer_i}"


def transition(table: Table, row: int, counters: Counters) -> Transition:
    """Return the transition by this row from these counters."""
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


@frozen(eq=False)
class _Block:
    """Consecutive transitions: the counters before the first one, the rows, and the values that their effects counted."""

    start: Counters
    rows: list[int] = field(factory=list)
    counted: list[int] = field(factory=list)


class Trace:
    """The last transitions of a run, oldest first; `len` is how many are kept, `total` how many there were.

    For older transitions only the number of times that each row was taken is known: `taken` counts them all.
    """

    def __init__(self, table: Table, limits: Limits, counters: Counters) -> None:
        self.table, self._limits = table, limits
        self._older = _Block(counters.copy())
        self._dropped = [0] * len(table)  # transitions by row
        self._begin_block(counters)

    def _begin_block(self, counters: Counters) -> None:
        self._block = _Block(counters.copy())
        # The lists of the block, to which the run appends. A value is appended before its row.
        self.rows, self.counted = self._block.rows, self._block.counted

    def turn(self, counters: Counters) -> list[int]:
        """Begin a new block at these counters. Return its list of rows, with room for `BLOCK` of them."""
        self._dropped = self._add(self._dropped, self._older.rows)
        self._older = self._block
        self._begin_block(counters)
        return self.rows

    def last(self) -> tuple[State, Counters]:
        """Return the last state that was left, and the counters of that moment, before the row's effects.

        Raises:
            UsageError: There was no transition.
        """
        block = self._block if self.rows else self._older
        if not block.rows:
            raise UsageError("there has been no transition yet.")
        *_, (row, counters) = self._replay(block)
        return self.table.rows[row].source, counters

    @property
    def last_row(self) -> int | None:
        """The index of the row that was taken last; None before the first transition."""
        rows = self.rows or self._older.rows
        return rows[-1] if rows else None

    @property
    def source(self) -> State | None:
        """The state that was left last; None before the first transition."""
        row = self.last_row
        return None if row is None else self.table.rows[row].source

    @property
    def total(self) -> int:
        """The number of transitions of the whole run."""
        return sum(self._dropped) + len(self)

    @property
    def taken(self) -> tuple[int, ...]:
        """How often the run has taken each row of the table, in the table's order."""
        return tuple(self._add(self._add(self._dropped, self._older.rows), self.rows))

    @staticmethod
    def _add(counts: list[int], rows: list[int]) -> list[int]:
        """Return the counts with a block added. Counting bytes takes a quarter of the time that counting a list does."""
        block = bytes(rows)
        return [count + block.count(row) for row, count in enumerate(counts)]

    def __len__(self) -> int:
        return len(self._older.rows) + len(self.rows)

    def __iter__(self) -> Iterator[Transition]:
        for block in (self._older, self._block):
            for row, counters in self._replay(block):
                yield transition(self.table, row, counters)

    def _replay(self, block: _Block) -> Iterator[tuple[int, Counters]]:
        """Yield each row with the counters before its effects; the next step changes them."""
        counters, signals = block.start.copy(), Signals()
        rows = list(block.rows)  # first: the run may append meanwhile, and a value comes before its row
        counted = iter(list(block.counted))
        for i, row in enumerate(rows):
            effects = self.table.rows[rows[i - 1]].then if i else ()
            for effect in effects:
                if isinstance(effect, CountedEffect) and not (effect.once_an_epoch and counters.batch_nb > 0):
                    setattr(signals, effect.signal, next(counted))
            apply_effects(effects, self._limits, counters, signals)
            yield row, counters
