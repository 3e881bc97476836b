"""Loaders of a run: passed as they are, or asked of a data module, or of the model.

A data module is any object with one of the methods in `LOADER_METHODS`; `DataModule` says which others it may have. One of
Lightning's is taken as it is. A loader that a data module has no method for is asked of the model.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, Literal

from attrs import evolve, frozen
from torch import nn

from fsmtrain.errors import ModelError, UsageError
from fsmtrain.runtime.hooks.bind_hooks import Hooks, in_turn
from fsmtrain.runtime.hooks.hook_pair import Hook

LoaderKind = Literal["train", "val", "test", "predict"]

KINDS: tuple[LoaderKind, ...] = ("train", "val", "test", "predict")
LOADER_METHODS = tuple(f"{kind}_dataloader" for kind in KINDS)
_PACKAGES_OF_BASES = frozenset({"fsmtrain", "lightning", "pytorch_lightning"})  # whose methods are there to be overridden


@frozen(kw_only=True, eq=False)
class Loaders:
    """What a run gets its batches from. None asks the data module or the model; an empty list means no loader."""

    train: Any = None  # in a run that does not train: the loader that the model was trained on
    val: Any = None
    test: Any = None
    predict: Any = None
    data_module: Any = None  # None: there is none

    @property
    def are_passed(self) -> bool:
        """Whether there are loaders or a data module, so that not only the model is asked."""
        return any(value is not None for value in (self.train, self.val, self.test, self.predict, self.data_module))

    def of(self, model: nn.Module, kind: LoaderKind) -> Any:
        """Return the loaders of a kind, as passed or as the data module or the model returns them; None if there are none."""
        passed = getattr(self, kind)
        if passed is not None:
            return passed
        own = self._source(model, kind)
        return own() if callable(own) else own

    def may_have(self, model: nn.Module, kind: LoaderKind) -> bool:
        """Return whether there may be loaders of a kind: they were passed, or there is a method for them."""
        passed = getattr(self, kind)
        if passed is None:
            return self._source(model, kind) is not None
        return not _is_empty(passed)

    def _source(self, model: nn.Module, kind: LoaderKind) -> Any:
        own = own_method(self.data_module, f"{kind}_dataloader")
        return getattr(model, f"{kind}_dataloader", None) if own is None else own


def given_loaders(
    call: str, *, train: Any = None, val: Any = None, test: Any = None, predict: Any = None, datamodule: Any = None
) -> Loaders:
    """Return what a caller passed to a call, by the rule that loaders come from the arguments or from a data module.

    A data module may be passed in the place of the loaders, too: ``fit(model, data)``.

    Raises:
        UsageError: Both were passed, or what was passed as the data module is none.
    """
    passed = {"train": train, "val": val, "test": test, "predict": predict}
    names = {kind: "train_dataloader" if kind == "train" else f"{kind}_dataloaders" for kind in passed}
    for kind, value in passed.items():
        if datamodule is None and is_data_module(value) and not _is_loader(value):
            datamodule, passed[kind] = value, None
    if datamodule is None:
        return Loaders(**passed)
    both = [names[kind] for kind, value in passed.items() if value is not None and not _is_empty(value)]
    if both:
        raise UsageError(
            f"{call}: {' and '.join(both)} and datamodule were both passed. Loaders come from the one or from the other: leave "
            f"one of them out."
        )
    if isinstance(datamodule, type):
        raise UsageError(f"{call}: datamodule={datamodule.__name__} is a class. Pass an object: {datamodule.__name__}().")
    if not is_data_module(datamodule):
        raise UsageError(
            f"{call}: datamodule={datamodule!r}: a data module has at least one of the methods {', '.join(LOADER_METHODS)}. "
            f"Loaders are passed as {names['train']}=... and the like."
        )
    return Loaders(**passed, data_module=datamodule)


def is_data_module(value: Any) -> bool:
    """Return whether an object has a method for a loader, of its own."""
    return not isinstance(value, type) and any(own_method(value, method) is not None for method in LOADER_METHODS)


def _is_loader(value: Any) -> bool:
    return hasattr(value, "__iter__") or hasattr(value, "__getitem__")


def _is_empty(passed: Any) -> bool:
    return isinstance(passed, (list, tuple)) and not passed


def own_method(owner: Any, name: str) -> Any:
    """Return an attribute of an object that it has of its own; None if it is that of a base class which does nothing.

    Such base classes are ours and Lightning's, which is recognised by its name and not imported.
    """
    value = getattr(owner, name, None)
    if value is None or name in getattr(owner, "__dict__", {}):
        return value
    for cls in type(owner).__mro__:
        if name in vars(cls):
            return None if cls.__module__.split(".")[0] in _PACKAGES_OF_BASES else value
    return value


# ---- what is called besides


def prepare_data(data_module: Any) -> None:
    """Call ``prepare_data`` of a data module, if it has it."""
    prepare = own_method(data_module, "prepare_data")
    if callable(prepare):
        prepare()


def with_data_module(hooks: Hooks, data_module: Any) -> Hooks:
    """Return the hooks with those of a data module before them: ``setup``, ``teardown``, ``on_exception``.

    Raises:
        ModelError: One cannot be called with its argument.
    """
    if data_module is None:
        return hooks
    setup, teardown = (_hook(data_module, name, "stage") for name in ("setup", "teardown"))
    on_exception = _hook(data_module, "on_exception", "exception")
    return evolve(
        hooks,
        setup=in_turn([hook for hook in (setup, hooks.setup) if hook is not None]),
        teardown=in_turn([hook for hook in (teardown, hooks.teardown) if hook is not None], all_are_called=True),
        on_exception=in_turn([hook for hook in (on_exception, hooks.on_exception) if hook is not None], all_are_called=True),
    )


def _hook(data_module: Any, name: str, argument: str) -> Hook | None:
    """Return a method of a data module as a function of its one argument, which it may leave out; None if it has none."""
    method = own_method(data_module, name)
    if not callable(method):
        return None
    signature = inspect.signature(method)
    for args, keywords in (((argument,), ()), ((), (argument,)), ((), ())):
        try:
            signature.bind(*args, **dict.fromkeys(keywords))
        except TypeError:
            continue
        if args:
            return partial(method)
        return (lambda value: method(**{argument: value})) if keywords else (lambda _: method())
    raise ModelError(f"{type(data_module).__name__}.{name}{signature}: it is called as {name}({argument}).")


def is_stateful_data_module(data_module: Any) -> bool:
    """Return whether a data module has a state to save: both of torch's methods, of its own."""
    return all(callable(own_method(data_module, name)) for name in ("state_dict", "load_state_dict"))
