"""All that a run remembers as one tree of plain data, and back. What is not in it cannot be resumed.

`state_of` and `load_state_dict` go through the same parts in the same order, each with a key of its own in the tree;
whatever holds something from one visit to the next is named here once. The file format is another matter: see `saving`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import evolve, fields, frozen
from torch import Tensor, nn
from torch.optim import Optimizer

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import begin_pass
from fsmtrain.core.states import State
from fsmtrain.errors import ModelError, ResumeError
from fsmtrain.runtime import rng
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.checkpointing.compatibility import check_compatible, fingerprint
from fsmtrain.runtime.evaluation.pass_snapshot import PassSnapshot
from fsmtrain.runtime.model_files.hparams import hparams_to_dict
from fsmtrain.runtime.model_files.importers import IMPORTED
from fsmtrain.runtime.nested import iter_tensors, map_nested
from fsmtrain.runtime.rng import RngState
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.deferred_stop import batch_has_more_rounds

VERSION = 1  # of the tree

Tree = dict[str, Any]


@frozen(kw_only=True)
class ResumePoint:
    """Where a run stands: in a state whose work is done, or still to be done, with these counters."""

    state: State
    work_done: bool
    counters: Counters


def take_snapshot(parts: RunComponents, memory: RunState, actions: Actions, standing: ResumePoint) -> Tree:
    """Everything, as it is now. Tensors are the run's own, not copies."""
    model, turns = parts.model, parts.slots
    passes = {state.value: one.state_dict() for state, one in actions.passes.items()}
    beginning = _beginning_to_save(passes, actions)
    if beginning is not None:
        first = standing.counters.copy()
        begin_pass(parts.loop.limits, first)
        standing = evolve(standing, work_done=False, counters=first)
    began_at = beginning.positions if beginning is not None else {}
    random = beginning.random if beginning is not None else rng.get_rng_state()
    is_within_a_batch = standing.state is State.ROUND_END and batch_has_more_rounds(parts, memory, standing.counters)
    in_hand = {
        "windows": [{"first": w.first_weight, "total": w.total_weight, "backwards": w.backwards} for w in memory.windows],
        "hiddens": memory.hiddens if is_within_a_batch else [None for _ in memory.hiddens],
        "splits": memory.splits if is_within_a_batch else [],
        "metrics": memory.metrics,
        "progress_bar_metrics": memory.progress_bar_metrics,
        "validation_metrics": memory.validation_metrics,
        "passes": passes,
    }
    return {
        "version": VERSION,
        "state": standing.state.value,
        "work_done": standing.work_done,
        "counters": {f.name: getattr(standing.counters, f.name) for f in fields(Counters)},
        "signals": {f.name: getattr(memory.signals, f.name) for f in fields(Signals)},
        "patience": None
        if memory.early_stopping is None
        else {"best": memory.early_stopping.best, "wait": memory.early_stopping.wait},
        "validation_epoch": memory.validation_epoch,
        "nonfinite": memory.nonfinite.state_dict(),
        "in_hand": in_hand,
        "places": [tensor.device == parts.device for tensor in iter_tensors(in_hand)] if parts.device.type != "cpu" else [],
        "hparams": _hparams(model),
        "model": model.state_dict(),
        "buffers": dict(_buffers_left_out(model)),
        "strays": dict(_strays(parts)),
        "modes": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {name: parameter.grad for name, parameter in _parameters(parts).items() if parameter.grad is not None},
        "optimizers": [turn.optimizer.state_dict() for turn in turns],
        "schedulers": [scheduler.state_dict() for scheduler in parts.schedulers],
        "scalers": actions.scaling.state_dict() if actions.scaling is not None else [],
        "loaders": {name: began_at.get(cursor) or cursor.state_dict() for name, cursor in memory.loaders.all.items()},
        "callbacks": [{"class": _name(c), "state": c.state_dict()} for c in parts.stateful_callbacks],
        "random": random.state_dict(),
        "made_of": fingerprint(parts),
    }


