"""The hooks that a callback, or the model itself, may have. Those that nobody has cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from fsmtrain.errors import OptionsError

Hook = Callable[..., None]


class Callback:
    """What a callback may do; every method is optional, and any object with some of them is a callback.

    Each is given the machine, from which everything else can be read: ``machine.state``, ``machine.counters``,
    ``machine.model``, ``machine.metrics``, and ``machine.stop()`` asks it to stop. A model may have the same hooks, without the
    argument ``machine``. Callbacks are called in the order in which they were given, after the model.
    """

    def on_run_start(self, machine: Any) -> None:
        """Before the first state."""

    def on_run_end(self, machine: Any) -> None:
        """After the final state, also after a stop request and after an error."""

    def on_epoch_start(self, machine: Any) -> None:
        """Before the epoch's first batch is fetched."""

    def on_epoch_end(self, machine: Any) -> None:
        """After the epoch's last batch and check, before the schedulers; also where a stop cuts the epoch short."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        """After a train batch has been fetched and moved."""

    def on_batch_end(self, machine: Any) -> None:
        """After the train batch's last step or accumulation, before a check."""

    def on_validation_start(self, machine: Any) -> None:
        """Before a check's first batch. The sanity pass is not a check."""

    def on_validation_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        """After a check, with the metrics that it returned, as they are: tensors may still be on their device."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        """After every transition. It slows each of them down."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


@frozen(kw_only=True)
class Hooks:
    """For each hook, what is to be called; None where nobody has it."""

    on_run_start: Hook | None
    on_run_end: Hook | None
    on_epoch_start: Hook | None
    on_epoch_end: Hook | None
    on_batch_start: Hook | None
    on_batch_end: Hook | None
    on_validation_start: Hook | None
    on_validation_end: Hook | None
    on_transition: Hook | None


def hooks_of(model: object, callbacks: Iterable[object]) -> Hooks:
    """The hooks of a model and of callbacks, resolved once.

    Raises:
        OptionsError: A callback has none of the hooks, or is a class.
    """
    owners = list(callbacks)
    for owner in owners:
        if isinstance(owner, type):
            raise OptionsError(f"callbacks: {owner.__name__} is a class. Pass an object of it: {owner.__name__}().")
        if not any(callable(getattr(owner, name, None)) for name in HOOKS):
            raise OptionsError(f"callbacks: {owner!r} has none of the hooks {', '.join(HOOKS)}.")
    return Hooks(**{name: _together(name, model, owners) for name in HOOKS})


def _together(name: str, model: object, callbacks: list[object]) -> Hook | None:
    found: list[Hook] = [hook for owner in callbacks if (hook := _own(owner, name)) is not None]
    of_model = getattr(model, name, None)
    if callable(of_model):
        found.insert(0, lambda machine, *args: of_model(*args))
    if len(found) <= 1:
        return found[0] if found else None

    def call(*args: Any) -> None:
        for hook in found:
            hook(*args)

    def call_all(*args: Any) -> None:
        """Call each, also after one that raises: whoever began something has to end it."""
        failed: BaseException | None = None
        for hook in found:
            try:
                hook(*args)
            except BaseException as error:
                failed = failed or error
        if failed is not None:
            raise failed

    return call_all if name == "on_run_end" else call


def _own(owner: object, name: str) -> Hook | None:
    """A callback's hook, unless it is the empty one of `Callback`."""
    hook = getattr(owner, name, None)
    return hook if callable(hook) and getattr(hook, "__func__", None) is not getattr(Callback, name) else None
