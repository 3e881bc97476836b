"""The owners of a model's and its optimizers' state: weights, buffers, gradients, modes, optimizer and scheduler states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fsmtrain.errors import ResumeError
from fsmtrain.runtime.checkpointing.state_owners import Owner, listed, owner_of
from fsmtrain.runtime.model_inspection.compiled_modules import load_plain_state_dict, plain_name, plain_names, plain_state_dict
from fsmtrain.runtime.run_state import RunComponents

Tree = dict[str, Any]


def model_owners(components: RunComponents) -> dict[str, Owner]:
    """Return the owners of what training changes in the model and its optimizers."""
    model = components.model
    parameters = plain_names(dict(model.named_parameters()))  # once for all: the model may have thousands
    outside = dict(_parameters_outside_model(components, parameters.values()))
    all_parameters = {**parameters, **outside}

    def load_weights(state: Tree) -> None:
        try:
            load_plain_state_dict(model, state)
        except RuntimeError as error:
            raise ResumeError(f"the model differs from the saved one: {error}") from error

    def gradients() -> dict[str, Tensor]:
        return {name: p.grad for name, p in all_parameters.items() if p.grad is not None}

    def load_gradients(state: dict[str, Tensor]) -> None:
        saved = plain_names(state)
        for name, parameter in all_parameters.items():
            gradient = saved.get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)

    return {
        "model": Owner(lambda: plain_state_dict(model), load_weights),
        "non_persistent_buffers": _tensors(lambda: dict(_non_persistent_buffers(model))),
        "parameters_outside_model": _tensors(lambda: outside),
        "requires_grad": _flags(parameters.items, "requires_grad"),
        "gradients": Owner(gradients, load_gradients),
        "optimizers": listed((Owner(o.state_dict, _optimizer_loader(o)) for o in components.optimizers), "optimizers"),
        "schedulers": listed(map(owner_of, components.schedulers), "schedulers"),
        "modes": _flags(model.named_modules, "training"),
    }


def _flags(named: Callable[[], Iterable[tuple[str, Any]]], attribute: str) -> Owner:
    """Return the owner of a bool attribute of named parts; one that was not saved keeps its value."""

    def load(state: dict[str, bool]) -> None:
        saved = plain_names(state)
        for name, part in named():
            setattr(part, attribute, saved.get(plain_name(name), getattr(part, attribute)))

    return Owner(lambda: {plain_name(name): getattr(part, attribute) for name, part in named()}, load)


def _tensors(find: Any) -> Owner:
    """Return the owner of tensors that keep their place: a saved value is copied into each."""

    def load(state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            saved = plain_names(state)
            for name, tensor in find().items():
                if name in saved:
                    tensor.copy_(saved[name])

    return Owner(find, load)


def _parameters_outside_model(components: RunComponents, model_parameters: Iterable[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of optimizers that are not the model's."""
    known = set(map(id, model_parameters))
    for slot in components.slots:
        for number, parameter in enumerate(slot.parameters):
            if id(parameter) not in known:
                known.add(id(parameter))
                yield f"optimizer {slot.index}, parameter {number}", parameter


def _non_persistent_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that are not in the ``state_dict``."""
    for prefix, module in model.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None:
                yield plain_name(f"{prefix}.{name}" if prefix else name), buffer


def _optimizer_loader(optimizer: Optimizer) -> Any:
    """Return a function that loads the optimizer's state, and keeps dtypes that torch would cast to the parameter's."""

    def load(saved: Tree) -> None:
        try:
            optimizer.load_state_dict(saved)
        except ValueError as error:
            raise ResumeError(f"{type(optimizer).__name__} differs from the saved optimizer: {error}") from error
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = [n for group in saved["param_groups"] for n in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in saved["state"].get(number, {}).items():
                own = optimizer.state[parameter].get(name)
                if isinstance(value, Tensor) and isinstance(own, Tensor) and own.dtype != value.dtype:
                    optimizer.state[parameter][name] = value.to(own.device)

    return load