def load_snapshot(
    tree: Tree, parts: RunComponents, memory: RunState, actions: Actions, *, strict: bool
) -> tuple[ResumePoint, RngState]:
    """Make a run what another one was, or it was itself; returns where it stands, and the random states to put back last.

    No visit is under way, and whatever the run had in hand has been let go. A request to stop is of its own time, and stays.

    Raises:
        ResumeError: The tree is not one of a run like this. Unless `strict`, only what cannot be loaded is refused.
    """
    if IMPORTED in tree:
        raise ResumeError(
            f"it was imported from {tree[IMPORTED]['file']!r}, which does not tell where its run stood, so no run can go on "
            f"from it. Begin one with its weights: Model.load_from_checkpoint(path), or fsmtrain fit --weights PATH."
        )
    if tree.get("version") != VERSION:
        raise ResumeError(f"the state is of version {tree.get('version')!r}, and this fsmtrain reads {VERSION}.")
    check_compatible(tree["made_of"], fingerprint(parts), strict=strict)
    model = parts.model
    counters = Counters(**tree["counters"])
    _set(memory.counters, tree["counters"])
    _set(memory.signals, {name: value for name, value in tree["signals"].items() if name != "stop_requested"})
    if memory.early_stopping is not None and tree["patience"] is not None:
        _set(memory.early_stopping, tree["patience"])
    in_hand = _on(parts.device, tree["in_hand"], iter(tree["places"]))
    for window, saved in zip(memory.windows, in_hand["windows"], strict=True):
        _set(window, saved)
    for name in ("hiddens", "splits", "metrics", "progress_bar_metrics", "validation_metrics"):
        setattr(memory, name, in_hand[name])
    memory.validation_epoch = tree["validation_epoch"]
    memory.nonfinite.load_state_dict(tree["nonfinite"])
    _put_weights_back(tree, parts)
    for optimizer, saved in zip(parts.optimizers, tree["optimizers"], strict=True):
        _put_optimizer_back(optimizer, saved)
    for scheduler, saved in zip(parts.schedulers, tree["schedulers"], strict=True):
        scheduler.load_state_dict(saved)
    if actions.scaling is not None:
        actions.scaling.load_state_dict(tree["scalers"])
    for name, cursor in memory.loaders.all.items():
        cursor.load_state_dict(tree["loaders"][name])
    actions.resume_epoch()
    for state, one in actions.passes.items():
        if state.value in in_hand["passes"]:
            one.load_state_dict(in_hand["passes"][state.value])
    modes = tree["modes"]
    for name, module in model.named_modules():
        module.training = modes.get(name, module.training)
    _put_callbacks_back(tree["callbacks"], parts)
    standing = ResumePoint(state=State(tree["state"]), work_done=tree["work_done"], counters=counters)
    return standing, RngState.from_state_dict(tree["random"])


def _beginning_to_save(passes: Tree, actions: Actions) -> PassSnapshot | None:
    """Where the pass began that has said that it must begin again; None where none has."""
    for state, one in actions.passes.items():
        saved = passes[state.value]["pass"]
        if saved is not None and saved["begins_again"] is not None:
            return one.snapshot
    return None


# ---- weights


def _hparams(model: nn.Module) -> Tree | None:
    """The model's hyperparameters where they are plain data: for whoever loads the weights alone."""
    try:
        return hparams_to_dict(getattr(model, "hparams", None))
    except ModelError:
        return None


def _parameters(parts: RunComponents) -> dict[str, Tensor]:
    """The model's parameters, and those that only an optimizer has."""
    return {**dict(parts.model.named_parameters()), **dict(_strays(parts))}


def _strays(parts: RunComponents) -> Iterator[tuple[str, Tensor]]:
    """The parameters of optimizers that are none of the model's."""
    known = {id(parameter) for parameter in parts.model.parameters()}
    for turn in parts.slots:
        for number, parameter in enumerate(turn.parameters):
            if id(parameter) not in known:
                known.add(id(parameter))
                yield f"optimizer {turn.index}, parameter {number}", parameter


def _buffers_left_out(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that are not in the ``state_dict``."""
    for prefix, module in model.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None:
                yield f"{prefix}.{name}" if prefix else name, buffer


def _put_weights_back(tree: Tree, parts: RunComponents) -> None:
    model = parts.model
    try:
        model.load_state_dict(tree["model"])
    except RuntimeError as error:
        raise ResumeError(f"the model is another one than the saved one: {error}") from error
    with torch.no_grad():
        for kind, tensors in (("buffers", _buffers_left_out(model)), ("strays", _strays(parts))):
            for name, tensor in tensors:
                if name in tree[kind]:
                    tensor.copy_(tree[kind][name])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(tree["requires_grad"].get(name, parameter.requires_grad))
    for name, owner in _parameters(parts).items():
        gradient = tree["gradients"].get(name)
        owner.grad = None if gradient is None else gradient.to(owner.device)


def _put_optimizer_back(optimizer: Optimizer, saved: Tree) -> None:
    """Load a state; what torch casts to its parameter's dtype keeps the dtype that it had."""
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        raise ResumeError(f"{type(optimizer).__name__} is another optimizer than the saved one: {error}") from error
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in saved["param_groups"] for n in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, value in saved["state"].get(number, {}).items():
            own = optimizer.state[parameter].get(name)
            if isinstance(value, Tensor) and isinstance(own, Tensor) and own.dtype != value.dtype:
                optimizer.state[parameter][name] = value.to(own.device)


# ---- the rest


def _put_callbacks_back(saved: list[Tree], parts: RunComponents) -> None:
    owners = parts.stateful_callbacks
    names, given = [one["class"] for one in saved], [_name(owner) for owner in owners]
    if names != given:
        raise ResumeError(f"callbacks: those with a state_dict are {given}, and those that were saved {names}. Pass the same.")
    for owner, one in zip(owners, saved, strict=True):
        owner.load_state_dict(one["state"])


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _set(target: object, values: Tree) -> None:
    for name, value in values.items():
        setattr(target, name, value)


def _on(device: torch.device, value: Any, places: Iterator[bool]) -> Any:
    """Saved data with those tensors on the device that were on their run's; all of them if that was the CPU."""
    if device.type == "cpu":
        return value
    return map_nested(lambda tensor: tensor.to(device) if next(places, True) else tensor, value)
