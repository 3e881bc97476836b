"""Checkpoints of other trainers: what of them a checkpoint of ours can hold, and what of a run they do not tell.

They are of Lightning, whose keys are known, or of a loop of the user's own: a ``state_dict``, alone or beside other things
under names that many use. Weights, hyperparameters, and the states of optimizers and schedulers are kept; counters are told.
Where the run stood in its data, its random states, its windows: nobody has written that down. So no run can go on from one.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.errors import CheckpointError, CodecError, ModelError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.store.store import Store
from fsmtrain.runtime.model_files.hparams import hparams_to_dict
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file
from fsmtrain.wording import plural

IMPORTED = "imported"  # the key that such a checkpoint has in its state, and no other

# By what is kept: the names that it has elsewhere, those of Lightning first.
WEIGHTS = ("state_dict", "model_state_dict", "model")
HPARAMS = ("hyper_parameters", "hparams")
OPTIMIZERS = ("optimizer_states", "optimizer_state_dict", "optimizer")
SCHEDULERS = ("lr_schedulers", "scheduler_state_dict", "lr_scheduler_state_dict", "lr_scheduler", "scheduler")
COUNTERS = ("epoch", "global_step")


@frozen(kw_only=True)
class Imported:
    """What became of a file.

    Attributes:
        path: The checkpoint that was made of it.
        kept: What is in it, in words.
        left_out: What the file holds besides, by its keys.
    """

    path: Path
    imported: tuple[str, ...]
    ignored: tuple[str, ...]


def import_checkpoint(path: str | os.PathLike[str], to: str | os.PathLike[str] | None = None) -> Imported:
    """Make a checkpoint of a file that another program wrote with ``torch.save``: of Lightning, or a loop of one's own.

    Nothing in the file is ever run. What comes of it has the weights, the hyperparameters, and the states of optimizers and
    schedulers as they were; ``load_from_checkpoint`` makes a model of it, with which a run can begin. No run can go on from it:
    where the other one stood in its data, and its random states, are not known.

    Args:
        path: The file: a dict with a ``state_dict``, or a ``state_dict`` alone.
        to: The folder of checkpoints in which it becomes the next one. None is one beside the file, named like it.

    Raises:
        CheckpointError: The file is not there, damaged, no such file, or names a class; or the folder cannot be written.
    """
    source = Path(path)
    try:
        content = read_torch_file(source, "cpu")
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{source}: it cannot be read: {error_text(error)}.") from error
    told = parse_checkpoint(source, content)
    tree = {
        IMPORTED: {"file": source.name, "left_out": list(told.ignored), **told.counters},
        "hparams": told.hparams,
        "model": told.weights,
        "optimizers": told.optimizers,
        "schedulers": told.schedulers,
    }
    beside = source.with_suffix("") if source.suffix else source.with_name(f"{source.name}.imported")
    folder = beside if to is None else Path(to)
    names = zip(("current_epoch", "global_step"), COUNTERS, strict=True)
    about = {IMPORTED: source.name, **{ours: told.counters.get(theirs) for ours, theirs in names}}
    try:
        made = Store(folder).save(tree, about)
    except CodecError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return Imported(path=made, imported=tuple(_describe(told)), ignored=told.ignored)


@frozen(kw_only=True)
class ParsedCheckpoint:
    """What a file tells that can be kept, and the names of what it holds besides."""

    weights: OrderedDict[str, Any]
    hparams: dict[str, Any]
    optimizers: list[Any]
    schedulers: list[Any]
    counters: dict[str, int]
    ignored: tuple[str, ...]


def parse_checkpoint(source: Path, content: Any) -> ParsedCheckpoint:
    """What the content of a file tells, whichever trainer wrote it.

    Raises:
        CheckpointError: There are no weights in it.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, and a dict with a state_dict is needed.")
    name, weights = _weights(source, content)
    rest = {} if name is None else {key: value for key, value in content.items() if key != name}
    hparams, odd = _hparams(_pop_first(rest, HPARAMS, lambda value: isinstance(value, Mapping)))
    return ParsedCheckpoint(
        weights=weights,
        hparams=hparams,
        optimizers=_as_list(_pop_first(rest, OPTIMIZERS, _is_optimizers), _is_optimizer),
        schedulers=_as_list(_pop_first(rest, SCHEDULERS, _is_states), _is_state),
        counters={key: rest.pop(key) for key in COUNTERS if type(rest.get(key)) is int},
        ignored=(*(f"hyperparameter {key}" for key in odd), *map(str, rest)),
    )


