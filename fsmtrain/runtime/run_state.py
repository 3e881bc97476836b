"""What a run is made of (`RunComponents`) and its mutable state (`RunState`), which checkpoints save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.early_stopping import Patience
from fsmtrain.runtime.data.passed_loaders import Loader
from fsmtrain.runtime.data.restore_loader_position import ResumableLoader
from fsmtrain.runtime.hooks.bind_hooks import Hooks
from fsmtrain.runtime.hooks.hook_pair import Stages
from fsmtrain.runtime.metrics.epoch_metrics import EpochMetrics
from fsmtrain.runtime.metrics.logged_metrics import LoggedMetrics
from fsmtrain.runtime.metrics.metric_objects import MetricObjects
from fsmtrain.runtime.metrics.monitor import EpochWatcher, Monitor
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.runtime.model_inspection.compiled_modules import CompiledCall
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteState
from fsmtrain.runtime.optimization.optimizer_settings import OptimizerSettings
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, OptimizerSlot
from fsmtrain.runtime.optimization.window_weights import Window
from fsmtrain.runtime.run_clock import RunClock
from fsmtrain.user_warnings import warn

Evaluated = Literal["val", "test", "predict"]
RunKind = Literal["fit", "val", "test", "predict"]


@frozen(eq=False, kw_only=True)
class RunComponents:
    """What a run is made of. None of it changes during the run."""

    spec: LoopSpec
    model: nn.Module  # the plain one, if torch.compile has wrapped it
    compiled_call: CompiledCall | None  # None if the model itself is not compiled
    device: torch.device
    move_batch: Callable[[Any], Any] | None  # moves a batch to the device; None if batches are there already
    optimizer_setup: OptimizerSetup | None  # None in a run that does not train
    train_loader: Loader  # empty in a run that does not train
    val_loaders: Sequence[Loader]
    test_loaders: Sequence[Loader]  # of the state `test`, whatever it evaluates
    hooks: Hooks
    stages: Stages
    stateful_callbacks: Sequence[Any]  # those with ``state_dict`` and ``load_state_dict``
    evaluates: Evaluated  # what the state `test` runs: the test, validation by itself, or predictions
    keeps_predictions: bool
    data_module: Any  # one with a state to save; else None
    monitors: Sequence[Monitor]  # of metrics of the validation or of training
    epoch_watchers: Sequence[EpochWatcher]  # callbacks among them

    @property
    def strict_monitors(self) -> Sequence[Monitor]:
        """The monitors whose metric must be there, once there has been a validation: all but schedulers."""
        rule = self.spec.options.early_stopping
        stopping = [] if rule is None else [Monitor("early_stop_callback", rule.monitor)]
        return [*stopping, *(watcher.monitor for watcher in self.epoch_watchers)]

    @property
    def slots(self) -> Sequence[OptimizerSlot]:
        """The optimizers in their order; none in a run that does not train."""
        return self.optimizer_setup.slots if self.optimizer_setup is not None else ()

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order in which ``configure_optimizers`` returned them."""
        return [slot.optimizer for slot in self.slots]

    @property
    def schedulers(self) -> list[Any]:
        """The learning-rate schedulers."""
        return [s.scheduler for s in self.optimizer_setup.scheduler_configs] if self.optimizer_setup is not None else []


@define(eq=False)
class LoadingTime:
    """The time spent waiting for loaders. It is part of the time of the states that fetch."""

    batches: int = 0
    nanoseconds: int = 0


@frozen(eq=False, kw_only=True)
class LoaderPositions:
    """The position of the run in each of its loaders. Passes over the same loaders share them."""

    train: ResumableLoader
    val: Sequence[ResumableLoader]
    test: Sequence[ResumableLoader]

    @property
    def by_name(self) -> dict[str, ResumableLoader]:
        """All loaders, under the names that checkpoints use: ``train``, ``val 0``, ``test 1``, ..."""
        listed = (("val", self.val), ("test", self.test))
        return {"train": self.train} | {f"{kind} {i}": loader for kind, loaders in listed for i, loader in enumerate(loaders)}


@define(eq=False, kw_only=True)
class RunState:
    """The mutable state of a run between two visits. Anything not stored here is lost on resume."""

    counters: Counters
    signals: Signals
    loaders: LoaderPositions
    early_stopping: Patience | None  # None if early stopping is off
    windows: list[Window]  # of each optimizer
    hiddens: list[Any]  # of each optimizer, detached, from the batch's last split; None before its first
    nonfinite: NonFiniteState
    settings: OptimizerSettings | None = None  # of optimizers and schedulers; None in a run that does not train
    metrics: Metrics = field(factory=dict)  # the last value of each metric, wherever it came from
    progress_bar_metrics: Metrics = field(factory=dict)  # those that the progress bar shows
    data_wait: LoadingTime = field(factory=LoadingTime)
    clock: RunClock = field(factory=RunClock)
    validation_metrics: Metrics = field(factory=dict)  # of the last validation
    validation_epoch: int = -1  # the epoch of that validation; -1 before the first
    epoch_metrics: EpochMetrics  # of training, over the epoch under way
    metric_objects: MetricObjects  # among the model's modules
    manual_steps: int = 0  # with manual optimization: steps of all optimizers, which `global_step` follows after each batch
    warnings: set[str] = field(factory=set)  # issued with `warn_once`; a resumed run issues them anew

    # Valid between two visits of one batch.
    splits: list[Any] = field(factory=list)  # of the batch; the batch alone without truncated BPTT
    batch: Any = None  # before it was split, and only if a hook gets it
    outputs: list[Any] = field(factory=list)  # of each optimizer's last forward, detached, and only if a hook gets them
    loss: Tensor | None = None  # with its graph, from the forward to its backward
    weight: Any = None  # of that loss
    loss_is_requested: bool = False  # by the progress bar; other losses are not kept
    keeps_losses: bool = False  # whether each loss is requested anew: the lines of a run without a progress bar show the newest
    recent_loss: Tensor | None = None  # detached
    closure_result: Any = None  # what the closure's first call returns: the loss, without its graph
    collects_logs: bool = False  # while a step method runs, which gets what is logged with `log`
    logged: LoggedMetrics = field(factory=LoggedMetrics)  # what it has logged so far

    @property
    def split(self) -> Any:
        """The split that is trained on now; None before the batch has been split."""
        return self.splits[self.counters.split_nb] if self.counters.split_nb < len(self.splits) else None

    def warn_once(self, message: str) -> None:
        """Warn of what may come up at every batch, once in the run."""
        if message not in self.warnings:
            self.warnings.add(message)
            warn(message)

    def pop_logged(self) -> LoggedMetrics:
        """Return what the step method has logged, and forget it."""
        logged, self.logged = self.logged, LoggedMetrics()
        return logged
