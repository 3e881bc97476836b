"""`Result`: how a run ended, and what it measured."""

from __future__ import annotations

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.html_table import html_table
from fsmtrain.old_names import renamed_attributes
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteValue


@renamed_attributes(loading="data_wait")
@frozen(kw_only=True)
class Result:
    """How a run ended.

    Attributes:
        stop_reason: Why it ended.
        state: The final state.
        counters: The counters at the end.
        metrics: The last value of each metric, from training, validation or the test.
        times: For each state, the number of visits and the seconds spent in them.
        data_wait: The number of batches fetched from loaders, and the seconds spent waiting for them.
        wall_seconds: The time from the run's beginning to its end.
        rollbacks: For each time that ``on_nonfinite="rollback"`` went back to a checkpoint, the batch that it excluded.
        tested: The checkpoint or file whose weights were tested; None: those that the model had, or none were.
    """

    stop_reason: StopReason
    state: State
    counters: Counters
    metrics: dict[str, float]
    times: dict[State, Timing]
    data_wait: Timing
    wall_seconds: float
    rollbacks: tuple[NonFiniteValue, ...] = ()
    tested: SavedCheckpoint | None = None

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("ended", str(self.stop_reason)), ("epochs", self.counters.epochs_done)]
        rows += [("global_step", self.counters.global_step), ("seconds", self.wall_seconds)]
        tested = [] if self.tested is None else [("tested", str(self.tested))]
        return html_table([*rows, *tested, *self.metrics.items()])
