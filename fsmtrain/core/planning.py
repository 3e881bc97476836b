"""Works a plan out: runs the very table of a loop with no actions, and writes down what happens in each epoch.

No signal is raised on the way, so that what is planned is the run that nothing from outside cuts short. Epochs that begin
with the same counters, as far as any guard looks at them, are worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatch import Node, choose, nodes_of
from fsmtrain.core.expressions import is_opaque, read, reads_of
from fsmtrain.core.guards import Guard, Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Table

Windows = tuple[tuple[int, int], ...]  # (length in backwards, how many of it in a row), in order

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
_SIMILAR = ("window", "epochs_since_checks", "gathered", "open_windows", "split_nb", "optimizer_i", "saved")


@define(frozen=True, kw_only=True)
class Epoch:
    """What happens in one epoch. Batches count from 0.

    Attributes:
        batches: Train batches.
        windows: For each optimizer, its windows: how long, and how many in a row.
        checks: The batches after which there is a check.
        saves: The batches after which a checkpoint is written.
        global_steps: Rounds in which an optimizer steps.
        cut: Whether a guard ends the epoch before its last batch.
    """

    batches: int
    windows: tuple[Windows, ...]
    checks: tuple[int, ...]
    saves: tuple[int, ...]
    global_steps: int
    cut: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """For each optimizer, its steps."""
        return tuple(sum(count for _, count in windows) for windows in self.windows)


@define
class _Notes:
    """What is written down while an epoch goes by."""

    windows: list[list[list[int]]]
    checks: list[int] = field(factory=list)
    saves: list[int] = field(factory=list)

    def step(self, optimizer_i: int, length: int) -> None:
        windows = self.windows[optimizer_i]
        if windows and windows[-1][0] == length:
            windows[-1][1] += 1
        else:
            windows.append([length, 1])


class Walk:
    """A run of a loop's table without actions, epoch by epoch.

    Args:
        table, limits, guards: The loop's.
        splits: Splits of each batch.
        exhausted_after: The check after which patience is exhausted; None for never.
    """

    def __init__(self, table: Table, limits: Limits, guards: Guards, splits: int, exhausted_after: int | None = None) -> None:
        self._limits, self.counters, self._signals = limits, Counters.begin(limits.optimizers), Signals(splits=splits)
        self._exhausted_after = exhausted_after
        self._node: Node = nodes_of(table, {})[State.START]
        self._alike = not looks_at_growth(guards)
        self._known: dict[tuple[object, ...], tuple[Epoch, Counters, Counters, Node]] = {}
        self.sanity_batches = self.test_batches = 0

    def epochs(self) -> Iterable[Epoch]:
        """The epochs of the run, in order."""
        while not self._node.is_final:
            if self._node.state is State.FETCH:
                yield self._epoch()
            else:
                self._move_on()

    def _move_on(self) -> None:
        """One transition outside of an epoch."""
        if self._node.state is State.SANITY_VAL:
            self.sanity_batches += 1
        elif self._node.state is State.TEST:
            self.test_batches += 1
        self._take()

    def _take(self) -> None:
        case = choose(self._node, self._limits, self.counters, self._signals)
        for effect in case.effects:
            effect(self._limits, self.counters)
        self._node = case.target

    def _epoch(self) -> Epoch:
        counters, exhausted = self.counters, self._signals.patience_exhausted
        may_stop = counters.epochs_done >= self._limits.min_epochs
        key = (exhausted, may_stop, *(getattr(counters, name) for name in _SIMILAR))
        known = self._known.get(key) if self._alike else None
        if known is not None and not self._exhausts(counters.checks_done + len(known[0].checks)):
            epoch, before, after, self._node = known
            _repeat(counters, before, after)
            return epoch
        before = counters.copy()
        epoch = self._walk_epoch()
        if self._alike and exhausted == self._signals.patience_exhausted:
            self._known[key] = (epoch, before, counters.copy(), self._node)
        return epoch

    def _exhausts(self, checks_done: int) -> bool:
        """Whether patience gives out by this check, and has not before."""
        after = self._exhausted_after
        return after is not None and not self._signals.patience_exhausted and checks_done >= after

    def _walk_epoch(self) -> Epoch:
        counters, limits, signals = self.counters, self._limits, self._signals
        notes = _Notes([[] for _ in range(limits.optimizers)])
        steps_before, node = counters.global_step, self._node
        while True:
            state = node.state
            if state is State.STEP:
                notes.step(counters.optimizer_i, counters.gathered)
            elif state is State.SAVE:
                notes.saves.append(counters.batch_nb)
            elif state is State.EPOCH_END:
                break
            for case in node.cases:
                if case.guard is None or case.guard(limits, counters, signals):
                    break
            for effect in case.effects:
                effect(limits, counters)
            node = case.target
            if state is State.VAL_CHECK and node.state is not State.VAL_CHECK:
                notes.checks.append(counters.batch_nb)
                if self._exhausts(counters.checks_done):
                    signals.patience_exhausted = True
        self._node = node
        return Epoch(
            batches=counters.batch_nb + 1,
            windows=tuple(tuple((length, count) for length, count in windows) for windows in notes.windows),
            checks=tuple(notes.checks),
            saves=tuple(notes.saves),
            global_steps=counters.global_step - steps_before,
            cut=counters.cut,
        )


def _repeat(counters: Counters, before: Counters, after: Counters) -> None:
    """Change the counters as an epoch did that began alike: what grows grows as much, what starts again ends the same."""
    for name in Counters.__slots__:
        if name.startswith("__"):
            continue
        start, end, now = getattr(before, name), getattr(after, name), getattr(counters, name)
        if name not in _GROWING:
            setattr(counters, name, list(end) if isinstance(end, list) else end)
        elif isinstance(now, list):
            setattr(counters, name, [n + e - s for n, e, s in zip(now, end, start, strict=True)])
        else:
            setattr(counters, name, now + end - start)


def looks_at_growth(guards: Guards) -> bool:
    """Whether a guard of the user's may tell one epoch from another that began alike."""
    given: list[Guard] = [*guards.step.values(), *(g for g in (guards.check, guards.save, guards.stop) if g is not None)]
    for guard in given:
        expression = read(guard)
        if is_opaque(expression) or any(r.name.split("[")[0] in _GROWING for r in reads_of(expression)):
            return True
    return False
