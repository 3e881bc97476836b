"""What ``on_nonfinite`` does if a loss or gradient is inf or NaN: raise, skip the window, or roll back to a checkpoint.

- ``raise`` records each loss and the gradients after it, and reads them when the run waits for the device anyway: before a
  validation, before a save, at an epoch's end, and when the run is stopped.
- ``skip`` records the losses, and the gradients before a step, and reads once for each window, before its step.
- ``rollback`` records as ``raise`` does and reads as ``skip`` does. A batch that was excluded is fetched and not evaluated.

With fp16 the gradient scaler has its own answer to gradients that are not finite, so only losses are recorded. If
``on_nonfinite`` is None, none of this is built. Detection is in `detect_inf_nan`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Action
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.errors import NonFiniteError, OptionsError
from fsmtrain.options import Options
from fsmtrain.runtime.data.loaders import is_iterator
from fsmtrain.runtime.data.passed_loaders import Loader
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteMonitor, NonFiniteState, NonFiniteValue, all_finite
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup
from fsmtrain.runtime.optimization.window_weights import is_zero
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.train_batch import TrainBatch
from fsmtrain.user_warnings import warn

HINT = "Look at that batch; a lower learning rate or gradient_clip_val may help"


def nonfinite_policy(components: RunComponents, run: RunState, train_batch: TrainBatch) -> NonFinitePolicy | None:
    """The policy of this run; None if nothing is checked."""
    match components.spec.options.on_nonfinite:
        case "raise":
            return RaisePolicy(components, run)
        case "skip":
            return SkipPolicy(components, run, train_batch)
        case "rollback":
            return RollbackPolicy(components, run, train_batch)
        case None:
            return None


class _Recorder:
    """Record losses and gradients, each with its place in the run, and read them.

    Args:
        is_shared: Whether all optimizers share one monitor, which then finds the first bad value of all.
    """

    def __init__(self, components: RunComponents, run: RunState, *, is_shared: bool = False) -> None:
        self._run, self._counters, self._slots = run, run.counters, components.slots
        self._records_gradients = not components.spec.options.mixed_precision.uses_scaler
        count = len(components.slots)
        self.monitors = [NonFiniteMonitor()] * count if is_shared else [NonFiniteMonitor() for _ in range(count)]

    def backward(self, backward: Action) -> None:
        """Run a backward and record its loss, unless its weight is 0, so that it has no part in the gradients."""
        assert self._run.loss is not None
        loss = self._run.loss.detach()  # does not keep the graph alive
        backward()
        if is_zero(self._run.weight):
            return
        self.monitors[self._counters.optimizer_i].add(loss, self._place(), "loss")

    def gradients(self) -> None:
        """Record whether the current optimizer's gradients are finite."""
        index = self._counters.optimizer_i
        finite = all_finite(self._slots[index].parameters) if self._records_gradients else None
        if finite is not None:
            self.monitors[index].add(finite, self._place(), "gradient")

    def _place(self) -> tuple[int, int, int, int, int]:
        c = self._counters
        return c.current_epoch, c.batch_nb, c.split_nb, c.optimizer_i, c.batches_begun

    def sync(self) -> None:
        """Read what has been recorded of open windows. Waits for the device."""
        bad_windows = self._run.nonfinite.bad_windows
        for index, monitor in enumerate(self.monitors):
            bad_windows[index] = bad_windows[index] or monitor.read()

    def pop(self) -> NonFiniteValue | None:
        """Read and forget the first bad value of the window that is to be stepped; None if all were finite."""
        index, bad_windows = self._counters.optimizer_i, self._run.nonfinite.bad_windows
        value = self.monitors[index].read()
        value, bad_windows[index] = bad_windows[index] or value, None
        return value

    def reset(self) -> None:
        """Forget what has been recorded."""
        for monitor in self.monitors:
            monitor.reset()


