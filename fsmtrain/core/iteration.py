"""`Loop`: options, sizes and guards as one torch-free value. It has the table, and can be walked through by itself.

Iterating over a loop drives a training loop that somebody else writes: it says what is next, and they do the work.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from fsmtrain.core.checking.check import check_of
from fsmtrain.core.checking.findings import Report
from fsmtrain.core.counters import SIGNAL_DEFAULTS, SIGNALS, Counters, Signals
from fsmtrain.core.decisions import decisions
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.folding import folded
from fsmtrain.core.guard_ast.expressions import Expression
from fsmtrain.core.guards import Guards
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.planning.planner import make_plan
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.table import Table, full_table
from fsmtrain.core.visit import Visit
from fsmtrain.core.window_scaling import gradient_scale, loss_divisor
from fsmtrain.errors import GuardError
from fsmtrain.options import Options


@frozen
class Loop:
    """A training loop as a value: what will happen, given these options, sizes and guards.

    Args:
        options: The documented flags.
        sizes: The batches of each loader, the optimizers, the splits.
        guards: The decisions that are replaced.
        hook: When the model's own ``optimizer_step`` steps, as read by `stepping`; None for the default. Only a check asks.

    Raises:
        SizesError: The options do not fit the sizes.
        GuardError: A guard for an optimizer that there is not.

    Example:
        >>> loop = Loop(Options(accumulate_grad_batches=2, max_nb_epochs=1), Sizes(train=3))
        >>> " ".join(visit.state.value for visit in loop)  # doctest: +NORMALIZE_WHITESPACE
        'start fetch train_batch backward accumulate round_end fetch train_batch backward step round_end
         fetch train_batch backward step round_end epoch_end early_stop'
    """

    options: Options
    sizes: Sizes
    guards: Guards = field(factory=Guards, kw_only=True)
    hook: Expression | None = field(default=None, kw_only=True, repr=False, eq=False)
    limits: Limits = field(init=False, repr=False, eq=False)
    table: Table = field(init=False, repr=False, eq=False)

    @limits.default
    def _resolve(self) -> Limits:
        return resolve(self.options, self.sizes, has_own_check=self.guards.validate is not None)

    @table.default
    def _fold(self) -> Table:
        return folded(full_table(decisions(self.guards)), self.limits, self.guards)

    def __attrs_post_init__(self) -> None:
        for index in self.guards.step:
            if index >= self.limits.optimizers and self.limits.epochs > 0:
                raise GuardError(
                    f"Guards(step={{{index}: ...}}): there is no optimizer {index}; they count from 0, "
                    f"and there {'is' if self.limits.optimizers == 1 else 'are'} {self.limits.optimizers}."
                )

    @property
    def splits(self) -> int:
        """The splits of each batch; 1 without truncated BPTT."""
        return self.sizes.splits if self.limits.splits_batches else 1

    def plan(self) -> Plan:
        """The exact schedule of a run of this loop, without running anything.

        Raises:
            SizesError: A loader has no length.

        Example:
            >>> print(Loop(Options(accumulate_grad_batches=4, max_nb_epochs=3), Sizes(train=9)).plan())
            sanity pass             none
            epochs                  3
            global_step at the end  9
            optimizer 0             9 steps
            validations             none
            epochs 0 to 2           9 batches; windows: 2 of 4, 1 of 1
        """
        return make_plan(self)

    def check(self) -> Report:
        """What is wrong with this loop, or probably not meant, without running anything.

        Example:
            >>> from fsmtrain.core.guards import every_n_batches
            >>> from fsmtrain.early_stopping import EarlyStopping
            >>> options = Options(max_nb_epochs=2, early_stop_callback=EarlyStopping(patience=5))
            >>> [finding.about for finding in Loop(options, Sizes(train=9, val=[3])).check().findings]
            ['early_stop_callback: patience=5']
        """
        return check_of(self)

    def __iter__(self) -> Iterator[Visit]:
        """Each visit of a fresh run, before its work is done; what it found is asked for when the next one is."""
        counters, signals = Counters.begin(self.limits.optimizers), Signals(splits=self.splits)
        run, configured = Dispatcher(self.table, self.limits, counters, signals, {}), (self.limits, self.guards)
        while not run.is_finished:
            forget(signals, run.state)
            yield Visit(
                state=run.state,
                current_epoch=counters.current_epoch,
                batch_nb=counters.batch_nb,
                split_nb=counters.split_nb,
                optimizer_i=counters.optimizer_i,
                global_step=counters.global_step,
                gathered=counters.gathered,
                loss_scale=1 / loss_divisor(*configured, counters) if run.state is State.BACKWARD else 1.0,
                gradient_scale=gradient_scale(*configured, counters) if run.state is State.STEP else 1.0,
                signals=signals,
            )
            run.advance()


def forget(signals: Signals, state: State) -> None:
    """Reset the signals that hold for one visit only, before the next visit to a state whose action writes them."""
    for name in state.info.writes:
        if not SIGNALS[name].lasts:
            setattr(signals, name, SIGNAL_DEFAULTS[name])
