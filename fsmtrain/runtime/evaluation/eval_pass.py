"""The actions of validation and testing: one batch a visit, and what is done with the outputs when the pass is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fsmtrain.core.states import State
from fsmtrain.runtime.checkpoint_files.codec.codec import encoding_error
from fsmtrain.runtime.data.loaders import EvaluationBatches, length_of
from fsmtrain.runtime.data.resumable_loader import ResumableLoader
from fsmtrain.runtime.evaluation.pass_snapshot import PassSnapshot, take_pass_snapshot
from fsmtrain.runtime.metrics.step_outputs import Averages, Metrics, group_metrics, metrics_of
from fsmtrain.runtime.oom import is_out_of_memory, oom_error
from fsmtrain.runtime.optimization.precision import with_autocast
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.step_signature import StepSignature
from fsmtrain.user_warnings import warn

_ORDER = ("batch", "batch_nb", "dataloader_i")


class Evaluation:
    """A pass over val or test loaders, a batch a visit.

    Args:
        kind: ``"val"`` or ``"test"``: the loaders' and the methods' names.
        parts: The model has ``validation_step`` or ``test_step``, and may have ``validation_end`` or ``test_end``.
        memory: The run's.
        cursors: On the loaders that are gone through.
        limits: The batches to take from each loader; None takes a stream to its end.

    Without an end method, every scalar in the returned dicts is averaged over the batches of all loaders, and nothing
    else of them is kept. What a step logs is averaged in either case.
    """

    def __init__(
        self,
        kind: Literal["val", "test"],
        parts: RunComponents,
        memory: RunState,
        cursors: Sequence[ResumableLoader],
        limits: Sequence[int | None],
    ) -> None:
        model, self._parts = parts.model, parts
        self._kind, self._model, self._cursors, self._limits, self._move = kind, model, cursors, limits, parts.move_batch
        self._memory, self._counters, self._signals = memory, memory.counters, memory.signals
        streams = any(limit != 0 and length_of(c.loader) is None for c, limit in zip(cursors, limits, strict=True))
        self._total = None if streams else sum(n for n in limits if n is not None)
        stem = "validation" if kind == "val" else "test"
        several = len(cursors) > 1
        given = ("batch", "batch_nb", "dataloader_i") if several else ("batch", "batch_nb")
        binding = StepSignature(getattr(model, f"{stem}_step"), f"{stem}_step", available=given, order=_ORDER)
        self._step, self._takes = with_autocast(binding.method, parts.loop.options.mixed_precision, parts.device), binding.count
        self._end: Callable[[Any], Any] | None = getattr(model, f"{stem}_end", None)
        self._several = several
        self._modes: list[tuple[nn.Module, bool]] = []
        self._batches: EvaluationBatches | None = None
        self._outputs: list[list[Any]] = []
        self._keeps_beginning = self._end is not None and State.SAVE in parts.loop.table.states
        self.snapshot: PassSnapshot | None = None  # of the pass that is under way, where somebody may need it
        self._averages = Averages()
        self._to_show: set[str] = set()
        self.shown: Metrics = {}  # what the last pass wants to be shown while the run goes on

    def visit(self) -> Metrics | None:
        """Evaluate one batch; returns the pass's metrics after its last one, else None."""
        with torch.no_grad():
            memory = self._memory
            batches = self._batches or self._begin()
            if self._keeps_beginning and self._counters.eval_nb == 0:
                self.snapshot = take_pass_snapshot(self._cursors, self._model)
            index, batch_nb, batch = self._fetch(batches)
            memory.collects_logs = True
            try:
                output = self._step(*(batch if self._move is None else self._move(batch), batch_nb, index)[: self._takes])
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise oom_error(error, self._parts.machine.state, batch, self._parts, memory) from error
                raise
            memory.collects_logs = False
            self._keep(index, output)
            if self._total is None:
                self._signals.pass_ended = is_last = batches.has_ended
            else:
                is_last = self._counters.eval_nb + 1 == self._total
            if not is_last:
                return None
            next(batches, None)  # the last loader comes to its end, as in a ``for`` statement
            return self._finish()

    def _begin(self) -> EvaluationBatches:
        self._modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        self._outputs = [[] for _ in self._cursors]
        self._averages, self._to_show = Averages(), set()
        self._signals.pass_ended = False
        self._batches = EvaluationBatches(self._cursors, self._limits, f"{self._kind}_dataloader")
        return self._batches

    def _fetch(self, batches: EvaluationBatches) -> tuple[int, int, Any]:
        """The next batch of the pass."""
        asked = perf_counter_ns()
        item = next(batches)
        loading = self._memory.data_wait
        loading.nanoseconds += perf_counter_ns() - asked
        loading.batches += 1
        return item

    def _keep(self, loader: int, output: Any) -> None:
        logged, to_show = self._memory.take_logged() if self._memory.logged else ({}, set())
        if self._end is not None:
            self._outputs[loader].append(output)
        elif isinstance(output, Tensor):
            logged = {**metrics_of({f"{self._kind}_loss": output}), **logged}
        else:
            logged = {**metrics_of(output), **logged}
            self._to_show.update(group_metrics(output, "progress_bar"))
        self._averages.add(logged)
        self._to_show |= to_show

    def _finish(self) -> Metrics:
        metrics = self._averages.means()
        if self._end is not None:
            self._memory.collects_logs = True
            output = self._end(self._outputs if self._several else self._outputs[0])
            self._memory.collects_logs = False
            logged, to_show = self._memory.take_logged()
            metrics |= {**metrics_of(output), **logged}
            self._to_show |= to_show | group_metrics(output, "progress_bar").keys()
        self.shown = {name: metrics[name] for name in metrics if name in self._to_show}
        self.release()
        return metrics

    def release(self) -> None:
        """Put every submodule's mode back as it was, and let go of the pass."""
        for module, training in self._modes:
            module.training = training
        if self._batches is not None:
            for cursor in self._cursors:
                cursor.end()
        self._modes, self._batches, self._outputs, self.snapshot = [], None, [], None
        self._memory.collects_logs = False

    @property
    def is_under_way(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._batches is not None

    # ---- saving and resuming

    def state_dict(self) -> dict[str, Any] | None:
        """Where the pass stands, and what it has gathered; None where none is under way.

        Where no checkpoint can hold its outputs, it stands at its beginning, and ``begins_again`` says why.
        """
        if self._batches is None:
            return None
        modes = [training for _, training in self._modes]
        reason = None if self.snapshot is None else encoding_error({"outputs": self._outputs})
        if reason is not None and self.snapshot is not None:
            again = {"reason": reason, "changed": self.snapshot.changed}
            nothing: list[list[Any]] = [[] for _ in self._cursors]
            return _standing((0, 0), modes, Averages(), nothing, set(), again)
        return _standing(self._batches.place, modes, self._averages, self._outputs, self._to_show, None)

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take up a pass in loaders that are at their positions of then."""
        if state is None:
            return
        loader, given = state["place"]
        self._batches = EvaluationBatches(self._cursors, self._limits, f"{self._kind}_dataloader", (loader, given))
        self._modes = list(zip(self._model.modules(), state["modes"], strict=True))
        self._averages = Averages(state["sums"], state["counts"])
        self._outputs = state["outputs"]
        self._to_show = set(state["shows"])
        if state["begins_again"] is not None:
            self._say_it_begins_again(**state["begins_again"])

    def _say_it_begins_again(self, reason: str, changed: list[str]) -> None:
        text = f"{self._kind}: the pass begins again at its first batch, as its outputs were not saved: {reason}"
        if changed:
            text += (
                f" It had changed the model before: {', '.join(changed)}. So what follows may be other than it would have been."
            )
        warn(text)


def _standing(
    place: tuple[int, int],
    modes: list[bool],
    averages: Averages,
    outputs: list[list[Any]],
    to_show: set[str],
    again: dict[str, Any] | None,
) -> dict[str, Any]:
    """A pass as a checkpoint holds it."""
    return {
        "place": list(place),
        "modes": modes,
        "sums": averages.sums,
        "counts": averages.counts,
        "outputs": outputs,
        "shows": sorted(to_show),
        "begins_again": again,
    }