def _weights(source: Path, content: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The key of the weights, None where there is nothing else, and the weights."""
    for name in WEIGHTS:
        if _is_weights(content.get(name)) or (name == WEIGHTS[0] and content.get(name) == {}):  # of a model without any
            return name, _ordered(content[name])
    if _is_weights(content):
        return None, _ordered(content)
    names = ", ".join(map(repr, list(content)[:20])) or "nothing"
    raise CheckpointError(
        f"{source}: there are no weights in it. A dict of tensors is needed, alone or under one of {', '.join(WEIGHTS)}; "
        f"it has {names}."
    )


def _is_weights(value: Any) -> bool:
    """Whether this is a ``state_dict``: tensors by name, and what modules add of their own."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    tensors = [key for key, one in value.items() if isinstance(one, Tensor)]
    extra = all(isinstance(one, Tensor) or key.endswith("_extra_state") for key, one in value.items())
    return bool(tensors) and extra


def _ordered(weights: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """The weights with the versions of the modules' parts, where there are some."""
    ordered = OrderedDict(weights)
    versions = getattr(weights, "_metadata", None)
    if isinstance(versions, dict):
        ordered._metadata = versions  # type: ignore[attr-defined]
    return ordered


def _pop_first(rest: dict[Any, Any], names: tuple[str, ...], fits: Callable[[Any], bool]) -> Any:
    """The first of these that is there and fits, which is taken out; None where none is."""
    for name in names:
        if name in rest and fits(rest[name]):
            return rest.pop(name)
    return None


def _as_list(value: Any, is_one: Callable[[Any], bool]) -> list[Any]:
    """One state, or several, as a list."""
    return [] if value is None else [value] if is_one(value) else list(value)


def _is_state(value: Any) -> bool:
    return isinstance(value, dict)


def _is_states(value: Any) -> bool:
    return _is_state(value) or (isinstance(value, (list, tuple)) and all(map(_is_state, value)))


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, dict) and {"state", "param_groups"} <= value.keys()


def _is_optimizers(value: Any) -> bool:
    return _is_optimizer(value) or (isinstance(value, (list, tuple)) and all(map(_is_optimizer, value)))


def _hparams(found: Mapping[Any, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Those that are plain data, and the names of those that are not."""
    kept, odd = dict[str, Any](), list[str]()
    for name, value in (found or {}).items():
        try:
            kept |= hparams_to_dict({name: value})
        except ModelError:
            odd.append(str(name))
    return kept, odd


def _describe(told: ParsedCheckpoint) -> Iterator[str]:
    """What is kept, in words."""
    tensors = [value for value in told.weights.values() if isinstance(value, Tensor)]
    yield f"weights: {len(tensors)} tensors with {sum(tensor.numel() for tensor in tensors):,} numbers"
    if told.hparams:
        yield f"hyperparameters: {', '.join(told.hparams)}"
    for what, states in (("optimizer's state", told.optimizers), ("scheduler's state", told.schedulers)):
        if states:
            yield f"{plural(len(states), what)}"
    if told.counters:
        yield ", ".join(f"{name} {number}" for name, number in told.counters.items())
    unknown = [name for name in COUNTERS if name not in told.counters]
    if unknown:
        yield f"{' and '.join(unknown)}: not known"
