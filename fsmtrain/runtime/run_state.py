"""What a run is made of (`RunComponents`) and its mutable state (`RunState`), without which it cannot be resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.early_stopping import Patience
from fsmtrain.runtime.data.loaders import Loader
from fsmtrain.runtime.data.resumable_loader import ResumableLoader
from fsmtrain.runtime.hooks import Hooks
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.runtime.optimization.accumulation import Window
from fsmtrain.runtime.optimization.nonfinite_detection import NonFiniteState
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, OptimizerSlot

if TYPE_CHECKING:
    from fsmtrain.runtime.engine import Engine


Runs = Literal["fit", "val", "test"]


@frozen(eq=False, kw_only=True)
class RunComponents:
    """What a run is made of. None of it changes while the run goes on."""

    loop: LoopSpec
    model: nn.Module
    device: torch.device
    move_batch: Callable[[Any], Any] | None  # brings a batch to the device; None where batches are there already
    optimizer_setup: OptimizerSetup | None  # None in a run that only tests
    train_loader: Loader  # empty in a run that only tests
    val_loaders: Sequence[Loader]
    test_loaders: Sequence[Loader]  # of the state `test`, whatever it evaluates
    hooks: Hooks
    stateful_callbacks: Sequence[Any]  # those with ``state_dict`` and ``load_state_dict``
    evaluates: Literal["val", "test"]  # what the state `test` runs: the test, or validation by itself
    machine: Engine  # what hooks are given
    notes: MetricQueue | None = None  # of the metrics, where somebody writes them down

    @property
    def slots(self) -> Sequence[OptimizerSlot]:
        """The optimizers in their order; none in a run that only tests."""
        return self.optimizer_setup.slots if self.optimizer_setup is not None else ()

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of their turns."""
        return [turn.optimizer for turn in self.slots]

    @property
    def schedulers(self) -> list[Any]:
        """The learning-rate schedulers."""
        return [s.scheduler for s in self.optimizer_setup.scheduler_configs] if self.optimizer_setup is not None else []


@define(eq=False)
class LoadingTime:
    """The time for which batches were waited for that loaders had to give: a part of that of the states which ask for them."""

    batches: int = 0
    nanoseconds: int = 0


@frozen(eq=False, kw_only=True)
class LoaderPositions:
    """Where the run stands in each of its loaders. Passes over the same loaders share them."""

    train: ResumableLoader
    val: Sequence[ResumableLoader]
    test: Sequence[ResumableLoader]

    @property
    def all(self) -> dict[str, ResumableLoader]:
        """Each by a name of its own."""
        listed = (("val", self.val), ("test", self.test))
        return {"train": self.train} | {f"{kind} {i}": c for kind, cursors in listed for i, c in enumerate(cursors)}


@define(eq=False, kw_only=True)
class RunState:
    """All that a run remembers from one visit to the next."""

    counters: Counters
    signals: Signals
    loaders: LoaderPositions
    early_stopping: Patience | None  # None where early stopping is off
    windows: list[Window]  # of each optimizer
    hiddens: list[Any]  # of each optimizer, detached, from the batch's last split; None before its first
    nonfinite: NonFiniteState  # those that were not finite
    metrics: Metrics = field(factory=dict)  # the last value of each metric, wherever it came from
    progress_bar_metrics: Metrics = field(factory=dict)  # those that are to be shown while the run goes on
    data_wait: LoadingTime = field(factory=LoadingTime)
    validation_metrics: Metrics = field(factory=dict)  # what the last check returned
    validation_epoch: int = -1  # the epoch of that check; -1 before the first

    # In hand between two visits.
    splits: list[Any] = field(factory=list)  # of the batch; the batch alone without truncated BPTT
    loss: Tensor | None = None  # with its graph, from the forward to its backward
    loss_is_requested: bool = False  # by the progress bar; other losses are not kept
    recent_loss: Tensor | None = None  # detached
    weight: Any = None  # of the loss in hand
    closure_result: Any = None  # what the closure's first call returns: the loss, without its graph
    collects_logs: bool = False  # whether a step method is under way, which gets what is logged with `log`
    logged: Metrics = field(factory=dict)  # what it has logged so far
    logged_for_bar: set[str] = field(factory=set)  # the names among these that are to be shown

    def take_logged(self) -> tuple[Metrics, set[str]]:
        """What the step method has logged, and what of it is to be shown; forgotten here."""
        taken = self.logged, self.logged_for_bar
        self.logged, self.logged_for_bar = {}, set()
        return taken
