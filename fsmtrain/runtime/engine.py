"""`Engine`: one run of a loop on a model, as an object that can be run, stepped, stopped and looked at."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch
from attrs import evolve, frozen
from torch import nn

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Dispatcher, Timing
from fsmtrain.core.error_notes import add_recent_transitions
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason, stop_reason
from fsmtrain.core.trace import Trace, Transition
from fsmtrain.errors import ModelError, OutOfMemoryError, ResumeError, UsageError
from fsmtrain.options import Options
from fsmtrain.runtime import rng
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.build import Loaders, build_components, initial_run_state
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpointing.manager import CheckpointManager
from fsmtrain.runtime.checkpointing.run_snapshot import ResumePoint
from fsmtrain.runtime.checkpointing.selection import MetricRanking, load_checkpoint, split_callbacks
from fsmtrain.runtime.data.worker_exit import is_worker_exit
from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingMetrics
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.metrics.step_outputs import Metrics, number, scalar_of
from fsmtrain.runtime.oom import add_resume_note, free_batch
from fsmtrain.runtime.optimization.nonfinite_detection import NonFiniteValue
from fsmtrain.runtime.run_state import Runs
from fsmtrain.user_warnings import warn


@frozen(kw_only=True)
class Result:
    """How a run ended.

    `metrics` holds the last value of each metric, wherever it came from: training, checks or the test. `times` says how often
    each state was visited, and how long that took; `loading` how many batches loaders had to give, and how long they were
    waited for; `wall_seconds` is the time from the run's beginning to its end. `rollbacks` has, for each time that
    ``on_nonfinite="rollback"`` went back to a checkpoint, the batch that it left out.
    """

    stop_reason: StopReason
    state: State
    counters: Counters
    metrics: dict[str, float]
    times: dict[State, Timing]
    data_wait: Timing
    wall_seconds: float
    rollbacks: tuple[NonFiniteValue, ...] = ()


class Engine:
    """A run that has not begun, is under way, or has ended.

    Args:
        options: The flags.
        model: The module, moved to the options' device.
        loaders: Its train, val and test loaders.
        runs: What is run: ``"fit"`` trains, and then tests where there are test loaders; ``"test"`` and ``"val"`` only take
            the model through those loaders, in the state `test`.
        guards: The user's.
        callbacks: The user's.
        trainer: What the model finds as ``self.trainer``; None for the machine itself.
        takes_notes: Whether somebody writes the metrics down, with `notes`, while the run goes on.

    Raises:
        FsmtrainError: Anything that is wrong and can be seen before the first batch.
    """

    def __init__(
        self,
        options: Options,
        model: nn.Module,
        loaders: Loaders,
        *,
        runs: Runs = "fit",
        guards: Guards | None = None,
        callbacks: Iterable[object] = (),
        trainer: Any = None,
        takes_notes: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ModelError(f"{model!r} is not a torch.nn.Module.")
        self._counters = Counters()  # all zero for what the model asks while the run is being built
        self._begun = self._ended = False
        self._model, self._trainer, self._has_lent = model, self if trainer is None else trainer, False
        guards = guards or Guards()
        callbacks, rule = split_callbacks(callbacks, guards)
        ranking = MetricRanking(rule) if rule is not None and rule.monitor is not None else None
        if rule is not None:
            guards = evolve(guards, save=rule.guard(guards))
        self._attach_trainer()
        try:
            parts = build_components(
                options.plain(),
                model,
                loaders,
                runs=runs,
                guards=guards,
                callbacks=callbacks if ranking is None else (*callbacks, ranking),
                machine=self,
            )
        except BaseException:
            self._detach_trainer()
            raise
        memory = initial_run_state(parts)
        if takes_notes:
            parts = evolve(parts, notes=MetricQueue(memory.counters, parts.optimizers))
        self._parts, self._memory, self._counters = parts, memory, memory.counters
        self._actions = Actions(parts, memory, self._save)
        self._checkpoints = CheckpointManager(
            rule, ranking, parts, memory, run_dir=lambda: self.run_dir, more_about=self._more_about
        )
        self._checkpoints.actions = self._actions
        if rule is not None and rule.every_n_seconds is not None and State.FETCH in self._actions.by_state:
            self._actions.watch_the_clock(rule.every_n_seconds)
        if ranking is not None and not parts.loop.limits.validates:
            warn("ModelCheckpoint(monitor=...): this run has no check, so that it never saves for one.")
        observer = None
        if parts.hooks.on_transition is not None:
            hook = parts.hooks.on_transition

            def observer(transition: Transition) -> None:
                hook(self, transition)

        self._dispatcher = Dispatcher(
            parts.loop.table,
            parts.loop.limits,
            memory.counters,
            memory.signals,
            self._actions.by_state,
            observer=observer,
        )
        self._arrivals = HostTransfer()
        self._began_at = self._ended_at = 0  # ns
        self._random: rng.RngState | None = None  # of the run that is resumed
        self._stopped_at: ResumePoint | None = None  # where it was stopped
        self._detach_trainer()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A run is not copied: a copy, or a pickle, of a model that knows its machine has None in its place."""
        return type(None), ()

    # ---- running

    def run(self) -> Result:
        """Run to the end, from wherever the machine stands.

        Raises:
            FsmtrainError: A hook returned what it must not, a metric is missing, ...; any exception of a hook comes through.
                Each carries a note that says in which state, epoch and batch it happened.
        """
        self._dispatcher.forbid_reentry()
        with self._ending_on_errors():
            self._begin()
            while not self._ended:
                try:
                    self._dispatcher.run()
                except (Exception, KeyboardInterrupt) as error:
                    if not (self.signals.stop_requested and is_worker_exit(error)):
                        raise
                    self._stop_here()
                self._finish()
        return self.result

    def advance(self) -> Transition:
        """Make one transition: a visit to the state in which the machine stands.

        Raises:
            UsageError: The run has ended, or a visit is under way: a hook cannot ask for the next one.
        """
        self._dispatcher.forbid_reentry()
        if self.state.is_final:
            raise UsageError(
                f"The run has ended in the state {self.state}: there is no further transition. Build a new machine."
            )
        with self._ending_on_errors():
            self._begin()
            transition = self._dispatcher.advance()
            if self._dispatcher.is_finished:
                self._finish()
        return transition

    def __iter__(self) -> Iterator[Transition]:
        """The transitions from here to the end, each made when it is asked for."""
        while not self._dispatcher.is_finished:
            yield self.advance()

    def stop(self) -> None:
        """Ask the run to stop: it does so at the end of the round, or of the val or test batch, that is under way.

        Where it saves, and what is in hand between two rounds of a batch can be in no checkpoint, at the end of the batch.
        """
        self._memory.signals.stop_requested = True

    def log(self, name: str, value: Any, *, prog_bar: bool = False) -> None:
        """Log a metric.

        In a step method it counts as if it stood under ``"log"`` in what the method returns: that of ``training_step`` is one
        of this batch, those of ``validation_step`` and ``test_step`` are averaged over the pass, and early stopping finds them.
        In a hook it is recorded where the run stands. Outside of a run nothing is done.

        Args:
            name: The metric's name.
            value: A number, or a tensor with one element.
            prog_bar: Whether the progress bar shows it.

        Raises:
            ModelError: It is neither, or the name is no text.
        """
        if not isinstance(name, str) or not name:
            raise ModelError(f"log({name!r}, ...): a metric's name is needed, as in log('accuracy', value).")
        scalar = scalar_of(value)
        if scalar is None:
            shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
            raise ModelError(
                f"log({name!r}, ...): the value is a {type(value).__name__}{shape}. A metric is a number, or a tensor with one "
                f"element: reduce it, with .mean() say."
            )
        if not self._begun:
            return
        memory = self._memory
        if memory.collects_logs:
            memory.logged[name] = scalar
            if prog_bar:
                memory.logged_for_bar.add(name)
            return
        memory.metrics[name] = scalar
        if prog_bar:
            memory.progress_bar_metrics[name] = scalar
        if self._parts.notes is not None:
            self._parts.notes.metrics("train", {name: scalar})

    @contextlib.contextmanager
    def _ending_on_errors(self) -> Iterator[None]:
        """An error ends the run: it is told where, what a visit changes for its own time is put back, hooks are called."""
        try:
            yield
        except BaseException as error:
            self._dispatcher.annotate_error(error)
            self._end()
            raise

    def _begin(self) -> None:
        if self._ended and self.stop_reason is None:
            raise UsageError("The run has ended with an error and cannot go on from there. Build a new machine.")
        if self._begun:
            return
        self._begun = True
        self._began_at = perf_counter_ns()
        self._attach_trainer()
        parts = self._parts
        if self._random is None:
            self._begin_anew()
        self._arrivals = HostTransfer()
        if parts.notes is not None:
            parts.notes.begin()
        if parts.hooks.on_run_start is not None:
            parts.hooks.on_run_start(self)
        if self._random is not None:
            rng.set_rng_state(self._random)

    def _begin_anew(self) -> None:
        parts = self._parts
        if parts.loop.options.seed is not None:
            rng.seed_all(parts.loop.options.seed)
        if parts.optimizer_setup is not None:
            parts.model.train()
            for turn in parts.slots:  # what others left in .grad is in no window of this run
                for parameter in turn.parameters:
                    parameter.grad = None

    def _finish(self) -> None:
        """After a final state has been entered: the run ends, or goes on from a checkpoint."""
        if self.state is State.ROLLED_BACK:
            standing, random = self._checkpoints.roll_back()
            self._dispatcher.set_state(standing.state, work_done=standing.work_done, keep_trace=True)
            rng.set_rng_state(random)
            return
        self._actions.raise_if_nonfinite()
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._ended_at = perf_counter_ns()
        error = sys.exception()
        if error is not None and self.stop_reason is None:
            add_recent_transitions(error, self.trace)
        try:
            if self.state is State.STOPPED and self.saves:
                self._checkpoints.save_at_stop(self._where_it_stopped())
            self._checkpoints.close()
        finally:
            self._actions.release()
            if isinstance(error, OutOfMemoryError):
                free_batch(error, self._parts, self._memory)
                add_resume_note(error, self._checkpoints.last())
        try:
            if self._parts.hooks.on_run_end is not None:
                self._parts.hooks.on_run_end(self)
        finally:
            self._detach_trainer()

    # ---- saving and resuming

    @property
    def checkpoints(self) -> Path:
        """The folder of this run's checkpoints, which is made with the first of them; within `run_dir`, where that is known."""
        return self._checkpoints.folder

    @property
    def run_dir(self) -> Path | None:
        """The folder in which the run is recorded; None where none is."""
        return None

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the best value of what ``ModelCheckpoint(monitor=...)`` watches; None where there is none."""
        return self._checkpoints.best

    def resume(self, path: str | os.PathLike[str] | None = None, *, strict: bool = True) -> Path:
        """Go on where a checkpoint was saved: this machine is brought there, and `run` goes on from there.

        Args:
            path: A checkpoint, or a folder of them, of which the newest valid one is taken. None is this run's own folder.
            strict: If false, continue even if options, guards or sizes differ from those saved; the differences are a warning.

        Returns:
            The checkpoint.

        Raises:
            UsageError: The run has begun.
            CheckpointError: There is no checkpoint, or none that can be read.
            ResumeError: It is not one of a run like this; the machine is of no use then.
        """
        return self._go_to(load_checkpoint(self.checkpoints if path is None else path), strict=strict)

    def _go_to(self, loaded: LoadedCheckpoint, *, strict: bool) -> Path:
        if self._begun:
            raise UsageError("resume: the run has begun. Build a new machine, and resume it before it runs.")
        self._ended = True  # should anything go wrong half way
        standing, self._random = self._checkpoints.load(loaded, strict=strict)
        try:
            self._dispatcher.set_state(standing.state, work_done=standing.work_done)
        except UsageError as error:
            raise ResumeError(f"{loaded.path}: {error}") from error
        self._ended = False
        return loaded.path

    def _save(self) -> None:
        """The action of the state `save`: what is saved is the state from which it was entered, its work done."""
        source = self._dispatcher.trace.source
        assert source is not None
        self._checkpoints.save(ResumePoint(state=source, work_done=True, counters=self._counters))

    def _more_about(self, standing: ResumePoint) -> dict[str, Any]:
        """What else a checkpoint's manifest says."""
        return {}

    @property
    def saves(self) -> bool:
        """Whether this run writes checkpoints."""
        return State.SAVE in self.spec.table.states

    @property
    def last_state(self) -> State | None:
        """The state that was left last; None before the first transition."""
        return self._stopped_at.state if self._stopped_at is not None else self.trace.source

    def _stop_here(self) -> None:
        """Stop in a state that could not get its batch any more: the worker that was to load it has died of a signal."""
        self._stopped_at = ResumePoint(state=self.state, work_done=False, counters=self._counters)
        self._dispatcher.set_state(State.STOPPED, work_done=False)

    def _where_it_stopped(self) -> ResumePoint:
        """Where a run stands that has been stopped: in the state that was left last."""
        if self._stopped_at is None:
            source, counters = self.trace.last()
            self._stopped_at = ResumePoint(state=source, work_done=True, counters=counters)
        return self._stopped_at

    def _attach_trainer(self) -> None:
        """Let the model find its trainer as ``self.trainer``.

        A class that has the attribute keeps it. Any other module has it only while it is built and run, and one with a
        ``trainer`` of its own keeps its own.
        """
        model: Any = self._model
        has_attribute = hasattr(type(model), "trainer")
        if has_attribute or not hasattr(model, "trainer"):
            model.trainer = self._trainer
            self._has_lent = not has_attribute

    def _detach_trainer(self) -> None:
        if self._has_lent:
            del self._model.trainer
            self._has_lent = False

    # ---- looking

    @property
    def spec(self) -> LoopSpec:
        """The options, sizes, guards, limits and table of this run."""
        return self._parts.loop

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self._parts.model

    @property
    def state(self) -> State:
        """The state that is visited next, or under way; the final one when the run has ended."""
        return self._dispatcher.state

    @property
    def counters(self) -> Counters:
        """Where the run stands, in numbers; it goes on changing."""
        return self._counters

    @property
    def signals(self) -> Signals:
        """The facts from outside the counters."""
        return self._memory.signals

    @property
    def trace(self) -> Trace:
        """The last transitions."""
        return self._dispatcher.trace

    @property
    def current_epoch(self) -> int:
        """The index of the epoch, from 0; after the run, that of the last one trained."""
        return self._counters.current_epoch

    @property
    def global_step(self) -> int:
        """The rounds so far in which an optimizer stepped."""
        return self._counters.global_step

    @property
    def rollbacks(self) -> tuple[NonFiniteValue, ...]:
        """For each time that ``on_nonfinite="rollback"`` went back to a checkpoint, the batch that it left out."""
        return self._memory.nonfinite.excluded

    @property
    def times(self) -> dict[State, Timing]:
        """How often each state was visited, and the wall time in it, in the order of `State`."""
        return self._dispatcher.times

    @property
    def device_times(self) -> dict[State, Timing]:
        """The time of a GPU in each state, as far as it is known now: nobody waits for it. Nothing on the CPU."""
        return self._actions.device_times()

    @property
    def data_wait(self) -> Timing:
        """How many batches loaders had to give, and how long they were waited for: a part of the states' times."""
        return Timing(self._memory.data_wait.batches, self._memory.data_wait.nanoseconds / 1e9)

    @property
    def wall_seconds(self) -> float:
        """The time since the run began, up to its end; what `times` leaves of it was spent outside of the states."""
        if not self._begun:
            return 0.0
        return ((self._ended_at or perf_counter_ns()) - self._began_at) / 1e9

    @property
    def device(self) -> torch.device:
        """Where the run happens."""
        return self._parts.device

    @property
    def metric_queue(self) -> MetricQueue | None:
        """The metrics that the run leaves behind, where somebody writes them down."""
        return self._parts.notes

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of their turns."""
        return self._parts.optimizers

    @property
    def lr_schedulers(self) -> list[Any]:
        """The learning-rate schedulers."""
        return self._parts.schedulers

    @property
    def metrics(self) -> Metrics:
        """The last value of each metric, as it came: tensors may still be on their device."""
        return dict(self._memory.metrics)

    def progress_bar_metrics_async(self, *, with_loss: bool = False) -> PendingMetrics:
        """Start copying the progress-bar metrics to the host. Never blocks.

        Args:
            with_loss: Whether to add the loss, unless the model shows a metric of this name. It is that of the first backward
                after the previous call with it, and missing in the first call.
        """
        metrics = self._memory.progress_bar_metrics.copy()
        if with_loss:
            loss, self._memory.loss_is_requested = self._memory.recent_loss, True
            if loss is not None:
                metrics = {"loss": loss, **metrics}
        return self._arrivals.copy_async(metrics)

    @property
    def progress_bar_metrics(self) -> Metrics:
        """The metrics that the model wants to be shown while the run goes on, as they came."""
        return dict(self._memory.progress_bar_metrics)

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended; None while it has not."""
        return stop_reason(self.state, self.spec.limits, self.counters, self.signals)

    @property
    def result(self) -> Result:
        """How the run ended.

        Raises:
            UsageError: It has not.
        """
        reason = self.stop_reason
        if reason is None:
            raise UsageError(f"The run stands in the state {self.state} and has no result yet. Call run() first.")
        metrics = {name: number(value) for name, value in self._memory.metrics.items()}
        return Result(
            stop_reason=reason,
            state=self.state,
            counters=self.counters.copy(),
            metrics=metrics,
            times=self.times,
            data_wait=self.data_wait,
            wall_seconds=self.wall_seconds,
            rollbacks=self.rollbacks,
        )
