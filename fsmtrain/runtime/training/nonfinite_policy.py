"""What ``on_nonfinite`` adds to the actions of training. Without it nothing of this is made, and no action is another.

- ``raise`` notes each loss and the gradients after it, and reads at moments at which a run waits anyway: before a check, before
  a save, at an epoch's end, and where the run is stopped.
- ``skip`` notes the losses, and the gradients before a step, and reads once for each window, before it would be stepped.
- ``rollback`` notes as ``raise`` does, and reads as ``skip`` does. A batch that has been left out is fetched and not evaluated.

With fp16 the gradients are the scaler's business, which has its own answer to those that are not finite: there only losses are
watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.errors import NonFiniteError, OptionsError
from fsmtrain.options import Options
from fsmtrain.runtime.data.loaders import Loader, is_iterator
from fsmtrain.runtime.optimization.nonfinite_detection import NonFiniteMonitor, NonFiniteState, NonFiniteValue, all_finite
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.train_batch import TrainBatch
from fsmtrain.user_warnings import warn

Action = Callable[[], None]

CAUSES = "Look at that batch; a lower learning rate or gradient_clip_val may help"


def nonfinite_policy(
    parts: RunComponents, memory: RunState, training: TrainBatch
) -> RaisePolicy | SkipPolicy | RollbackPolicy | None:
    """What watches the numbers of this run; None where nothing does."""
    match parts.loop.options.on_nonfinite:
        case "raise":
            return RaisePolicy(parts, memory, training)
        case "skip":
            return SkipPolicy(parts, memory, training)
        case "rollback":
            return RollbackPolicy(parts, memory, training)
        case None:
            return None


class _Policy:
    """What the three have in common: they note numbers, and know where these came up."""

    def __init__(self, parts: RunComponents, memory: RunState, training: TrainBatch) -> None:
        self._memory, self._counters, self._signals = memory, memory.counters, memory.signals
        self._training, self._turns = training, parts.slots
        self._watches_gradients = not parts.loop.options.mixed_precision.uses_scaler
        self._watches = [NonFiniteMonitor() for _ in parts.slots]  # one for each optimizer's window

    def _place(self) -> tuple[int, int, int, int, int]:
        counters = self._counters
        return (
            counters.current_epoch,
            counters.batch_nb,
            counters.split_nb,
            counters.optimizer_i,
            counters.batches_begun,
        )

    def _backward(self) -> None:
        """A backward whose loss is noted."""
        assert self._memory.loss is not None
        loss = self._memory.loss.detach()  # the graph is not held
        self._training.run_backward()
        self._watches[self._counters.optimizer_i].add(loss, self._place(), "loss")

    def _note_gradients(self) -> None:
        index = self._counters.optimizer_i
        found = all_finite(self._turns[index].parameters) if self._watches_gradients else None
        if found is not None:
            self._watches[index].add(found, self._place(), "gradient")

    def _sync(self) -> None:
        """Read what has been noted of open windows."""
        spoiled = self._memory.nonfinite.bad_windows
        for index, watch in enumerate(self._watches):
            spoiled[index] = spoiled[index] or watch.read()

    def _pop(self) -> NonFiniteValue | None:
        """What has spoiled the window that is to be stepped, if anything; it is read here and forgotten."""
        index, spoiled = self._counters.optimizer_i, self._memory.nonfinite.bad_windows
        found = self._watches[index].read()
        found, spoiled[index] = spoiled[index] or found, None
        return found

    def raise_if_nonfinite(self) -> None:
        """Where the run has been stopped: nothing, but for those that read late."""

    def may_save(self) -> bool:
        """Whether what a checkpoint would hold now is worth having."""
        self._sync()
        return True

    def release(self) -> None:
        """Let go of what has been noted."""
        for watch in self._watches:
            watch.reset()


class RaisePolicy(_Policy):
    """Raises an error that names the first bad batch, at the next moment at which the run waits anyway."""

    def __init__(self, parts: RunComponents, memory: RunState, training: TrainBatch) -> None:
        super().__init__(parts, memory, training)
        self._watches = [NonFiniteMonitor()] * len(parts.slots)  # one for all, so that the first of all is found
        self._found: NonFiniteValue | None = None

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """The actions, with those that look before they begin."""
        changed = {State.BACKWARD: self._note}
        for state in (State.SAVE, State.EPOCH_END):
            if state in actions:
                changed[state] = self._looking(actions[state])
        if State.VAL_CHECK in actions:
            changed[State.VAL_CHECK] = self._looking_first(actions[State.VAL_CHECK])
        return {**actions, **changed}

    def _note(self) -> None:
        self._backward()
        self._note_gradients()

    def _looking(self, action: Action) -> Action:
        def look_and_act() -> None:
            self.raise_if_nonfinite()
            action()

        return look_and_act

    def _looking_first(self, action: Action) -> Action:
        """Before the first batch of a check."""
        counters = self._counters

        def look_and_act() -> None:
            if counters.eval_nb == 0:
                self.raise_if_nonfinite()
            action()

        return look_and_act

    def raise_if_nonfinite(self) -> None:
        """Read what has been noted.

        Raises:
            NonFiniteError: Something was not finite.
        """
        if self.may_save():
            return
        raise NonFiniteError(
            f"on_nonfinite='raise': {self._found} was not finite. It is told at the next check, save or end of an epoch, so "
            f"the weights may have been stepped with it by now; checkpoints from before are sound. {CAUSES}. "
            f"on_nonfinite='skip' drops such a window, on_nonfinite='rollback' goes back to a checkpoint and leaves the batch "
            f"out."
        )

    def may_save(self) -> bool:
        """Whether all numbers so far were finite."""
        self._found = self._found or self._watches[0].read()
        return self._found is None


class SkipPolicy(_Policy):
    """Drops each window with a number that is not finite: its gradients are zeroed and its optimizer does not step."""

    _has_told = False

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """The actions, with a step that looks first."""
        changed: dict[State, Action] = {State.BACKWARD: self._backward, State.STEP: self._step}
        if State.SAVE in actions:
            changed[State.SAVE] = self._saving(actions[State.SAVE])
        return {**actions, **changed}

    def _step(self) -> None:
        self._note_gradients()
        found = self._pop()
        if found is None:
            self._signals.step_skipped = False
            self._training.run_step()
            return
        self._training.drop_window(zero_gradients=True)
        if not self._has_told:
            self._has_told = True
            warn(
                f"on_nonfinite='skip': {found} was not finite, so its window was dropped without a step. Further windows are "
                f"dropped without a word, and counted in steps_skipped."
            )

    def _saving(self, save: Action) -> Action:
        def settle_and_save() -> None:
            self._sync()
            save()

        return settle_and_save


class RollbackPolicy(_Policy):
    """Ends the table's run before a spoiled window is stepped. Where it goes on from is the business of the machine."""

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """The actions, with those that pass over batches left out, and a step that looks first."""
        changed: dict[State, Action] = {
            State.TRAIN_BATCH: self._run_forward,
            State.BACKWARD: self._run_backward,
            State.STEP: self._step,
        }
        if State.SAVE in actions:
            changed[State.SAVE] = self._saving(actions[State.SAVE])
        return {**actions, **changed}

    def _is_left_out(self) -> bool:
        return self._counters.batches_begun in self._memory.nonfinite.excluded_batches

    def _run_forward(self) -> None:
        if not self._is_left_out():
            self._training.run_forward()

    def _run_backward(self) -> None:
        if not self._is_left_out():
            self._backward()
            self._note_gradients()

    def _step(self) -> None:
        signals, numbers = self._signals, self._memory.nonfinite
        numbers.cause = self._pop()
        signals.nonfinite, signals.step_skipped = numbers.cause is not None, False
        if signals.nonfinite:
            return
        if self._training.window_is_empty(batch_is_left_out=self._is_left_out()):
            self._training.drop_window(zero_gradients=False)  # an override may keep gradients of its own there
        else:
            self._training.run_step()

    def _saving(self, save: Action) -> Action:
        """No checkpoint holds the gradients of a spoiled window: its step will go back to the one before."""

        def save_if_sound() -> None:
            if self.may_save():
                save()

        return save_if_sound

    def may_save(self) -> bool:
        """Whether no open window is spoiled."""
        self._sync()
        return not any(self._memory.nonfinite.bad_windows)


