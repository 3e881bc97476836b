"""What ``torch.compile`` makes of modules: plain names and keys of weights, and whether what is compiled is used.

``torch.compile(model)`` returns a wrapper, ``OptimizedModule``, that passes attributes and methods on to the plain module. So
its step methods run on the plain module, whose ``self(...)`` is not compiled. A run works with the plain module, and lets its
``self(...)`` be the compiled one meanwhile, as ``model.compile()`` does for good.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from fsmtrain.user_warnings import warn

_INNER = "_orig_mod"  # the wrapper's name for the plain module


def is_wrapper(module: object) -> bool:
    """Return whether a module is what ``torch.compile(module)`` returns. Does not import torch's compiler, which is slow."""
    kind = type(module)
    return kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo")


def plain_module(model: Any) -> Any:
    """Return the module that ``torch.compile`` has wrapped; anything else itself."""
    while is_wrapper(model):
        model = getattr(model, _INNER)
    return model


# ---- names


def plain_name(name: str) -> str:
    """Return the name that a parameter, buffer or module has if nothing is compiled.

    >>> plain_name("net._orig_mod.0.weight"), plain_name("_orig_mod"), plain_name("net.weight")
    ('net.0.weight', '', 'net.weight')
    """
    return ".".join(part for part in name.split(".") if part != _INNER) if _INNER in name else name


def plain_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by plain name."""
    return {plain_name(name): value for name, value in values.items()}


def modules_without_wrappers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that are there whether compiled or not, in the order of ``model.modules()``."""
    return (module for module in model.modules() if not is_wrapper(module))


# ---- weights


def plain_state_dict(model: nn.Module) -> dict[str, Any]:
    """Return a model's ``state_dict`` with the keys of the plain module."""
    return with_plain_keys(model.state_dict())


def with_plain_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``state_dict`` with plain keys; itself if it has no others."""
    versions = getattr(state, "_metadata", None)
    if not any(_INNER in name for name in state):
        return state  # type: ignore[return-value]
    plain = OrderedDict(plain_names(state))
    if versions is not None:
        plain._metadata = OrderedDict(plain_names(versions))  # type: ignore[attr-defined]
    return plain


def load_plain_state_dict(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load a ``state_dict`` into a model, whichever of the two was compiled, as a whole or in parts.

    Raises:
        RuntimeError: The weights belong to another model.
    """
    state = with_plain_keys(state)
    if any(map(is_wrapper, model.modules())):
        versions = getattr(state, "_metadata", None)
        own = {plain_name(name): name for name in model.state_dict()}
        state = OrderedDict((own.get(name, name), value) for name, value in state.items())
        if versions is not None:
            paths = {plain_name(path): path for path, _ in model.named_modules()}
            state._metadata = OrderedDict(  # type: ignore[attr-defined]
                (paths.get(path, path), version) for path, version in versions.items()
            )
    model.load_state_dict(state)


# ---- the compiled call


class CompiledCall:
    """The compiled ``self(...)`` of a model: put in its place while a run lasts, and watched for whether a step uses it.

    Args:
        model: The plain module.
        implementation: Its compiled call.
    """

    def __init__(self, model: nn.Module, implementation: Callable[..., Any]) -> None:
        self._model, self._implementation = model, implementation
        self._before: Callable[..., Any] | None = None
        self._is_attached = self._is_used = False

    def attach(self) -> None:
        """Let the model's ``self(...)`` be compiled. Copies of the model do not have it."""
        if not self._is_attached:
            self._before, self._is_attached = self._model._compiled_call_impl, True
            self._model._compiled_call_impl = self._first_call

    def detach(self) -> None:
        """Put back what was there before. Idempotent."""
        if self._is_attached:
            self._model._compiled_call_impl, self._is_attached = self._before, False

    def _first_call(self, *args: Any, **more: Any) -> Any:
        self._is_used = True
        if self._is_attached:
            self._model._compiled_call_impl = self._implementation
        return self._implementation(*args, **more)

    def watched(self, step: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a step method that warns after its first call if that has not used the compiled call."""
        is_known = False

        def call(*args: Any) -> Any:
            nonlocal is_known
            if is_known:
                return step(*args)
            self._is_used = False
            if self._is_attached:
                self._model._compiled_call_impl = self._first_call
            output = step(*args)
            if output is not None:  # None leaves a batch out, so it says nothing about others
                is_known = True
                if not self._is_used:
                    self._warn(name)
            return output

        return call

    def _warn(self, name: str) -> None:
        cls = type(self._model).__name__
        warn(
            f"torch.compile: {name} of {cls} does not call self(...), which is what is compiled of this model, so its compiled "
            f"forward is not used. Call self(batch) in {name}, or compile the parts that it calls: self.net = "
            f"torch.compile(self.net)."
        )


def compiled_call(model: nn.Module) -> CompiledCall | None:
    """Return the compiled call of a model that ``torch.compile(model)`` or ``model.compile()`` made; None of any other."""
    plain = plain_module(model)
    if is_wrapper(model):
        while is_wrapper(getattr(model, _INNER)):
            model = getattr(model, _INNER)
        context: Any = model.dynamo_ctx  # with the caller's backend and options
        return CompiledCall(plain, context(plain._call_impl))
    return None if plain._compiled_call_impl is None else CompiledCall(plain, plain._compiled_call_impl)
