"""Callback hooks: which there are, and calling those of the model and the callbacks. A hook that nobody has costs nothing."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from attrs import frozen

from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.runtime.model_inspection.lightning_objects import lightning_class
from fsmtrain.runtime.model_inspection.uncalled_hooks import uncalled_hooks


class Callback:
    """The hooks of a callback. Every method is optional, and any object with some of them is a callback.

    Each gets the machine, from which everything else can be read: ``machine.state``, ``machine.counters``,
    ``machine.model``, ``machine.metrics``; ``machine.stop()`` asks it to stop. A model may have the same hooks, without the
    argument ``machine``. The model's hooks are called first, then those of the callbacks in their order.

    ``on_run``, ``on_epoch`` and ``on_validation`` come in pairs: after ``..._start`` there is one ``..._end``, also if the run
    is stopped or fails in between, and also if the ``..._end`` of another callback fails.
    """

    def on_run_start(self, machine: Any) -> None:
        """Before the first state."""

    def on_run_end(self, machine: Any) -> None:
        """After the final state, also after a stop request and after an error."""

    def on_epoch_start(self, machine: Any) -> None:
        """Before the epoch's first batch is fetched."""

    def on_epoch_end(self, machine: Any) -> None:
        """After the epoch's last batch and validation, before the schedulers; also if a stop ends the epoch early.

        If a stop request or an error ends the run within the epoch, ``machine.state`` is not `epoch_end`. A run that is resumed
        within an epoch continues it, without another ``on_epoch_start``.
        """

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        """After a train batch has been fetched and moved to the device."""

    def on_batch_end(self, machine: Any) -> None:
        """After the train batch's last step or accumulation, before a validation."""

    def on_validation_start(self, machine: Any) -> None:
        """Before a validation's first batch. The sanity pass is not a validation."""

    def on_validation_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        """After a validation, with its metrics; tensors may still be on their device.

        If a stop request or an error ends the run within the validation, there are no metrics: each that is looked up is NaN.
        The resumed run then begins this validation again, with another ``on_validation_start``.
        """

    def on_transition(self, machine: Any, transition: Any) -> None:
        """After every transition. It slows each of them down."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

# Earlier names of hooks, which would never be called.
_OLD_NAMES = {"on_check_start": "on_validation_start", "on_check_end": "on_validation_end"}


class UnfinishedMetrics(dict[str, Any]):
    """The metrics of a validation that was not finished: there are none, and each that is looked up is NaN.

    >>> UnfinishedMetrics()["val_loss"]
    nan
    """

    def __missing__(self, name: str) -> float:
        return math.nan


Hook = Callable[..., None]


class HookPair:
    """Two hooks around a part of a run: where the first was called, the second is called once, whatever happens in between.

    Args:
        owners: For the model and each callback that has one of the two: its first and its second hook, or None.
        can_resume_within: Whether a run may be resumed within the part: no owner needs the whole of it.
    """

    def __init__(self, owners: Iterable[tuple[Hook | None, Hook | None]], *, can_resume_within: bool = True) -> None:
        self._owners = tuple(owners)
        self.can_resume_within = can_resume_within
        self.is_open = False
        self._to_end: list[Hook] = []

    def start(self) -> None:
        """Call the first hooks. If one fails, it and those after it have not begun: their second hooks are not called."""
        self.is_open = True
        for start, end in self._owners:
            if start is not None:
                start()
            if end is not None:
                self._to_end.append(end)

    def resume(self) -> None:
        """Continue a part that another run has begun: call no hook now, and the second ones at its end."""
        self.is_open, self._to_end = True, [end for _, end in self._owners if end is not None]

    def end(self, *args: Any) -> None:
        """Call the second hooks, also after one that fails, and raise the first failure. Does nothing if nothing has begun."""
        hooks, self._to_end, self.is_open = self._to_end, [], False
        call_all(hooks, *args)


def call_all(hooks: Iterable[Hook], *args: Any) -> None:
    """Call each hook, also after one that fails, and raise the first failure: what was begun must be ended."""
    first_error: BaseException | None = None
    for hook in hooks:
        try:
            hook(*args)
        except BaseException as error:
            first_error = first_error or error
    if first_error is not None:
        raise first_error


@frozen(kw_only=True)
class Hooks:
    """The hooks of one run, bound to its machine; None for a hook or a pair that neither the model nor a callback has."""

    on_run_start: Callable[[], None] | None
    on_run_end: Callable[[], None] | None
    epoch: HookPair | None  # on_epoch_start, on_epoch_end
    validation: HookPair | None  # on_validation_start, on_validation_end
    on_batch_start: Callable[[Any], None] | None
    on_batch_end: Callable[[], None] | None
    on_transition: Callable[[Any], None] | None


def bind_hooks(model: object, callbacks: Iterable[object], machine: object) -> Hooks:
    """Find the hooks of a model and of callbacks, and bind those of the callbacks to the machine.

    Raises:
        OptionsError: A callback has none of the hooks, or is a class; or a hook has an earlier name.
    """
    owners = list(callbacks)
    for owner in (model, *owners):
        for old, new in _OLD_NAMES.items():
            if callable(getattr(owner, old, None)) and _own_hook(owner, new) is None:
                raise OptionsError(f"{type(owner).__name__}.{old}: this hook is called {new}. Rename the method.")
    for owner in owners:
        if isinstance(owner, type):
            raise OptionsError(f"callbacks: {owner.__name__} is a class. Pass an instance: {owner.__name__}().")
        if (lightning := lightning_class(owner, "Callback")) is not None:
            raise OptionsError(
                f"callbacks: {type(owner).__name__} is a {lightning}, which only Lightning's Trainer can call: derive it from "
                f"fsmtrain.Callback, or use what is here, such as fsmtrain.ModelCheckpoint and Trainer(early_stop_callback=)."
            )
        if isinstance(owner, EarlyStopping):
            raise OptionsError(f"callbacks: {owner!r} is no callback. Pass it as early_stop_callback=EarlyStopping(...).")
        if not any(callable(getattr(owner, name, None)) for name in HOOKS):
            similar = uncalled_hooks(owner, HOOKS, is_model=False)
            hints = "".join(f" It has {name}: {advice}." for name, advice in similar.items())
            raise OptionsError(
                f"callbacks: {owner!r} has no hook.{hints} A callback has at least one of these methods: {', '.join(HOOKS)}."
            )
    for owner in (model, *owners):
        _validate_signatures(owner, is_model=owner is model)
    single = {name: _bind(name, model, owners, machine) for name in HOOKS if not name.startswith(_PAIRED)}
    pairs = {name.removeprefix("on_"): _bind_pair(name, model, owners, machine) for name in _PAIRED}
    return Hooks(**single, **pairs)  # type: ignore[arg-type]


def _validate_signatures(owner: object, *, is_model: bool) -> None:
    """Check that each hook can be called with its arguments, before the run gets to it.

    Raises:
        OptionsError: One cannot.
    """
    for name in HOOKS:
        hook = _own_hook(owner, name)
        if hook is None:
            continue
        arguments = list(inspect.signature(getattr(Callback, name)).parameters)[1:]
        arguments = [a for a in arguments if a != "machine"] if is_model else arguments
        try:
            signature = inspect.signature(hook)
        except (TypeError, ValueError):  # not a Python function
            continue
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise OptionsError(
                f"{type(owner).__name__}.{name}{signature}: it is called as {name}({', '.join(arguments)}): {error}."
            ) from None


_PAIRED = ("on_epoch", "on_validation")


def _bind(name: str, model: object, callbacks: list[object], machine: object) -> Hook | None:
    bound = (_bound_hook(owner, name, model, machine) for owner in (model, *callbacks))
    hooks = [hook for hook in bound if hook is not None]
    if len(hooks) <= 1:
        return hooks[0] if hooks else None

    def call(*args: Any) -> None:
        for hook in hooks:
            hook(*args)

    return partial(call_all, hooks) if name == "on_run_end" else call


def _bind_pair(stem: str, model: object, callbacks: list[object], machine: object) -> HookPair | None:
    owners, can_resume_within = [], True
    for owner in (model, *callbacks):
        start, end = (_bound_hook(owner, f"{stem}_{which}", model, machine) for which in ("start", "end"))
        if start is not None or end is not None:
            owners.append((start, end))
            can_resume_within &= getattr(owner, "can_resume_within_validation", False)
    return HookPair(owners, can_resume_within=can_resume_within) if owners else None


def _bound_hook(owner: object, name: str, model: object, machine: object) -> Hook | None:
    """Return a hook of the model, or of a callback with the machine filled in; None if it has no such hook."""
    if owner is model:
        hook = getattr(model, name, None)
        return hook if callable(hook) else None
    hook = _own_hook(owner, name)
    return None if hook is None else partial(hook, machine)


def _own_hook(owner: object, name: str) -> Hook | None:
    """Return a callback's hook, unless it is the empty one of `Callback`."""
    hook = getattr(owner, name, None)
    return hook if callable(hook) and getattr(hook, "__func__", None) is not getattr(Callback, name) else None