class NonFinitePolicy(ABC):
    """A wrapper of the training actions that watches losses and gradients."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    @abstractmethod
    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the actions of a run."""

    @abstractmethod
    def may_save(self) -> bool:
        """Return whether a checkpoint of now would be sound. Reads what has been recorded."""

    def _sound_save(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the save, if there is one: read what has been recorded, and save only if `may_save` allows it."""
        save = actions.get(State.SAVE)
        if save is None:
            return {}

        def save_if_sound() -> None:
            if self.may_save():
                save()

        return {State.SAVE: save_if_sound}

    def raise_if_nonfinite(self) -> None:  # noqa: B027 - most policies have nothing to raise
        """Read what is read late, when the run has been stopped. Only `RaisePolicy` raises."""

    def release(self) -> None:
        """Forget what has been recorded."""
        self._recorder.reset()


class RaisePolicy(NonFinitePolicy):
    """Raise an error that names the first bad batch, the next time that the run waits for the device anyway."""

    def __init__(self, components: RunComponents, run: RunState) -> None:
        super().__init__(_Recorder(components, run, is_shared=True))
        self._counters = run.counters
        self._value: NonFiniteValue | None = None

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Record at each backward; read before a save, an epoch's end, and a validation's first batch."""
        backward = actions[State.BACKWARD]

        def backward_and_record() -> None:
            self._recorder.backward(backward)
            self._recorder.gradients()

        wrapped = {**actions, State.BACKWARD: backward_and_record}
        for state, action in actions.items():
            if state.info.place == "after a batch":
                wrapped[state] = self._reading_before(action, in_pass=state.info.eval_pass is not None)
        return wrapped

    def _reading_before(self, action: Action, *, in_pass: bool) -> Action:
        counters = self._counters

        def read_and_act() -> None:
            if not in_pass or counters.eval_nb == 0:
                self.raise_if_nonfinite()
            action()

        return read_and_act

    def raise_if_nonfinite(self) -> None:
        """Read what has been recorded.

        Raises:
            NonFiniteError: Something was not finite.
        """
        if not self.may_save():
            raise NonFiniteError(
                f"on_nonfinite='raise': {self._value} was not finite. This is read only before a validation, a save and an "
                f"epoch's end, so the weights may have been stepped with it by now; earlier checkpoints are sound. {HINT}. "
                f"on_nonfinite='skip' drops such a window, on_nonfinite='rollback' goes back to a checkpoint and excludes "
                f"the batch."
            )

    def may_save(self) -> bool:
        """Return whether all values so far were finite."""
        self._value = self._value or self._recorder.monitors[0].read()
        return self._value is None


class SkipPolicy(NonFinitePolicy):
    """Drop each window with a value that is not finite: zero its gradients and do not step its optimizer."""

    def __init__(self, components: RunComponents, run: RunState, train_batch: TrainBatch) -> None:
        super().__init__(_Recorder(components, run))
        self._signals, self._train_batch = run.signals, train_batch
        self._has_warned = False

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Record at each backward; read before each step and save."""
        backward, step = actions[State.BACKWARD], actions[State.STEP]
        return {
            **actions,
            **self._sound_save(actions),
            State.BACKWARD: lambda: self._recorder.backward(backward),
            State.STEP: lambda: self._step(step),
        }

    def _step(self, step: Action) -> None:
        self._recorder.gradients()
        value = self._recorder.pop()
        if value is None:
            self._signals.step_skipped = False
            step()
            return
        self._train_batch.drop_window(zero_gradients=True)
        if not self._has_warned:
            self._has_warned = True
            warn(
                f"on_nonfinite='skip': {value} was not finite, so its window was dropped without a step. Further windows are "
                f"dropped without a warning; steps_skipped counts them."
            )

    def may_save(self) -> bool:
        """Always true: a bad window is dropped after resuming, too."""
        self._recorder.sync()
        return True


class RollbackPolicy(NonFinitePolicy):
    """End the table's run before a bad window is stepped; the machine then resumes from the last checkpoint."""

    def __init__(self, components: RunComponents, run: RunState, train_batch: TrainBatch) -> None:
        super().__init__(_Recorder(components, run))
        self._run, self._train_batch = run, train_batch

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Leave out excluded batches, record at each backward, read before each step; save only what is sound."""
        forward, backward, step = actions[State.TRAIN_BATCH], actions[State.BACKWARD], actions[State.STEP]

        def forward_unless_excluded() -> None:
            if not self._batch_is_excluded():
                forward()
            else:
                self._run.signals.loss_is_none = False

        def backward_and_record() -> None:
            if not self._batch_is_excluded():
                self._recorder.backward(backward)
                self._recorder.gradients()

        return {
            **actions,
            **self._sound_save(actions),
            State.TRAIN_BATCH: forward_unless_excluded,
            State.BACKWARD: backward_and_record,
            State.STEP: lambda: self._step(step),
        }

    def _batch_is_excluded(self) -> bool:
        return self._run.counters.batches_begun in self._run.nonfinite.excluded_batches

    def _step(self, step: Action) -> None:
        signals, nonfinite = self._run.signals, self._run.nonfinite
        nonfinite.cause = self._recorder.pop()
        signals.nonfinite, signals.step_skipped = nonfinite.cause is not None, False
        if signals.nonfinite:
            return
        if self._train_batch.window_is_empty(batch_is_excluded=self._batch_is_excluded()):
            self._train_batch.drop_window(zero_gradients=False)  # an override may keep gradients of its own there
        else:
            step()

    def may_save(self) -> bool:
        """Return whether all values of open windows were finite: the step of a bad one goes back to the checkpoint before."""
        self._recorder.sync()
        return not any(self._run.nonfinite.bad_windows)


def validate_nonfinite_policy(
    options: Options, limits: Limits, guards: Guards, optimizer_setup: OptimizerSetup, loaders: Mapping[str, Loader]
) -> None:
    """Check that the policy of ``on_nonfinite`` can work for this run.

    Raises:
        OptionsError: It cannot.
    """
    policy = options.on_nonfinite
    if policy not in ("skip", "rollback") or limits.epochs == 0:
        return
    for slot in optimizer_setup.slots:
        if slot.needs_closure:
            raise OptionsError(
                f"on_nonfinite={policy!r}: {type(slot.optimizer).__name__} evaluates its loss within its step, which cannot be "
                f"undone. Use on_nonfinite='raise' with it."
            )
    if policy != "rollback":
        return
    if guards.save is None:
        raise OptionsError(
            "on_nonfinite='rollback': the run goes back to its last checkpoint, and this run saves none. Add "
            "ModelCheckpoint(every_n_batches=...) to the callbacks, or pass Guards(save=...)."
        )
    for name, loader in loaders.items():
        if is_iterator(loader):
            raise OptionsError(
                f"on_nonfinite='rollback': {name} is an iterator, which can be used only once, and going back to a "
                f"checkpoint uses a part of it again. Pass an iterable."
            )


def validate_rollback(nonfinite: NonFiniteState, max_rollbacks: int, path: Path | None) -> str:
    """Check that the run can go back to the checkpoint at this path; return what was not finite, for messages.

    Raises:
        NonFiniteError: It has gone back `max_rollbacks` times already, or there is no checkpoint.
    """
    cause = f"on_nonfinite='rollback': {nonfinite.cause} was not finite"
    if len(nonfinite.excluded) >= max_rollbacks:
        before = "; ".join(map(str, nonfinite.excluded))
        raise NonFiniteError(
            f"{cause}, and max_nb_rollbacks={max_rollbacks}: the run has gone back that often already, for {before}. {HINT}. "
            f"Raise max_nb_rollbacks to exclude more batches, or resume from an earlier checkpoint."
        )
    if path is None:
        raise NonFiniteError(
            f"{cause}, and this run has saved no checkpoint yet to go back to. Save earlier, as with "
            f"ModelCheckpoint(every_n_batches=...). {HINT}."
        )
    return cause
