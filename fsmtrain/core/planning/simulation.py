"""Run a loop's table without its actions, batch by batch, and record the epochs that it makes."""

from __future__ import annotations

from attrs import Factory, define, field

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Node, choose
from fsmtrain.core.guard_ast.evaluate import Evaluator
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.epoch_builder import Epoch, EpochBuilder
from fsmtrain.core.states import State

RECORDED = tuple(s for s in State if s.info.eval_pass or s in (State.STEP, State.SAVE, State.EPOCH_END))

Rows = tuple[int, ...]  # the table rows taken from one fetch to the next, by their index


@define
class Simulation:
    """A run of a table without actions. The one signal that it may raise is that patience is exhausted.

    Attributes:
        limits: What the guards see as ``limits``.
        node: The state that is visited next.
        counters, signals: What the guards see as ``counters`` and ``signals``; changed during the run.
        exhausted_after: The number of validations after which patience is exhausted; None for never.
        exhausted_after_epochs: The same in epochs, if the metric may be one of training; None if it may not, or for never.
        steps_made: How many steps the model's own ``optimizer_step`` makes; None for one.
        counted: The signals that the effects of the nodes count. A run and its trials share them.
        depth: The number of repetitions that this is a trial of, one inside the other; 0 for a plain run.
        epochs: The finished epochs in order, as stretches of them, each after the number of times that it comes in a row.
        epoch: The epoch under way.
        sanity_batches, test_batches: Batches of the sanity pass and of the test; 0 until there is one.
    """

    limits: Limits
    node: Node
    counters: Counters
    signals: Signals
    exhausted_after: int | None = None
    exhausted_after_epochs: int | None = None
    depth: int = 0
    steps_made: Evaluator | None = None
    counted: Signals = field(default=Factory(lambda self: self.signals, takes_self=True))
    epochs: list[tuple[int, tuple[Epoch, ...]]] = field(factory=list, init=False)
    epoch: EpochBuilder = field(init=False, default=Factory(lambda self: EpochBuilder(self.counters), takes_self=True))
    sanity_batches: int = field(default=0, init=False)
    test_batches: int = field(default=0, init=False)

    def run_batch(self) -> Rows:
        """Run up to the next fetch, or to the end, and return the rows taken."""
        rows = [self._visit()]
        while not (self.node.state is State.FETCH or self.node.is_final):
            rows.append(self._visit())
        self.close_epoch()
        return tuple(rows)

    def close_epoch(self) -> None:
        """Begin another epoch if the one under way is complete. The run stands at its first fetch, or at the end."""
        if self.epoch.is_complete:
            self.epochs.append((1, (self.epoch.build(),)))
            self.epoch = EpochBuilder(self.counters)

    def _visit(self) -> int:
        """Visit a state: ask its guards and apply the effects of the row that holds. Return the row's index."""
        node = self.node
        if node.state in RECORDED:
            self.record(node.state)
        case = choose(node, self.limits, self.counters, self.signals)
        for effect in case.effects:
            effect(self.limits, self.counters)
        self.node = case.target
        return case.row

    def record(self, state: State) -> None:
        """Record a visit to one of the `RECORDED` states, before its guards are asked."""
        counters, limits = self.counters, self.limits
        match state:
            case State.STEP:
                self.epoch.add_window(counters.optimizer_i, counters.gathered)
                if self.steps_made is not None:
                    self.counted.own_steps = self.steps_made(limits, counters, self.signals)
            case State.SAVE:
                self.epoch.saves.add(counters.batch_nb)
            case State.EPOCH_END:
                self.epoch.end(counters)
                if self.exhausted_after_epochs is not None and counters.epochs_done + 1 >= self.exhausted_after_epochs:
                    self.signals.patience_exhausted |= not counters.epoch_ended_early
            case State.SANITY_VAL:
                self.sanity_batches = limits.sanity_batches
            case State.VAL_CHECK:
                self.epoch.validations.add(counters.batch_nb)
                if self.exhausted_after is None:
                    self.signals.patience_exhausted = False  # an improvement
                elif counters.validations_done + 1 >= self.exhausted_after:
                    self.signals.patience_exhausted = True
            case State.TEST:
                self.test_batches = limits.test_batches
        if state.info.eval_pass is not None:  # go to the last batch of the pass: nothing is decided before that one
            counters.eval_nb = limits.eval_batches(state.info.eval_pass) - 1
