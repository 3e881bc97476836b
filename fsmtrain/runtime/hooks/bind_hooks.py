"""Find the hooks of a model and its callbacks, once, when a machine is built. A hook that nobody has costs nothing."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

from attrs import frozen

from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.runtime.hooks.callback import HOOKS, Callback
from fsmtrain.runtime.hooks.checkpoint_hooks import CheckpointHooks
from fsmtrain.runtime.hooks.hook_pair import Hook, HookPair, call_all
from fsmtrain.runtime.model_inspection.lightning_objects import lightning_class
from fsmtrain.runtime.model_inspection.uncalled_hooks import STAGE_HOOKS, has_stage, uncalled_hooks

# Earlier names of hooks, which would never be called.
_OLD_NAMES = {"on_check_start": "on_validation_start", "on_check_end": "on_validation_end"}

_TWINS = {"on_train_epoch_start": "on_epoch_start", "on_train_epoch_end": "on_epoch_end"}  # of one method with both names
_MAY_BE_LEFT_OUT = ("metrics", "dataloader_i")  # by a hook whose last argument it is
_ALL_ARE_CALLED = ("on_run_end", "on_exception", "teardown")  # also after one that fails


@frozen(kw_only=True)
class PassHooks:
    """The hooks of the passes over val loaders, test loaders, or loaders to predict on.

    Attributes:
        whole: ``on_..._start`` and ``on_..._end``.
        epoch: ``on_..._epoch_start`` and ``on_..._epoch_end``, within these.
        batch_start: ``on_..._batch_start``.
        batch_end: ``on_..._batch_end``.
        whole_can_resume: Whether a pass that is resumed need not begin again for `whole`.
        inner_can_resume: The same for the hooks within.
    """

    whole: HookPair | None
    epoch: HookPair | None
    batch_start: Hook | None
    batch_end: Hook | None
    whole_can_resume: bool
    inner_can_resume: bool


@frozen(kw_only=True)
class Hooks:
    """The hooks of one run, bound to its machine; None for a hook or a pair that neither the model nor a callback has."""

    setup: Hook | None
    teardown: Hook | None
    on_run_start: Hook | None
    on_run_end: Hook | None
    on_exception: Hook | None
    on_batch_start: Hook | None
    on_train_batch_start: Hook | None
    on_before_backward: Hook | None
    on_after_backward: Hook | None
    on_before_optimizer_step: Hook | None
    on_before_zero_grad: Hook | None
    on_after_optimizer_step: Hook | None
    on_batch_end: Hook | None
    on_train_batch_end: Hook | None
    on_transition: Hook | None
    fit: HookPair | None  # on_fit_start, on_fit_end
    train: HookPair | None  # on_train_start, on_train_end
    epoch: HookPair | None  # on_epoch_start, on_train_epoch_start, on_train_epoch_end, on_epoch_end
    validation: PassHooks
    test: PassHooks
    predict: PassHooks
    checkpoint: CheckpointHooks | None
    epoch_may_log: bool  # whether the hooks of an epoch may log metrics

    def of_pass(self, kind: Literal["val", "test", "predict"]) -> PassHooks:
        """Return the hooks of the passes of a kind."""
        return {"val": self.validation, "test": self.test, "predict": self.predict}[kind]


_PAIRS = {"fit": ("on_fit",), "train": ("on_train",), "epoch": ("on_epoch", "on_train_epoch")}
_SINGLE = (
    *("on_run_start", "on_run_end", "on_exception", "on_transition"),
    *("on_batch_start", "on_train_batch_start", "on_batch_end", "on_train_batch_end"),
    *("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad", "on_after_optimizer_step"),
    *STAGE_HOOKS,
)


def bind_hooks(model: object, callbacks: Iterable[object], machine: object) -> Hooks:
    """Find the hooks of a model and of callbacks, and bind those of the callbacks to the machine.

    Raises:
        OptionsError: A callback has none of the hooks, or is a class; or a hook has an earlier name, or cannot be called with
            its arguments.
    """
    owners = list(callbacks)
    for owner in (model, *owners):
        for old, new in _OLD_NAMES.items():
            if callable(getattr(owner, old, None)) and _own_hook(owner, new) is None:
                raise OptionsError(f"{type(owner).__name__}.{old}: this hook is called {new}. Rename the method.")
    for owner in owners:
        _validate_callback(owner)
    binder = _Binder(model, owners, machine)
    found: dict[str, Any] = {name: binder.one(name) for name in _SINGLE}
    found |= {name: binder.pair(*stems) for name, stems in _PAIRS.items()}
    found |= {kind: binder.of_pass(kind) for kind in ("validation", "test", "predict")}
    return Hooks(**found, checkpoint=binder.of_checkpoints(), epoch_may_log=binder.may_log(*_PAIRS["epoch"]))


def _validate_callback(owner: object) -> None:
    if isinstance(owner, type):
        raise OptionsError(f"callbacks: {owner.__name__} is a class. Pass an instance: {owner.__name__}().")
    if (lightning := lightning_class(owner, "Callback")) is not None:
        raise OptionsError(
            f"callbacks: {type(owner).__name__} is a {lightning}, which the Trainer of "
            f"fsmtrain.adapters.lightning runs as it is; or derive it from "
            f"fsmtrain.Callback, or use what is here, such as fsmtrain.ModelCheckpoint and Trainer(early_stop_callback=)."
        )
    if isinstance(owner, EarlyStopping):
        raise OptionsError(f"callbacks: {owner!r} is no callback. Pass it as early_stop_callback=EarlyStopping(...).")
    if not any(_is_hook(getattr(owner, name, None), name) for name in HOOKS):
        similar = uncalled_hooks(owner, HOOKS, is_model=False)
        hints = "".join(f" It has {name}: {advice}." for name, advice in similar.items())
        raise OptionsError(
            f"callbacks: {owner!r} has no hook.{hints} A callback has at least one of these methods: {', '.join(HOOKS)}."
        )


class _Binder:
    """Binds hooks by their names. The model comes first, then the callbacks in their order."""

    def __init__(self, model: object, callbacks: Sequence[object], machine: object) -> None:
        self._model, self._machine = model, machine
        self._owners = (model, *callbacks)
        self._hooks = {owner_i: dict(self._hooks_of(owner)) for owner_i, owner in enumerate(self._owners)}

    def _hooks_of(self, owner: object) -> Iterator[tuple[str, Hook]]:
        is_model = owner is self._model
        for name in HOOKS:
            hook = _own_hook(owner, name)
            if hook is not None and not _is_same_method(hook, _own_hook(owner, _TWINS.get(name, ""))):
                hook = with_its_arguments(hook, name, owner, is_model=is_model)
                yield name, hook if is_model else partial(hook, self._machine)

    def one(self, name: str) -> Hook | None:
        """Return what calls all hooks of a name; None if there is none."""
        hooks = [own[name] for own in self._hooks.values() if name in own]
        return in_turn(hooks, all_are_called=name in _ALL_ARE_CALLED)

    def pair(self, *stems: str) -> HookPair | None:
        """Return the hooks ``..._start`` and ``..._end`` of all owners, those of the second stem within those of the first."""
        owners = []
        for own in self._hooks.values():
            starts = [own[name] for stem in stems if (name := f"{stem}_start") in own]
            ends = [own[name] for stem in reversed(stems) if (name := f"{stem}_end") in own]
            if starts or ends:
                owners.append((in_turn(starts), in_turn(ends, all_are_called=True)))
        return HookPair(owners) if owners else None

    def may_log(self, *stems: str) -> bool:
        """Return whether an owner of one of these hooks may log metrics; one with ``may_log_metrics = False`` does not."""
        names = {f"{stem}_{which}" for stem in stems for which in ("start", "end")}
        with_hooks = (self._owners[i] for i, own in self._hooks.items() if not names.isdisjoint(own))
        return any(getattr(owner, "may_log_metrics", True) for owner in with_hooks)

    def of_pass(self, kind: str) -> PassHooks:
        """Return the hooks of a validation, a test or a run that predicts."""
        whole = (f"on_{kind}_start", f"on_{kind}_end")
        inner = [f"on_{kind}_{what}_{which}" for what in ("epoch", "batch") for which in ("start", "end")]
        return PassHooks(
            whole=self.pair(f"on_{kind}"),
            epoch=self.pair(f"on_{kind}_epoch"),
            batch_start=self.one(f"on_{kind}_batch_start"),
            batch_end=self.one(f"on_{kind}_batch_end"),
            whole_can_resume=self._can_resume_within(whole),
            inner_can_resume=self._can_resume_within(inner),
        )

    def _can_resume_within(self, names: Iterable[str]) -> bool:
        """Return whether no owner with one of these hooks needs the whole pass."""
        with_hooks = (self._owners[i] for i, own in self._hooks.items() if any(name in own for name in names))
        return all(getattr(owner, "can_resume_within_validation", False) for owner in with_hooks)

    def of_checkpoints(self) -> CheckpointHooks | None:
        """Return the hooks that write and read checkpoints: by ``model``, or by the class and which of its instances it is."""
        owners: dict[str, tuple[Hook | None, Hook | None]] = {}
        seen: Counter[str] = Counter()
        for i, own in self._hooks.items():
            kind = type(self._owners[i])
            name = f"{kind.__module__}.{kind.__qualname__}"
            key = "model" if i == 0 else f"{name} {seen[name]}"
            seen[name] += i > 0
            save, load = own.get("on_save_checkpoint"), own.get("on_load_checkpoint")
            if save is not None or load is not None:
                owners[key] = save, load
        return CheckpointHooks(owners) if owners else None


def in_turn(hooks: Sequence[Hook], *, all_are_called: bool = False) -> Hook | None:
    """Return what calls these hooks, one after the other; None if there is none.

    `all_are_called` says whether the others are called after one that fails, too.
    """
    if len(hooks) <= 1:
        return hooks[0] if hooks else None

    def call(*args: Any) -> None:
        for hook in hooks:
            hook(*args)

    return partial(call_all, hooks) if all_are_called else call


def with_its_arguments(hook: Hook, name: str, owner: object, *, is_model: bool) -> Hook:
    """Return the hook as it can be called with all arguments, before the run gets to it.

    Raises:
        OptionsError: It cannot.
    """
    arguments = list(inspect.signature(getattr(Callback, name)).parameters)[1:]
    arguments = [a for a in arguments if a != "machine"] if is_model else arguments
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # not a Python function
        return hook
    if not is_model and "pl_module" in signature.parameters:
        raise OptionsError(
            f"{type(owner).__name__}.{name}{signature}: a callback's hook gets the machine, with the model in machine.model: "
            f"{name}({', '.join(arguments)})."
        )
    error = _call_error(signature, arguments)
    if error is None:
        return hook
    if arguments and arguments[-1] in _MAY_BE_LEFT_OUT and _call_error(signature, arguments[:-1]) is None:
        return lambda *given: hook(*given[:-1])
    raise OptionsError(f"{type(owner).__name__}.{name}{signature}: it is called as {name}({', '.join(arguments)}): {error}.")


def _call_error(signature: inspect.Signature, arguments: Sequence[str]) -> TypeError | None:
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return error
    return None


def _own_hook(owner: object, name: str) -> Hook | None:
    """Return an owner's hook, unless it is the empty one of `Callback`."""
    hook = getattr(owner, name, None)
    return hook if _is_hook(hook, name) and getattr(hook, "__func__", None) is not getattr(Callback, name, None) else None


def _is_same_method(hook: Hook, other: Hook | None) -> bool:
    return other is not None and getattr(hook, "__func__", hook) is getattr(other, "__func__", other)


def _is_hook(method: Any, name: str) -> bool:
    return callable(method) and (name not in STAGE_HOOKS or has_stage(method))
