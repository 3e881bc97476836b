"""Callback hooks: which there are, and calling those of the model and the callbacks. A hook that nobody has costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from attrs import frozen

from fsmtrain.errors import OptionsError


class Callback:
    """The hooks of a callback. Every method is optional, and any object with some of them is a callback.

    Each gets the machine, from which everything else can be read: ``machine.state``, ``machine.counters``,
    ``machine.model``, ``machine.metrics``; ``machine.stop()`` asks it to stop. A model may have the same hooks, without the
    argument ``machine``. The model's hooks are called first, then those of the callbacks in their order.
    """

    def on_run_start(self, machine: Any) -> None:
        """Before the first state."""

    def on_run_end(self, machine: Any) -> None:
        """After the final state, also after a stop request and after an error."""

    def on_epoch_start(self, machine: Any) -> None:
        """Before the epoch's first batch is fetched."""

    def on_epoch_end(self, machine: Any) -> None:
        """After the epoch's last batch and validation, before the schedulers; also if a stop ends the epoch early."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        """After a train batch has been fetched and moved to the device."""

    def on_batch_end(self, machine: Any) -> None:
        """After the train batch's last step or accumulation, before a validation."""

    def on_validation_start(self, machine: Any) -> None:
        """Before a validation's first batch. The sanity pass is not a validation."""

    def on_validation_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        """After a validation, with its metrics; tensors may still be on their device."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        """After every transition. It slows each of them down."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

# Earlier names of hooks, which would never be called.
_OLD_NAMES = {"on_check_start": "on_validation_start", "on_check_end": "on_validation_end"}


@frozen(kw_only=True)
class Hooks:
    """The hooks of one run, bound to its machine; None for a hook that neither the model nor a callback has."""

    on_run_start: Callable[[], None] | None
    on_run_end: Callable[[], None] | None
    on_epoch_start: Callable[[], None] | None
    on_epoch_end: Callable[[], None] | None
    on_batch_start: Callable[[Any], None] | None
    on_batch_end: Callable[[], None] | None
    on_validation_start: Callable[[], None] | None
    on_validation_end: Callable[[dict[str, Any]], None] | None
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
        if not any(callable(getattr(owner, name, None)) for name in HOOKS):
            raise OptionsError(
                f"callbacks: {owner!r} has no hook. A callback has at least one of these methods: {', '.join(HOOKS)}."
            )
    return Hooks(**{name: _bind(name, model, owners, machine) for name in HOOKS})


def _bind(name: str, model: object, callbacks: list[object], machine: object) -> Callable[..., None] | None:
    hooks: list[Callable[..., None]] = [
        partial(hook, machine) for owner in callbacks if (hook := _own_hook(owner, name)) is not None
    ]
    of_model = getattr(model, name, None)
    if callable(of_model):
        hooks.insert(0, of_model)
    if len(hooks) <= 1:
        return hooks[0] if hooks else None

    def call(*args: Any) -> None:
        for hook in hooks:
            hook(*args)

    def call_all(*args: Any) -> None:
        """Call each hook, also after one that raises: what was begun must be ended."""
        first_error: BaseException | None = None
        for hook in hooks:
            try:
                hook(*args)
            except BaseException as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    return call_all if name == "on_run_end" else call


def _own_hook(owner: object, name: str) -> Callable[..., None] | None:
    """Return a callback's hook, unless it is the empty one of `Callback`."""
    hook = getattr(owner, name, None)
    return hook if callable(hook) and getattr(hook, "__func__", None) is not getattr(Callback, name) else None
