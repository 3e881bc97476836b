"""`Machine`: one run of a model, to run, step, stop, resume and inspect; and `build`, which makes one."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn, Unpack, get_args

import torch
from attrs import evolve
from torch import nn

from fsmtrain import auto_resume
from fsmtrain.core.checking.check import check_loop, quick_findings
from fsmtrain.core.checking.findings import Report, Severity
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Dispatcher, Timing
from fsmtrain.core.error_notes import add_first_context, add_recent_transitions
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.model_checkpoint import save_guard
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.core.planning.planned_steps import PlannedSteps
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason, stop_reason
from fsmtrain.core.trace import Trace, Transition, where
from fsmtrain.errors import (
    CheckpointError,
    CopyError,
    GuardError,
    ModelError,
    OutOfMemoryError,
    RenamedError,
    ResumeError,
    UsageError,
)
from fsmtrain.loop import Loop
from fsmtrain.module import note_attribute_of_training_module
from fsmtrain.old_names import renamed_attributes
from fsmtrain.options import FLAG_HINTS, Options
from fsmtrain.resume_source import ResumeSource, ResumeSources
from fsmtrain.runtime import rng
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.build import build_components, initial_run_state
from fsmtrain.runtime.checkpointing.checkpoint_folder import describe_checkpoint
from fsmtrain.runtime.checkpointing.manager import CheckpointManager
from fsmtrain.runtime.checkpointing.save_rules import split_callbacks
from fsmtrain.runtime.data.data_modules import Loaders, given_loaders, with_data_module
from fsmtrain.runtime.data.worker_exit import is_worker_exit
from fsmtrain.runtime.hooks.bind_hooks import bind_hooks
from fsmtrain.runtime.hooks.hook_pair import Stages, call_all
from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingMetrics
from fsmtrain.runtime.metrics.logged_metrics import (
    LogOptions,
    LogPlace,
    LogRule,
    logged_scalar,
    parse_log_options,
    validate_name,
)
from fsmtrain.runtime.metrics.metric_objects import is_metric_object, metrics_in, value_of_batch
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, number
from fsmtrain.runtime.model_files.hparams import plain_part
from fsmtrain.runtime.model_inspection.compiled_modules import plain_module
from fsmtrain.runtime.model_inspection.validate_model import validate_model
from fsmtrain.runtime.oom import add_resume_note, free_batch
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteValue
from fsmtrain.runtime.optimization.optimizer_checks import optimizer_findings
from fsmtrain.runtime.result import Result
from fsmtrain.runtime.run_state import Evaluated, RunKind
from fsmtrain.runtime.train_mode import enter_train_mode
from fsmtrain.runtime.trainer_attribute import TrainerAttribute
from fsmtrain.runtime.training.manual_optimization import ManualOptimization
from fsmtrain.signal_handlers import ReceivedSignal, stop_on_signals
from fsmtrain.unknown_arguments import explain_unknown_arguments, no_such_argument
from fsmtrain.user_warnings import capture_warnings, warn
from fsmtrain.views.console.default_callbacks import default_callbacks
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.diagrams.tally import Counts, Tally
from fsmtrain.views.recording.program_folder import is_shell_command
from fsmtrain.views.recording.recorder import create_recorder

if TYPE_CHECKING:
    from fsmtrain.adapters.transitions import RunMachine
    from fsmtrain.views.recording.history import History
    from fsmtrain.views.recording.report.report_file import ReportFile


MAX_OTHER_METRICS = 4  # of a validation, beside those that are monitored or in the progress bar, in a line about the run


@renamed_attributes(
    arriving_metrics="progress_bar_metrics_async",
    interrupt="received_signal",
    left="last_state",
    loading="data_wait",
    notes="metric_queue",
    progress_metrics="progress_bar_metrics",
)
class Machine:
    """One run of a model through its loop. Made by `build`; ``run`` it, or ``advance`` one transition at a time.

    Args:
        options: The flags.
        model: The module; it is moved to the options' device.
        loaders: Its loaders, or the data module that has them.
        runs: ``"fit"`` trains, and then tests if there are test loaders; ``"test"``, ``"val"`` and ``"predict"`` only take the
            model through those loaders, in the state `test`.
        guards: The decisions that the user replaces.
        callbacks: The user's callbacks.
        trainer: What the model finds as ``self.trainer``; None for the machine itself.
        trained_by: For a test or validation: the run that trained the model. Its metrics stand at that run's step, and in its
            folder, if it has ended. None: there is no such run.
        tested: For a test or validation: where the model's weights were loaded from. None: it has those of its training.

    Raises:
        FsmtrainError: Anything that is wrong and can be seen before the first batch.
    """

    def __init__(
        self,
        options: Options,
        model: nn.Module,
        loaders: Loaders,
        *,
        runs: RunKind = "fit",
        guards: Guards | None = None,
        callbacks: Iterable[object] = (),
        trainer: Any = None,
        trained_by: Machine | None = None,
        planned_steps: PlannedSteps | None = None,
        keeps_predictions: bool = True,
        tested: SavedCheckpoint | None = None,
    ) -> None:
        self.passed_model, model = model, plain_module(model)
        self._model: nn.Module = model
        validate_model(model)
        self._counters = Counters()  # all zero, for a model that asks while the run is being built
        self._runs, self._tested = runs, tested
        self._planned_steps = planned_steps or PlannedSteps()
        self._begun = self._ended = False
        self._handled_before: BaseException | None = None
        self._began_at = self._ended_at = 0  # ns
        self._rng: rng.RngState | None = None  # of the run that is resumed
        self._stopped_at: ResumePoint | None = None
        self.received_signal = ReceivedSignal()
        self.datamodule = loaders.data_module
        self._trainer_attribute = TrainerAttribute(self if trainer is None else trainer, model, self.datamodule)

        warnings = self._early_warnings = list[str]()
        guards = guards or Guards()
        if options.fast_dev_run:
            guards = evolve(guards, save=None, save_at_end=False)
        callbacks, rules = split_callbacks(callbacks, guards)
        if options.fast_dev_run:
            rules = ()
        rankings = [rule.ranking for rule in rules if rule.ranking is not None]
        if rules:
            guards = evolve(guards, save=save_guard([rule.guard for rule in rules]), save_at_end=True)
        if trained_by is not None:
            loaders = evolve(loaders, train=trained_by.train_loader)
        into = trained_by.run_dir if trained_by is not None and trained_by.stop_reason is not None else None
        self._recorder = None
        if runs != "predict":  # which has no metrics
            self._recorder = create_recorder(options, trains=runs == "fit", into=into, warnings=warnings)
        own_callbacks = (self._recorder, *default_callbacks(options), *rankings)
        callbacks = (*callbacks, *(callback for callback in own_callbacks if callback is not None))
        self._trainer_attribute.attach()
        hooks = with_data_module(bind_hooks(model, callbacks, self), self.datamodule)
        stages = Stages(hooks.setup, hooks.teardown)
        try:
            with capture_warnings(warnings.append):
                components = self._components = build_components(
                    options.plain(),
                    self.passed_model,
                    loaders,
                    runs=runs,
                    guards=guards,
                    callbacks=callbacks,
                    planned_steps=self._planned_steps,
                    hooks=hooks,
                    stages=stages,
                    epoch_watchers=rankings,
                    keeps_predictions=keeps_predictions,
                )
                run = self._run = initial_run_state(components)
                self._counters = run.counters
                position = run.counters if trained_by is None else _position(trained_by, tested)
                recorder = self._recorder
                turns = components.spec.limits.optimizers
                with_turns, others = components.optimizers[:turns], components.optimizers[turns:]
                self._metric_queue = None
                if recorder is not None:
                    self._metric_queue = MetricQueue(position, with_turns, recorder.make_room, others)
                seconds = [rule.asked.every_n_seconds for rule in rules]
                actions = self._actions = Actions(
                    components, run, metric_queue=self._metric_queue, save=self._save, save_every_seconds=seconds
                )
                self._checkpoints = CheckpointManager(rules, components, run, actions)
                spec, observer = components.spec, components.hooks.on_transition
                self._spec = spec
                needs_validation = any(ranking.monitor.needs_validation for ranking in rankings)
                if needs_validation and spec.limits.epochs > 0 and not spec.limits.validates:
                    warn("ModelCheckpoint(monitor=...): this run has no validation, so it never saves a best checkpoint.")
                self._dispatcher = Dispatcher(
                    spec.table, spec.limits, run.counters, run.signals, actions.by_state, observer=observer
                )
                self._host_transfer = HostTransfer()
                self._optimizer_findings = tuple(optimizer_findings(model, components.slots, callbacks))
                self._report_findings()
        except BaseException as error:
            stages.tear_down()
            if isinstance(error, AttributeError):
                note_attribute_of_training_module(error, model)
            raise
        finally:
            self._trainer_attribute.detach()

    def _report_findings(self) -> None:
        """Warn of what is probably not meant, and raise an error for what is wrong."""
        for finding in (*quick_findings(self.spec), *self._optimizer_findings):
            if finding.severity is Severity.ERROR:
                raise GuardError(f"{finding.about}: {finding.text}")
            warn(f"{finding.about}: {finding.text}")

    def __reduce__(self) -> NoReturn:
        raise CopyError(
            "a machine cannot be copied or pickled: it is one run, with its loaders and files. Build another one, with a copy "
            "of the model: build(options, copy.deepcopy(machine.model)). To continue this run in another process save it with "
            "ModelCheckpoint, and resume there."
        )

    # ---- running

    def run(self) -> Result:
        """Run to the end, from the current state.

        Ctrl-C, SIGTERM and SIGUSR1 are stop requests meanwhile: the run stops at the next transition, and is saved there if it
        saves checkpoints. Then the program ends as it would have: `run` raises. A second Ctrl-C stops at once. A signal for
        which the program has a handler of its own is left to it.

        Raises:
            FsmtrainError: A hook returned what it must not, a metric is missing, ...; any exception of a hook passes through.
                Each carries a note with the state, epoch and batch in which it happened.
            KeyboardInterrupt: Ctrl-C stopped the run. If saving it or a hook failed then, that error is raised, with this one
                as its context.
            SystemExit: SIGTERM (code 143) or SIGUSR1 (138) stopped it; likewise.
            UsageError: The run was stopped before. It says how to continue it.
        """
        self._dispatcher.forbid_reentry()
        if self._ended and self.state is State.STOPPED:
            raise UsageError(f"This run was stopped {self._stopped_where()} and has ended. {self.resume_hint}")
        with stop_on_signals(self.stop) as self.received_signal:
            try:
                result = self._run_to_end()
            except Exception as error:
                if self.received_signal:
                    add_first_context(error, self._interrupt())
                raise
        if self.received_signal:
            raise self._interrupt()
        return result

    def _interrupt(self) -> KeyboardInterrupt | SystemExit:
        """Return the exception by which a signal ends the program, after reporting where the run stopped and the way on."""
        received = self.received_signal
        if self.state is State.STOPPED:
            message = f"{received.name} stopped the run {self._stopped_where()}. {self.resume_hint}"
        else:
            message = f"{received.name} came when the run had ended."
        interrupt = received.interrupt(message)
        if isinstance(interrupt, SystemExit):  # which Python ends with in silence
            self._say(message)
        return interrupt

    def _stopped_where(self) -> str:
        return f"after {self.last_state} ({where(self.counters)}), at global_step {self.global_step}"

    @property
    def resume_hint(self) -> str:
        """How to continue this run after it was stopped, as a sentence."""
        if self._runs != "fit":
            way = "run the command again" if is_shell_command() else "build a new machine"
            return f"To {'validate' if self._runs == 'val' else self._runs} anew, {way}."
        if not self.saves:
            way = "--checkpoint" if is_shell_command() else "callbacks=[ModelCheckpoint()]"
            return f"It cannot be continued, since it saves no checkpoints: with {way} a run is saved where it stops."
        checkpoint = self._checkpoints.last()
        if checkpoint is None:
            return "It cannot be continued, since no checkpoint was saved."
        run_dir = self.run_dir if self._makes_run_folder else None
        is_own = run_dir is not None and checkpoint.parent in self.checkpoint_folders(run_dir)
        path = str(run_dir if is_own else checkpoint)
        if is_shell_command():
            path = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
            same = "with --resume, or with other flags and " if is_own else "with "
            return f"To continue, run the same command {same}--resume_from {shlex.quote(path)}."
        if self._trainer_attribute.trainer is self:
            return f"To continue, build a new machine and call resume({path!r}) before run()."
        return f"To continue, create a new trainer with resume={path!r}."

    def _run_to_end(self) -> Result:
        with self._dispatcher.ending_on_errors(self._end):
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
        """Make one transition: visit the current state and enter the next one.

        Raises:
            UsageError: The run has ended, or a visit is under way: a hook cannot ask for the next one.
        """
        self._dispatcher.forbid_reentry()
        if self.state.is_final:
            way_out = self.resume_hint if self.state is State.STOPPED else "Build a new machine."
            raise UsageError(f"The run has ended in the state {self.state}: there is no further transition. {way_out}")
        with self._dispatcher.ending_on_errors(self._end):
            self._begin()
            transition = self._dispatcher.advance()
            if self._dispatcher.is_finished:
                self._finish()
        return transition

    def __iter__(self) -> Iterator[Transition]:
        """Iterate over the transitions from here to the end. Each is made when it is asked for."""
        while not self._dispatcher.is_finished:
            yield self.advance()

    def stop(self) -> None:
        """Ask the run to stop: it does so at the end of the current round, or of the current val or test batch.

        If the run saves, and the batch cannot be saved between two of its rounds, it stops at the end of the batch.
        """
        self._run.signals.stop_requested = True

    def log(self, name: str, value: Any, **options: Unpack[LogOptions]) -> None:
        """Log a metric.

        In a step method it counts as if it were under ``"log"`` in what the method returns: that of ``training_step`` belongs
        to the batch, those of ``validation_step`` and ``test_step`` are averaged over the samples of the pass, and early
        stopping finds them.
        In a hook it is recorded at the current step. Outside of a run nothing happens.

        Args:
            name: The metric's name.
            value: A number, a tensor with one element, or a metric object of torchmetrics that is a module of the model.
            options: As of `TrainingModule.log`.

        Raises:
            ModelError: The value is neither, the name is not a non-empty string, there is no such option, or it has no meaning
                here.
        """
        metric = value if is_metric_object(value) else None
        scalar: Scalar | None = None
        if metric is None:
            scalar = logged_scalar(name, value)
            if self._run.collects_logs and not options:
                self._run.logged.add(name, scalar, None, None)
                return
        place = self._log_place
        if metric is not None:
            validate_name(name)
            if place == "hook":
                options = {"on_step": False, "on_epoch": True, **options}
        rule = parse_log_options(name, options, place)
        if not self._begun:
            return
        if metric is not None:
            self._run.metric_objects.path_of(name, metric)
            if rule.on_step:
                scalar = logged_scalar(name, value_of_batch(name, metric))
        if self._run.collects_logs:
            self._run.logged.add(name, scalar, rule, metric)
        else:
            self._log_in_hook(name, scalar, rule, metric)

    def log_dict(self, metrics: Any, **options: Unpack[LogOptions]) -> None:
        """Log several metrics with the same options.

        Args:
            metrics: A dict of values by name, or a collection of torchmetrics, whose metrics have their names in it.
            options: As of `log`.

        Raises:
            ModelError: As `log`, or it is neither.
        """
        for name, value in metrics_in(metrics):
            self.log(name, value, **options)

    @property
    def _log_place(self) -> LogPlace:
        if not self._run.collects_logs:
            return "hook"
        return "evaluation" if self.state.info.kind == "evaluation" else "training_step"

    def _log_in_hook(self, name: str, value: Scalar | None, rule: LogRule, metric: nn.Module | None) -> None:
        run = self._run
        if rule.on_epoch and (self.spec.limits.epochs == 0 or self.state.is_final or self.state is State.TEST):
            raise ModelError(f"log({name!r}, ..., on_epoch=True): no epoch of training ends after this. Leave it out.")
        if value is not None and rule.on_step:
            shown = rule.step_name(name)
            run.metrics[shown] = value
            if rule.prog_bar:
                run.progress_bar_metrics[shown] = value
            if rule.logger and self._metric_queue is not None:
                self._metric_queue.metrics("train", {shown: value})
        if metric is not None:
            run.epoch_metrics.add_object(name, metric, rule)
        elif value is not None and (rule.on_epoch or name in run.epoch_metrics.monitored):
            run.epoch_metrics.add(name, value, 1.0, evolve(rule, on_epoch=True))

    def _begin(self) -> None:
        if self._ended and self.stop_reason is None:
            raise UsageError(
                "This run has ended with an error and cannot continue. Build a new machine; it can resume from a checkpoint."
            )
        if self._begun:
            return
        self._begun = True
        self._handled_before = sys.exception()
        self._began_at = perf_counter_ns()
        self._run.clock.start()
        self._trainer_attribute.attach()
        if self._components.compiled_call is not None:
            self._components.compiled_call.attach()
        if self._rng is None:
            self._begin_from_scratch()
        self._host_transfer = HostTransfer()
        if self._metric_queue is not None:
            self._metric_queue.begin()
        self._call_first_hooks()
        if self._rng is not None:
            rng.set_rng_state(self._rng)

    def _call_first_hooks(self) -> None:
        """Call the hooks that precede a run. Those of training are called here if it goes on; else when it begins."""
        hooks, state = self._components.hooks, self.state
        if self._tested is not None:
            self.note_tested(self._tested)
        if hooks.on_run_start is not None:
            hooks.on_run_start()
        self._checkpoints.begin(self.run_dir)
        if self._runs != "fit" or state is State.TEST:
            return
        if hooks.fit is not None:
            hooks.fit.start()
        is_within_training = self._rng is not None and state not in (State.START, State.SANITY_VAL) and not state.is_final
        if hooks.train is not None and is_within_training and self._components.optimizer_setup is not None:
            hooks.train.start()

    def _begin_from_scratch(self) -> None:
        if self.spec.options.seed is not None:
            rng.seed_all(self.spec.options.seed)
        if self._components.optimizer_setup is not None:
            enter_train_mode(self.model)
            for slot in self._components.slots:  # gradients from before the run belong to no window
                for parameter in slot.parameters:
                    parameter.grad = None

    def _finish(self) -> None:
        """Act on a final state: end the run, or roll it back to a checkpoint."""
        if self.state is State.ROLLED_BACK:
            at, random, loaded = self._checkpoints.roll_back()
            if self._recorder is not None:
                self._recorder.roll_back(loaded.path, auto_resume.record_of(loaded.metadata))
            self._continue_at(at, keep_trace=True)
            rng.set_rng_state(random)
            return
        self._actions.raise_if_nonfinite()
        self._end()

    def _end(self) -> None:
        """End the run. All that has begun is ended, also after an error of one of these steps, which is then raised."""
        if self._ended:
            return
        self._ended = True
        self._ended_at = perf_counter_ns()
        error = sys.exception()
        if error is self._handled_before:  # `run` was called where another error is being handled
            error = None
        if error is not None and self.stop_reason is None:
            note_attribute_of_training_module(error, self.model)
            add_recent_transitions(error, self.trace)
        hooks, compiled = self._components.hooks, self._components.compiled_call
        call_all(
            (
                *((partial(hooks.on_exception, error),) if hooks.on_exception is not None and error is not None else ()),
                self._actions.end_unfinished_passes,  # before the save: a hook may put back weights that it has replaced
                self._save_at_stop,
                partial(self._checkpoints.close, self.run_dir),
                self._actions.release,
                *(pair.end for pair in (hooks.epoch, hooks.train, hooks.fit) if pair is not None),
                *((partial(self._free_batch, error),) if isinstance(error, OutOfMemoryError) else ()),
                *((hooks.on_run_end,) if hooks.on_run_end is not None else ()),
                self._components.stages.tear_down,
                *((compiled.detach,) if compiled is not None else ()),
                self._trainer_attribute.detach,
            )
        )

    def _save_at_stop(self) -> None:
        if self.state is State.STOPPED and self.saves:
            at, must_save = self._stop_point(), bool(self.received_signal)
            self._checkpoints.save_at_stop(at, self.run_dir, *self._record_of_checkpoint(at, at_stop=True), must_save=must_save)

    def _free_batch(self, error: OutOfMemoryError) -> None:
        free_batch(error, self._components, self._run)
        add_resume_note(error, self._checkpoints.last())

    # ---- saving

    @property
    def saves(self) -> bool:
        """Whether this run writes checkpoints."""
        return State.SAVE in self.spec.table.states

    @property
    def checkpoints(self) -> Path:
        """The folder of this run's checkpoints, which the first save makes; inside `run_dir`, once that is known.

        With several ``ModelCheckpoint``s it is that of the first.
        """
        return self._checkpoints.folders(self.run_dir)[0]

    def checkpoint_folders(self, run_dir: Path) -> tuple[Path, ...]:
        """Return all folders to which this run saves checkpoints, if it is recorded in `run_dir`."""
        return self._checkpoints.folders(run_dir)

    @property
    def best_checkpoint(self) -> SavedCheckpoint | None:
        """The checkpoint with the best value of the metric of ``ModelCheckpoint(monitor=...)``; None if there is none.

        ``machine.best_checkpoint.path`` is where it is, ``.score`` the value; it can be passed wherever a path is expected.
        With several monitors it is the best by the first that ranks any.
        """
        return next(iter(self.best_checkpoints.values()), None)

    @property
    def best_checkpoints(self) -> dict[str, SavedCheckpoint]:
        """The best checkpoint by each monitored metric, where there are several ``ModelCheckpoint(monitor=...)``."""
        return self._checkpoints.best(self.run_dir)

    @property
    def last_checkpoint(self) -> SavedCheckpoint | None:
        """The newest checkpoint of this run, or else the one that it was resumed from; None if there is none."""
        path = self._checkpoints.last()
        return None if path is None else describe_checkpoint(path)

    def why_no_checkpoint(self, which: str) -> str:
        """Say, in sentences, why the ``"best"`` or the ``"last"`` checkpoint is missing, and the way out."""
        if which == "best":
            return self._checkpoints.why_no_best()
        return "the run has saved no checkpoint. To save some pass callbacks=[ModelCheckpoint()] to the Trainer, and fit."

    def _save(self) -> None:
        """The action of the state `save`: save the run after the work of the state before it."""
        source = self._dispatcher.trace.source
        assert source is not None
        at = self._point(source, work_done=True)
        is_end = self._counters.ending == 1
        self._checkpoints.save(at, self.run_dir, *self._record_of_checkpoint(at), is_end=is_end)

    def _record_of_checkpoint(
        self, at: ResumePoint, *, at_stop: bool = False
    ) -> tuple[dict[str, Any], Callable[[], None] | None]:
        """Return what a checkpoint stores about the record, and what waits until all before it is recorded, if anything is."""
        if self._recorder is None:
            return {}, None
        record, wait_for_record = self._recorder.begin_checkpoint(self, work_done=at.work_done, at_stop=at_stop)
        return {auto_resume.RECORD: record} if record else {}, wait_for_record

    @property
    def last_state(self) -> State | None:
        """The state that was visited last; None before the first transition."""
        return self._stopped_at.state if self._stopped_at is not None else self.trace.source

    def _stop_here(self) -> None:
        """Stop in a state that could not get its batch any more: a signal has ended the worker that was loading it."""
        self._stopped_at = self._point(self.state, work_done=False)
        self._dispatcher.set_state(State.STOPPED, work_done=False)

    def _stop_point(self) -> ResumePoint:
        """Return where a stopped run resumes: after the work of the state that was visited last."""
        if self._stopped_at is None:
            source, counters = self.trace.last()
            self._stopped_at = evolve(self._point(source, work_done=True), counters=counters)
        return self._stopped_at

    def _point(self, state: State, *, work_done: bool) -> ResumePoint:
        return ResumePoint(state=state, work_done=work_done, counters=self._counters, signals=self.signals)

    # ---- resuming

    def resume(
        self, path: str | os.PathLike[str] | None = None, *, strict: bool = True, new_settings: bool = False, **old_names: Any
    ) -> Path:
        """Load a checkpoint; the next ``run()`` continues from it.

        Args:
            path: A run folder (the run continues and is recorded there), a checkpoint, or a folder of checkpoints (the newest
                valid one; recorded as a new run). None is the same as ``"auto"``, but there must be a checkpoint.
            strict: If false, continue even if options, guards or sizes differ; differences are reported as a warning.
            new_settings: If true, optimizers and schedulers continue with the settings (lr, weight_decay, gamma, ...) that
                this run's ``configure_optimizers`` gave them, at the step that they have reached. If false, with the saved
                ones; differences are reported as a warning.

        Returns:
            The checkpoint.

        Raises:
            UsageError: This run has begun, or the run in that folder is under way elsewhere.
            CheckpointError: There is no checkpoint, or none that can be read.
            ResumeError: The checkpoint does not fit this run; do not use this machine afterwards.
        """
        for name in old_names:
            if name == "anyway":
                raise RenamedError("resume(anyway=...): there is no such argument. Its opposite here is strict: strict=False.")
            raise no_such_argument("Machine.resume", name, ("path", "strict", "new_settings"))
        with capture_warnings(self._early_warnings.append):
            return self._resume(path, strict=strict, new_settings=new_settings)

    def _resume(self, path: str | os.PathLike[str] | None, *, strict: bool, new_settings: bool) -> Path:
        sources = self._resume_sources
        source = sources.newest() if path is None else sources.at(Path(path))
        if source is None:
            there = f"in {self.spec.options.runs_dir} of a run that this command began" if sources.looks_for_runs else "yet"
            raise CheckpointError(f"{self.checkpoints}: there is no checkpoint {there}. Pass a run folder to resume another.")
        return self._restore(source, strict=strict, new_settings=new_settings)

    def resume_from(self, path: str | os.PathLike[str], *, strict: bool = True, new_settings: bool = False) -> Path | None:
        """Load a checkpoint as `resume` does; with ``"auto"`` the run begins anew if there is none.

        ``"auto"`` is the newest run with a checkpoint that the same command began, in `runs_dir`, under the same name; one that
        is under way elsewhere is passed over. With ``ModelCheckpoint(dirpath=...)``, or if nothing is recorded, it is this
        run's own folder of checkpoints.

        Returns:
            The checkpoint; None if the run begins anew.
        """
        with capture_warnings(self._early_warnings.append):
            if path != "auto":
                return self._resume(path, strict=strict, new_settings=new_settings)
            source = self._resume_sources.newest()
            return None if source is None else self._restore(source, strict=strict, new_settings=new_settings)

    @property
    def _resume_sources(self) -> ResumeSources:
        return ResumeSources(
            options=self.spec.options,
            model=self.model,
            folders=lambda: self._checkpoints.folders(self.run_dir),
            makes_run_folder=self._makes_run_folder,
            has_own_folders=self._checkpoints.has_own_folder,
            spell=self._spell_resume,
        )

    def _spell_resume(self, folder: Path) -> str:
        """Return what resumes the run in a folder, in the spelling of the caller."""
        if is_shell_command():
            return f"--resume_from {shlex.quote(str(folder))}"
        own = self._trainer_attribute.trainer is self
        return f"machine.resume({str(folder)!r})" if own else f"Trainer(resume={str(folder)!r})"

    @property
    def _makes_run_folder(self) -> bool:
        return self._recorder is not None and self._recorder.creates_folder

    def _restore(self, source: ResumeSource, *, strict: bool, new_settings: bool) -> Path:
        """Restore the run from a checkpoint, and continue recording in a locked folder, if one is given."""
        loaded, locked = source.loaded, source.locked
        record = auto_resume.record_of(loaded.metadata)
        try:
            if locked is not None and not record:  # recording had failed by then: it is unknown which of its rows are older
                warn(f"{loaded.path} does not say how far {locked.folder} was recorded. A new run begins with it.")
                locked.lock.release()
                locked = None
            if self._begun:
                raise UsageError("resume: the run has begun. Build a new machine, and resume it before it runs.")
            self._ended = True  # until the state is loaded as a whole
            goes_on = locked is not None or not self._makes_run_folder
            at, self._rng = self._checkpoints.load(loaded, strict=strict, new_settings=new_settings, goes_on=goes_on)
            try:
                self._continue_at(at)
            except UsageError as error:
                raise ResumeError(f"{loaded.path}: {error}") from error
            self._ended = False
        except BaseException:
            if locked is not None:
                locked.lock.release()
            raise
        self._say(f"resumed from {loaded.path} ({where(self.counters)}), at global_step {self.global_step}")
        if self._recorder is not None:
            self._recorder.continue_from(loaded.path, record, None if locked is None else (locked.folder, locked.lock))
        if locked is not None and (reason := auto_resume.finished_reason(locked.folder)):
            warn(f"{locked.folder} has already ended: {reason}. It is trained again from its last checkpoint on.")
        return loaded.path

    def _continue_at(self, at: ResumePoint, *, keep_trace: bool = False) -> None:
        """Bring the table to a resume point. Limits that the run has passed already may add rows to it."""
        spec = evolve(self._spec, resumes_at=at)
        if spec.limits != self._spec.limits:
            self._dispatcher.set_table(spec.table, spec.limits)
            self._actions.set_spec(spec)
            keep_trace = False
        if not keep_trace:
            self._spec = spec
            vars(self).pop("loop", None)
        self._dispatcher.set_state(at.state, work_done=at.work_done, keep_trace=keep_trace)

    def _say(self, text: str) -> None:
        if not self.spec.options.quiet:
            print_stderr(text)

    # ---- the run

    @property
    def run_dir(self) -> Path | None:
        """The folder in which the run is recorded; None before it begins, and if it is not recorded."""
        return None if self._recorder is None else self._recorder.path

    @property
    def logger(self) -> Any:
        """The first logger of the run; None if it has none."""
        return next(iter(self.loggers), None)

    @property
    def loggers(self) -> list[Any]:
        """The loggers of the run."""
        return [*self._spec.options.loggers]

    @property
    def spec(self) -> LoopSpec:
        """The options, sizes, guards, limits and table of this run."""
        return self._spec

    @cached_property
    def loop(self) -> Loop:
        """The loop of this run, to iterate over without the model; of a resumed run, from where it continues."""
        spec = self.spec
        return Loop(spec.options, spec.sizes, guards=spec.guards, hook=spec.hook, has_model=True, resumes_at=spec.resumes_at)

    @property
    def evaluates(self) -> Evaluated:
        """What the state `test` runs: the test, a validation by itself, or predictions."""
        return self._components.evaluates

    @property
    def train_loader(self) -> Any:
        """The train loader; empty in a run that does not train."""
        return self._components.train_loader

    @property
    def loaders(self) -> list[Any]:
        """The loaders that the run takes batches from: the train loader, those of validations, those of the test."""
        parts = self._components
        return [parts.train_loader, *parts.val_loaders, *parts.test_loaders]

    @property
    def model(self) -> nn.Module:
        """The model; of one that ``torch.compile`` has wrapped, the plain module."""
        return self._model

    @property
    def hparams(self) -> dict[str, Any]:
        """The hyperparameters of the model, and those of the data module by other names, as far as they are plain data.

        The run folder and loggers get them.
        """
        return plain_part(getattr(self.datamodule, "hparams", None)) | plain_part(getattr(self.model, "hparams", None))

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order in which ``configure_optimizers`` returned them."""
        return self._components.optimizers

    @property
    def lr_schedulers(self) -> list[Any]:
        """The learning-rate schedulers."""
        return self._components.schedulers

    def manual_optimization(self, caller: str) -> ManualOptimization:
        """Return what a ``training_step`` that makes backwards and steps by itself calls; `caller` is named in the error.

        Raises:
            UsageError: The run makes backwards and steps itself.
        """
        manual = self._actions.manual_optimization
        if manual is None:
            raise UsageError(
                f"self.{caller}(): the run makes backwards and steps itself. To make them in training_step, set "
                f"self.automatic_optimization = False in __init__ of {type(self._model).__name__}."
            )
        return manual

    @property
    def device(self) -> torch.device:
        """The device of the run."""
        return self._components.device

    # ---- where it stands

    @property
    def state(self) -> State:
        """The state that is visited next, or now; the final one when the run has ended."""
        return self._dispatcher.state

    @property
    def counters(self) -> Counters:
        """The counters of the run; they change during the run."""
        return self._counters

    @property
    def signals(self) -> Signals:
        """The facts from outside the counters."""
        return self._run.signals

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
    def total_steps(self) -> int:
        """The steps of optimizer 0 if the run is not stopped early, as `planned_steps` counts them.

        >>> import torch
        >>> from fsmtrain import Options, TrainingModule, build
        >>> class Model(TrainingModule):
        ...     def configure_optimizers(self):
        ...         sgd = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        ...         cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, self.trainer.total_steps)
        ...         return [sgd], [{"scheduler": cosine, "interval": "step"}]
        ...
        ...     def training_step(self, batch, batch_nb):
        ...         return batch.mean()
        >>> options = Options(max_nb_epochs=5, accumulate_grad_batches=4, runs_dir=None, quiet=True)
        >>> build(options, Model(), train_dataloader=[torch.ones(2)] * 9).total_steps
        15

        Raises:
            SizesError: They cannot be known before the run. The message says why.
        """
        return self.planned_steps(0)

    def planned_steps(self, optimizer_i: int) -> int:
        """Return the steps of an optimizer, by its own guard, if the run is not stopped early.

        In ``configure_optimizers``, where the optimizers do not exist yet, it is ``self.trainer.planned_steps(1)``.

        Args:
            optimizer_i: Its index, from 0.

        Raises:
            SizesError: They cannot be known before the run: the train loader has no length, ``truncated_bptt_steps`` splits
                batches, only ``max_time`` ends the run, or the guard asks about other optimizers.
        """
        return self._planned_steps.of(optimizer_i)

    @property
    def rollbacks(self) -> tuple[NonFiniteValue, ...]:
        """For each time that ``on_nonfinite="rollback"`` went back to a checkpoint, the batch that it excluded."""
        return self._run.nonfinite.excluded

    @property
    def tested(self) -> SavedCheckpoint | None:
        """The checkpoint or file whose weights are tested or validated; None: those that the model has."""
        return self._tested

    def note_tested(self, checkpoint: SavedCheckpoint) -> None:
        """Report that the test which begins now is of the weights of a checkpoint, which the model has for this time."""
        self._tested = checkpoint
        name = {"val": "validation", "predict": "predictions"}.get(self._runs, "test")
        self._say(f"{name} with the weights of {checkpoint}")

    @property
    def is_running(self) -> bool:
        """Whether the run has begun and has not ended."""
        return self._begun and not self._ended

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended; None before its end."""
        has_stop_guard = self.spec.guards.stop is not None
        return stop_reason(self.state, self.spec.limits, self.counters, self.signals, has_stop_guard=has_stop_guard)

    # ---- what it measured

    @property
    def times(self) -> dict[State, Timing]:
        """For each state, in the order of `State`: the number of visits, and the wall time in them, in seconds."""
        return self._dispatcher.times

    @property
    def device_times(self) -> dict[State, Timing]:
        """The time of a GPU in each state, as far as it is known without waiting for it. Empty on the CPU."""
        return self._actions.device_times

    @property
    def data_wait(self) -> Timing:
        """The number of batches fetched from loaders, and the seconds spent waiting for them, a part of the states' times."""
        return Timing(self._run.data_wait.batches, self._run.data_wait.nanoseconds / 1e9)

    @property
    def wall_seconds(self) -> float:
        """The time from the run's beginning up to now, or to its end."""
        if not self._begun:
            return 0.0
        return ((self._ended_at or perf_counter_ns()) - self._began_at) / 1e9

    @property
    def metric_queue(self) -> MetricQueue | None:
        """The metrics that wait to be recorded; None if nothing is recorded."""
        return self._metric_queue

    @property
    def metrics(self) -> Metrics:
        """The last value of each metric; tensors may still be on their device."""
        return dict(self._run.metrics)

    @property
    def progress_bar_metrics(self) -> Metrics:
        """The metrics for the progress bar; tensors may still be on their device."""
        return dict(self._run.progress_bar_metrics)

    def progress_bar_metrics_async(self, *, with_loss: bool = False) -> PendingMetrics:
        """Start copying the progress bar's metrics to the host. Never blocks.

        Args:
            with_loss: Whether to add the loss, unless the model shows a metric of this name. It is that of the first backward
                after the previous call with it, and missing in the first call.
        """
        metrics = self._run.progress_bar_metrics.copy()
        if with_loss:
            loss, self._run.loss_is_requested = self._run.recent_loss, True
            if loss is not None:
                metrics = {"loss": loss, **metrics}
        return self._host_transfer.copy_async(metrics)

    def keep_losses(self) -> None:
        """Keep the newest loss of this run for `line_metrics_async`."""
        self._run.keeps_losses = self._run.loss_is_requested = True

    def line_metrics_async(self) -> PendingMetrics:
        """Start copying the metrics of a line about the run to the host. Never blocks.

        They are those that are monitored, the newest loss, a few of the newest validation, and those of the progress bar.
        """
        run = self._run
        shown = dict(run.progress_bar_metrics)
        if run.recent_loss is not None:
            shown.setdefault("loss", run.recent_loss)
        available = {**run.metrics, **run.validation_metrics, **shown}
        monitored = [monitor.metric for monitor in self._components.monitors]
        validation = [name for name in run.validation_metrics if name not in (*monitored, *shown)][:MAX_OTHER_METRICS]
        names = dict.fromkeys((*monitored, "loss", *validation, *shown))
        return self._host_transfer.copy_async({name: available[name] for name in names if name in available})

    @property
    def best_values(self) -> dict[str, float]:
        """The best value so far of each metric that early stopping or a ``ModelCheckpoint`` monitors, if it had any."""
        patience, best = self._run.early_stopping, dict[str, float]()
        if patience is not None and math.isfinite(patience.best):
            best[patience.rule.monitor] = patience.best
        saved = self.best_checkpoints
        return best | {metric: one.score for metric, one in saved.items() if one.score is not None}

    @property
    def was_resumed(self) -> bool:
        """Whether this run has continued from a checkpoint."""
        return self._rng is not None

    @property
    def predictions(self) -> list[Any]:
        """What ``predict_step`` has returned so far, on the host: a list of one output for each batch.

        With several loaders it is a list of such lists. It is empty in a run that does not predict.
        """
        lists = self.predictions_by_loader
        return lists[0] if len(lists) == 1 else lists

    @property
    def predictions_by_loader(self) -> list[Any]:
        """The same as a list of one list for each loader, also if there is only one."""
        predict_pass = self._actions.predict_pass
        return [] if predict_pass is None else predict_pass.predictions

    @property
    def result(self) -> Result:
        """How the run ended.

        Raises:
            UsageError: It has not ended.
        """
        reason = self.stop_reason
        if reason is None:
            raise UsageError(f"The run is in state {self.state} and has no result yet. Call run() first.")
        return Result(
            stop_reason=reason,
            state=self.state,
            counters=self.counters.copy(),
            metrics={name: number(value) for name, value in self._run.metrics.items()},
            times=self.times,
            data_wait=self.data_wait,
            wall_seconds=self.wall_seconds,
            rollbacks=self.rollbacks,
            tested=self.tested,
        )

    # ---- views

    def as_transitions(self, **options: Any) -> RunMachine:
        """Return this run as a machine of the package ``transitions``: the same rows, guards, effects, actions and state.

        ``machine.as_transitions().model.run()`` trains as `run` does, only slower. Either of the two may make the next
        transition.

        Args:
            options: Further arguments of ``transitions.extensions.GraphMachine``, such as ``title`` or ``graph_engine``.
        """
        from fsmtrain.adapters.transitions import as_transitions  # the library takes time to import

        return as_transitions(self._dispatcher, begin=self._begin, end=self._end, finish=self._finish, **options)

    def plan(self, *, splits: int | None = None) -> Plan:
        """Return the exact schedule of this run.

        Args:
            splits: The splits of each batch under ``truncated_bptt_steps``, which are not known before a batch has been split.

        Raises:
            SizesError: A loader has no length.
        """
        sizes = self.spec.sizes if splits is None else evolve(self.spec.sizes, splits=splits)
        return make_plan(self.spec if splits is None else evolve(self.spec, sizes=sizes))

    def check(self) -> Report:
        """Check this run without running it: return what is wrong with it, or probably not meant."""
        report = check_loop(self.spec)
        return evolve(report, findings=(*report.findings, *self._optimizer_findings))

    @property
    def tally(self) -> Tally:
        """How often this run has taken each row of its table so far, and the seconds in each state."""
        return Tally(self.spec.table, self.trace.taken, {state: timing.seconds for state, timing in self.times.items()})

    def draw(self, path: str | os.PathLike[str], *, counts: bool | Counts = False) -> None:
        """Draw this run's state diagram into a file: ``.svg``, ``.png``, ``.mmd`` for Mermaid, ``.dot`` for Graphviz.

        Args:
            path: The file; its suffix chooses the format. Pictures need ``pip install 'fsmtrain[draw]'``.
            counts: If true, show how often each arrow was taken and the time in each state; before the run, the numbers of
                its plan. Or pass a plan, a trace or a tally to show.

        Raises:
            OptionsError: No format has this suffix.
            MissingExtraError: What draws pictures is not installed.
            SizesError: The run has not begun and a loader has no length, so there is no plan.
            UsageError: The counts are of another loop.
        """
        self.loop.draw(path, counts=self.tally if counts is True and self._begun else counts)

    def report(self, path: str | os.PathLike[str] | None = None) -> ReportFile:
        """Write a report of this run: one HTML file that opens anywhere, without a network. A notebook shows it inline.

        It shows what the run has recorded so far, also while it continues or after an error has ended it. ``fsmtrain report``
        makes the same from a run folder.

        Args:
            path: The file. None: ``report.html`` in the run's folder.

        Raises:
            UsageError: The run has no folder, or the file cannot be written.
        """
        from fsmtrain.views.recording.report.page import write_report  # no run needs it
        from fsmtrain.views.recording.report.report_file import ReportFile

        folder = self._recorded_folder("report", "a report is made")
        written = ReportFile(folder / "report.html" if path is None else Path(path))
        write_report(folder, written)
        return written

    @property
    def history(self) -> History:
        """The record of this run so far as rows: dicts with ``kind``, ``epoch``, ``step``, ``lr`` and the metrics by name.

        ``machine.history.to_pandas()`` and ``.to_polars()`` make a data frame of it. Batches that are still on their way to the
        record are missing while the run continues.

        Raises:
            UsageError: The run has no folder.
        """
        from fsmtrain.views.recording.history import read_history  # no run needs it

        return read_history(self._recorded_folder("history", "the history is read"))

    def _recorded_folder(self, what: str, use: str) -> Path:
        """Return the run's folder, with what has arrived by now.

        Raises:
            UsageError: There is none.
        """
        if self._recorder is None or self._recorder.path is None:
            off = self.spec.options.runs_dir is None
            why = "runs_dir=None: nothing is recorded" if off else f"{what}: nothing is recorded yet"
            way_out = 'Leave runs_dir at its default, "runs".' if off else "Ask for it once the run has begun."
            raise UsageError(f"{why}, and {use} from a run folder. {way_out}")
        self._recorder.flush()
        return self._recorder.path

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The diagram, in a notebook; once the run has begun, with its counts."""
        from fsmtrain.views.diagrams import formats

        return formats.mime_bundle(self.spec, repr(self), counts=self.tally if self._begun else None)


def _position(trained_by: Machine, tested: SavedCheckpoint | None) -> Counters:
    """Return the counters at which the metrics of a test or validation stand: those of the weights."""
    counters = trained_by.counters
    if tested is None or tested.global_step is None or tested.epoch is None:
        return counters
    counters = counters.copy()
    counters.current_epoch, counters.global_step = tested.epoch, tested.global_step
    return counters


@explain_unknown_arguments(hints=FLAG_HINTS)
def build(
    options: Options,
    model: nn.Module,
    *,
    train_dataloader: Any = None,
    val_dataloaders: Any = None,
    test_dataloaders: Any = None,
    predict_dataloaders: Any = None,
    datamodule: Any = None,
    runs: RunKind = "fit",
    guards: Guards | None = None,
    callbacks: Iterable[object] = (),
) -> Machine:
    """Build a machine that fits a model and then, if there are test loaders, tests it; or one that only tests or predicts.

    Args:
        options: The flags.
        model: An ``nn.Module`` with ``training_step`` and ``configure_optimizers``; it is moved to the options' device.
        train_dataloader: Anything that yields batches, anew each time it is iterated over. None asks the model.
        val_dataloaders: One loader or a list of them. None asks the model; an empty list means none.
        test_dataloaders: The same for the test.
        predict_dataloaders: The same for a run that predicts.
        datamodule: A `DataModule`, or another object with such methods, whose loaders are used in place of the model's.
        runs: ``"fit"``; or only ``"test"``, ``"val"``, or ``"predict"``, after which ``machine.predictions`` has the outputs.
        guards: The decisions that are replaced.
        callbacks: Objects with any of the hooks of `Callback`.

    Raises:
        FsmtrainError: Anything that is wrong and can be seen before the first batch.
    """
    if runs not in get_args(RunKind):
        raise UsageError(f"build(runs={runs!r}): must be one of {', '.join(map(repr, get_args(RunKind)))}.")
    loaders = given_loaders(
        "build",
        train=train_dataloader,
        val=val_dataloaders,
        test=test_dataloaders,
        predict=predict_dataloaders,
        datamodule=datamodule,
    )
    return Machine(options, model, loaders, runs=runs, guards=guards, callbacks=callbacks)