def validate_nonfinite_policy(
    options: Options, limits: Limits, guards: Guards, turns: OptimizerSetup, loaders: Mapping[str, Loader]
) -> None:
    """See to it that a policy for numbers that are not finite can do what it says.

    Raises:
        OptionsError: It cannot.
    """
    policy = options.on_nonfinite
    if policy not in ("skip", "rollback") or limits.epochs == 0:
        return
    for turn in turns.slots:
        if turn.needs_closure:
            raise OptionsError(
                f"on_nonfinite={policy!r}: {type(turn.optimizer).__name__} evaluates its loss within its step, which cannot be "
                f"taken back. Use on_nonfinite='raise' with it."
            )
    if policy != "rollback":
        return
    if guards.save is None:
        raise OptionsError(
            "on_nonfinite='rollback': the run goes back to its last checkpoint, and nothing says when to save one. Pass a "
            "ModelCheckpoint(every_n_batches=...) among the callbacks, or Guards(save=...)."
        )
    for name, loader in loaders.items():
        if is_iterator(loader):
            raise OptionsError(
                f"on_nonfinite='rollback': {name} is an iterator, which can be gone through only once, and going back to a "
                f"checkpoint goes through a part of it again. Pass an iterable."
            )


def validate_rollback(numbers: NonFiniteState, most: int, path: Path | None) -> str:
    """See to it that the run can go back to the checkpoint at this path; returns what was not finite, to be told.

    Raises:
        NonFiniteError: It has gone back `most` times already, or there is no checkpoint.
    """
    spoiled = f"on_nonfinite='rollback': {numbers.cause} was not finite"
    if len(numbers.excluded) >= most:
        before = "; ".join(map(str, numbers.excluded))
        raise NonFiniteError(
            f"{spoiled}, and max_nb_rollbacks={most}: the run has gone back that often already, for {before}. {CAUSES}. Raise "
            f"max_nb_rollbacks to leave out more batches, or resume from an earlier checkpoint."
        )
    if path is None:
        raise NonFiniteError(
            f"{spoiled}, and this run has saved no checkpoint yet to which it could go back. Save earlier, as with "
            f"ModelCheckpoint(every_n_batches=...). {CAUSES}."
        )
    return spoiled
