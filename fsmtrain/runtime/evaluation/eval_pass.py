"""Evaluate val or test loaders: one batch a visit; after the last one the metrics are averaged, and the end hook is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor, nn

from fsmtrain.core.states import State
from fsmtrain.errors import ResumeError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.batch_size import batch_size_of
from fsmtrain.runtime.checkpoint_files.codec.codec import encoding_error
from fsmtrain.runtime.data.loaders import EvaluationBatches
from fsmtrain.runtime.data.restore_loader_position import ResumableLoader
from fsmtrain.runtime.evaluation.pass_snapshot import PassSnapshot, take_pass_snapshot
from fsmtrain.runtime.hooks.hook_pair import HookPair, UnfinishedMetrics, call_all
from fsmtrain.runtime.metrics.averages import Averages
from fsmtrain.runtime.metrics.logged_metrics import OF_PASS, LoggedMetrics
from fsmtrain.runtime.metrics.metric_objects import computed
from fsmtrain.runtime.metrics.step_outputs import (
    Metrics,
    Scalar,
    group_metrics,
    metrics_of,
    present_values,
    scalar_of,
    weight_of,
)
from fsmtrain.runtime.metrics.zero_weights import ZeroWeights
from fsmtrain.runtime.model_inspection.compiled_modules import modules_without_wrappers
from fsmtrain.runtime.model_inspection.predict_step import predict_step_of
from fsmtrain.runtime.oom import raise_if_oom
from fsmtrain.runtime.optimization.precision import with_autocast
from fsmtrain.runtime.run_state import Evaluated, RunComponents, RunState
from fsmtrain.runtime.step_signature import StepSignature
from fsmtrain.user_warnings import warn

HOOKS_NEED_THE_WHOLE = " is called again."  # the end of the reason why a pass with hooks begins again

# The arguments of validation_step, test_step and predict_step, in the order of their call.
_ARGUMENTS = ("batch", "batch_nb", "dataloader_i")


class EvalPass:
    """Passes of a model over its val or test loaders, in eval mode and without gradients.

    Args:
        state: The state whose action this is.
        kind: Whether ``validation_step``, ``test_step`` or ``predict_step`` is called.
        components: What the run is made of.
        run: Its state.
        loaders: The loaders.
        limits: The batches to take from each loader; None takes a stream to its end.
        take_output: What gets the loader's index, the batch and the output of each batch, of which no metrics are made then.

    Every scalar in the returned dicts is averaged over the samples of all loaders, and so is what a step logs. With an end
    hook, the metrics are what it returns and what was logged. If it does not return one that is monitored, that one is looked
    up in what the steps returned; not if it returns an empty dict, which says that there are no metrics.
    """

    def __init__(
        self,
        state: State,
        kind: Evaluated,
        components: RunComponents,
        run: RunState,
        loaders: Sequence[ResumableLoader],
        limits: Sequence[int | None],
        take_output: Callable[[int, Any, Any], None] | None = None,
    ) -> None:
        self._state, self._kind, self._components, self._run = state, kind, components, run
        self._model, self._move_batch = components.model, components.move_batch
        self._counters, self._signals = run.counters, run.signals
        self._loaders, self._limits = loaders, limits
        has_streams = any(limit != 0 and ld.length is None for ld, limit in zip(loaders, limits, strict=True))
        self._total_batches = None if has_streams else sum(n for n in limits if n is not None)
        stem = "validation" if kind == "val" else kind
        self._has_several_loaders = len(loaders) > 1
        available = _ARGUMENTS if self._has_several_loaders else _ARGUMENTS[:2]
        self._step_name = f"{stem}_step"
        step: Any = predict_step_of(self._model) if kind == "predict" else getattr(self._model, self._step_name)
        signature = StepSignature(step, self._step_name, available=available, order=_ARGUMENTS)
        compiled = components.compiled_call
        method = signature.method if compiled is None else compiled.watched(signature.method, self._step_name)
        self._step = with_autocast(method, components.spec.options.mixed_precision, components.device)
        self._argument_count = signature.count
        self._take_output = take_output or self._record_output
        self._end_hook: Callable[[Any], Any] | None = None
        if take_output is None:
            self._end_hook = getattr(self._model, f"{stem}_end", None)
        monitored = {monitor.metric for monitor in components.monitors} if kind == "val" else set()
        self._monitored = monitored | {name.rpartition("/")[0] for name in monitored}  # ``val_loss/1`` is a loader's val_loss
        hooks = components.hooks.of_pass(kind)
        self._unfinished = () if take_output is not None else (UnfinishedMetrics(),)  # what ends the hooks of such a pass
        is_sanity = state is State.SANITY_VAL  # which has the hooks within a validation, so that none keeps its outputs
        self._hooks, self._epoch_hooks = None if is_sanity else hooks.whole, hooks.epoch
        self._on_batch_start, self._on_batch_end = hooks.batch_start, hooks.batch_end
        self._must_be_whole = not (hooks.inner_can_resume and (is_sanity or hooks.whole_can_resume))
        self._begins_again_because = f"on_{stem}_start{HOOKS_NEED_THE_WHOLE}"
        self._takes_snapshots = State.SAVE in components.spec.table.states and (
            self._end_hook is not None or self._must_be_whole
        )
        self.bar_metrics: Metrics = {}  # of the last pass, for the progress bar
        self._modes: list[tuple[nn.Module, bool]] = []
        self._batches: EvaluationBatches | None = None  # None between two passes
        self._outputs: list[list[Any]] = []  # of each loader, if there is an end hook
        self._averages = Averages(len(loaders))  # of what the steps log, and of what they return if there is no end hook
        self._fallbacks = Averages(len(loaders))  # of what they return and somebody monitors, if there is one
        self._zero_weights = ZeroWeights(self._step_name, run.warn_once)
        self._bar_names: set[str] = set()
        self._objects: dict[str, str] = {}  # of each metric object that was logged, its path in the model
        self.unrecorded: set[str] = set()  # the names of metrics that were logged with ``logger=False``
        self.snapshot: PassSnapshot | None = None  # of the beginning of this pass, if it may be saved

    def visit(self) -> Metrics | None:
        """Evaluate one batch; return the pass's metrics after its last one, else None."""
        if self._hooks is not None and not self._hooks.is_open:
            if self._counters.eval_nb == 0:
                self.take_snapshot()
            _begin_pair(self._hooks, resumes=self._counters.eval_nb > 0)
        with torch.no_grad():
            run = self._run
            batches = self._batches or self._begin()
            if self._takes_snapshots and self._counters.eval_nb == 0 and self.snapshot is None:
                self.take_snapshot()
            if self._epoch_hooks is not None and not self._epoch_hooks.is_open:
                _begin_pair(self._epoch_hooks, resumes=self._counters.eval_nb > 0)
            if self._must_be_whole and self.snapshot is not None and self._counters.eval_nb == 0:
                self.snapshot = self.snapshot.without_earlier_changes()
            begun = perf_counter_ns()
            loader_i, batch_nb, batch = next(batches)
            run.data_wait.nanoseconds += perf_counter_ns() - begun
            run.data_wait.batches += 1
            run.collects_logs = True
            try:
                moved = batch if self._move_batch is None else self._move_batch(batch)
                if self._on_batch_start is not None:
                    self._on_batch_start(moved, batch_nb, loader_i)
                output = self._step(*(moved, batch_nb, loader_i)[: self._argument_count])
                if self._on_batch_end is not None:
                    self._on_batch_end(output, moved, batch_nb, loader_i)
            except (RuntimeError, MemoryError) as error:
                raise_if_oom(error, self._state, batch, self._components, run)
                raise
            run.collects_logs = False
            self._take_output(loader_i, moved, output)
            if self._total_batches is None:
                self._signals.pass_ended = is_last = batches.has_ended
            else:
                is_last = self._counters.eval_nb + 1 == self._total_batches
            if not is_last:
                return None
            next(batches, None)  # exhausts the last loader, as a ``for`` loop would
            return self._finish()

    def take_snapshot(self) -> None:
        """Take a snapshot of the beginning of a pass, before its hooks, if the pass may have to begin again."""
        if self._takes_snapshots:
            callbacks = self._components.stateful_callbacks if self._must_be_whole else ()
            hooks = self._components.hooks.checkpoint if self._must_be_whole else None
            gathered = self._run.metric_objects.state_dict()
            data = self._components.data_module if self._must_be_whole else None
            self.snapshot = take_pass_snapshot(self._loaders, self._model, callbacks, hooks, gathered, data)

    def end_hooks(self, *metrics: Metrics) -> None:
        """Call the hook that ends a pass, with its metrics if it has some, after everything that acts on them."""
        if self._hooks is not None:
            self._hooks.end(*metrics)

    def end_unfinished(self) -> None:
        """Call the hooks that end a pass, for one that the end of the run has interrupted. What they log is dropped."""
        pairs: tuple[tuple[HookPair | None, tuple[Metrics, ...]], ...]
        pairs = (self._epoch_hooks, ()), (self._hooks, self._unfinished)
        if self.snapshot is not None:  # what changes from now on is no change by the pass
            self.snapshot = self.snapshot.without_later_changes()
        self._run.collects_logs = True
        try:
            call_all([partial(pair.end, *args) for pair, args in pairs if pair is not None and pair.is_open])
        finally:
            self._run.collects_logs = False
            self._run.pop_logged()

    def _begin(self) -> EvaluationBatches:
        self._modes = [(module, module.training) for module in modules_without_wrappers(self._model)]
        self._model.eval()
        self._outputs = [[] for _ in self._loaders]
        self._averages, self._fallbacks = Averages(len(self._loaders)), Averages(len(self._loaders))
        self._bar_names, self.unrecorded, self._objects = set(), set(), {}
        self._zero_weights.find_arrived()
        self._signals.pass_ended = False
        self._batches = EvaluationBatches(self._loaders, self._limits, self._counters.current_epoch)
        return self._batches

    def _record_output(self, loader_i: int, batch: Any, output: Any) -> None:
        """Add the metrics of a batch to the averages; keep what the step returned if there is an end hook."""
        logged = self._run.pop_logged()
        is_loss = scalar_of(output) is not None
        returned = metrics_of({f"{self._kind}_loss": output} if is_loss else output)
        fallbacks: Metrics = {}
        if self._end_hook is not None:
            self._outputs[loader_i].append(output)
            returned, fallbacks = {}, {name: value for name, value in returned.items() if name in self._monitored}
        else:
            self._bar_names.update(group_metrics(output, "progress_bar"))
            if not (is_loss or output is None or isinstance(output, Mapping)):
                self._warn_of_no_metrics(output)
        self._note_logged(logged)
        metrics = {name: value for name, value in returned.items() if name not in logged.values}
        if metrics or logged.values or fallbacks:
            weight = self._weight(batch, output)
            self._averages.add(metrics, weight, loader_i)
            for name, value in logged.values.items():
                rule = logged.rules.get(name, OF_PASS)
                own = weight if rule.batch_size is None else rule.batch_size
                self._averages.add({name: value}, own, loader_i, reduce=rule.reduce)
            self._fallbacks.add(fallbacks, weight, loader_i)

    def _note_logged(self, logged: LoggedMetrics) -> None:
        self._bar_names |= logged.bar_names
        self.unrecorded |= logged.unrecorded
        for name, metric in logged.objects.items():
            self._objects[name] = self._run.metric_objects.path_of(name, metric)

    def _warn_of_no_metrics(self, output: Any) -> None:
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        end = self._step_name.replace("_step", "_end")
        self._run.warn_once(
            f"{self._step_name} returned {a_type_of(output)}{shape}, from which no metric is made. Return a number or a dict "
            f"of numbers, or define {end}(outputs), which gets what the steps returned."
        )

    def _weight(self, batch: Any, output: Any) -> Scalar:
        """Return how much a batch counts: the weight that the step returned, else the number of its samples, else 1."""
        weight = weight_of(output, self._step_name)
        if weight is None:
            weight = batch_size_of(batch)
        if weight is None:
            self._run.warn_once(
                f"{self._step_name}: a batch counts in the metrics as one, whatever its size, because its number of samples is "
                f"unknown: it has no tensors, or they differ in their first dimension. If batches differ in their number of "
                f"samples, return it: {{..., 'weight': n}}."
            )
            return 1.0
        return weight

    def _finish(self) -> Metrics:
        metrics = self._averages.results()
        weights = self._averages.weights()
        if self._end_hook is not None:
            self._run.collects_logs = True
            output = self._end_hook(self._outputs if self._has_several_loaders else self._outputs[0])
            self._run.collects_logs = False
            logged = self._run.pop_logged()
            self._note_logged(logged)
            metrics |= {**present_values(metrics_of(output)), **logged.values}
            if not _is_empty(output) or logged:
                metrics = self._fallbacks.results() | metrics
                weights |= self._fallbacks.weights()
            self._bar_names |= group_metrics(output, "progress_bar").keys()
        if self._epoch_hooks is not None:
            self._run.collects_logs = True
            self._epoch_hooks.end()
            self._run.collects_logs = False
            logged = self._run.pop_logged()
            metrics |= logged.values
            self._note_logged(logged)
        objects = {name: self._run.metric_objects.at(path) for name, path in self._objects.items()}
        metrics |= {name: computed(name, metric) for name, metric in objects.items()}
        self.bar_metrics = {name: metrics[name] for name in metrics if name in self._bar_names}
        self._zero_weights.find({name: weight for name, weight in weights.items() if name in metrics})
        self._end_pass()
        return metrics

    def recorded(self, metrics: Metrics) -> Metrics:
        """Return the metrics of the last pass without those that were logged with ``logger=False``."""
        return {name: metrics[name] for name in metrics if name not in self.unrecorded} if self.unrecorded else metrics

    def release(self) -> None:
        """Restore every submodule's mode, and release the pass. Idempotent."""
        self._end_pass()
        self._zero_weights.finish()

    def _end_pass(self) -> None:
        for path in set(self._objects.values()):
            self._run.metric_objects.at(path).reset()  # type: ignore[operator]
        self._objects = {}
        for module, training in self._modes:
            module.training = training
        if self._batches is not None:
            for loader in self._loaders:
                loader.end()
        self._modes, self._batches, self._outputs, self.snapshot = [], None, [], None
        self._run.collects_logs = False

    @property
    def is_under_way(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._batches is not None

    # ---- saving and resuming

    def state_dict(self) -> dict[str, Any] | None:
        """The position of the pass and what it has collected; None between two passes.

        If no checkpoint can hold its outputs, or a hook needs the whole pass, this is the pass at its beginning, and
        ``begins_again`` says why.
        """
        if self._batches is None:
            return None
        state = {
            "place": list(self._batches.place),
            "modes": [training for _, training in self._modes],
            "averages": self._averages.state_dict(),
            "fallbacks": self._fallbacks.state_dict(),
            "outputs": self._outputs,
            "bar_names": sorted(self._bar_names),
            "unrecorded": sorted(self.unrecorded),
            "objects": dict(self._objects),
            "begins_again": None,
        }
        if self.snapshot is not None and (reason := self._why_it_begins_again()) is not None:
            again = {"reason": reason, "changed": self.snapshot.changed}
            empty: dict[str, Any] = dict.fromkeys(("averages", "fallbacks"), Averages(len(self._loaders)).state_dict())
            state |= (
                empty
                | {"place": [0, 0], "bar_names": [], "unrecorded": [], "objects": {}}
                | {"outputs": [[] for _ in self._loaders], "begins_again": again}
            )
        return state

    def _why_it_begins_again(self) -> str | None:
        reason = encoding_error({"outputs": self._outputs})
        if reason is not None:
            return f"its outputs could not be saved: {reason}"
        return self._begins_again_because if self._must_be_whole else None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Continue a pass. Its loaders have been restored to their positions of then.

        Raises:
            ResumeError: The pass was begun by an earlier version, which averaged over batches and not over samples.
        """
        if state is None:
            return
        if "averages" not in state:
            raise ResumeError(
                f"it was saved within a pass of {self._step_name} by an older fsmtrain, which averaged metrics in another way. "
                f"Resume it with that one, or resume from another checkpoint of the run."
            )
        loader_i, batch_nb = state["place"]
        self._batches = EvaluationBatches(self._loaders, self._limits, self._counters.current_epoch, (loader_i, batch_nb))
        self._modes = list(zip(modules_without_wrappers(self._model), state["modes"], strict=True))
        self._averages = Averages.from_state_dict(state["averages"])
        self._fallbacks = Averages.from_state_dict(state["fallbacks"])
        self._outputs = state["outputs"]
        self._bar_names = set(state["bar_names"])
        self.unrecorded, self._objects = set(state.get("unrecorded", ())), dict(state.get("objects", {}))
        if (again := state["begins_again"]) is not None:
            reason, changed = again["reason"], ", ".join(again["changed"])
            text = f"{self._kind}: the pass begins again at its first batch, because {reason}"
            if changed:
                warn(f"{text} The pass had changed the model before: {changed}. So what follows may differ.")
            elif not reason.endswith(HOOKS_NEED_THE_WHOLE):  # the results are the same, and nothing can be done about it
                warn(text)


def _begin_pair(pair: HookPair, *, resumes: bool) -> None:
    if resumes:
        pair.resume()
    else:
        pair.start()


def _is_empty(output: Any) -> bool:
    return isinstance(output, Mapping) and not output
