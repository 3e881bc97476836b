"""Import checkpoints of other trainers: Lightning's, or files of a user's own loop.

A checkpoint of ours is made of the weights, the hyperparameters, and the states of optimizers and schedulers; counters are only
reported. Such files have no position in the data, no random states and no accumulation windows, so no run can be resumed from
one.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.errors import CheckpointError, CodecError, ModelError
from fsmtrain.plurals import a_type_of, plural
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr
from fsmtrain.runtime.model_files.hparams import hparams_to_dict, is_hparam_name
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file

IMPORTED = "imported"  # a key that only the state of an imported checkpoint has

# What is imported, each with the keys that other trainers use, Lightning's first.
WEIGHTS = ("state_dict", "model_state_dict", "model")
HPARAMS = ("hyper_parameters", "hparams")
OPTIMIZERS = ("optimizer_states", "optimizer_state_dict", "optimizer")
SCHEDULERS = ("lr_schedulers", "scheduler_state_dict", "lr_scheduler_state_dict", "lr_scheduler", "scheduler")
COUNTERS = ("epoch", "global_step")


@frozen(kw_only=True)
class Imported:
    """The result of an import.

    Attributes:
        path: The new checkpoint.
        imported: What is in it, in words.
        ignored: The keys of the file that were not imported.
    """

    path: Path
    imported: tuple[str, ...]
    ignored: tuple[str, ...]


def import_checkpoint(path: str | os.PathLike[str], to: str | os.PathLike[str] | None = None) -> Imported:
    """Import a file that Lightning, or another program, wrote with ``torch.save``, as a checkpoint.

    No code in the file is run. The checkpoint has the weights, the hyperparameters, and the optimizer and scheduler states.
    Load a model from it with ``load_from_checkpoint`` and start a new run. No run can be resumed from it, since the file has no
    position in the data and no random states.

    Args:
        path: The file: a dict with a ``state_dict``, or a ``state_dict`` alone.
        to: The folder of checkpoints to which it is added. None: a folder beside the file, with its name.

    Raises:
        CheckpointError: The file does not exist, is damaged, has no weights, or refers to a class; or the folder cannot be
            written.
    """
    source = Path(path)
    try:
        content = read_torch_file(source, "cpu")
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{source}: cannot be read: {error_text(error)}.") from error
    parsed = parse_checkpoint(source, content)
    counters = parsed.counters
    tree = {
        IMPORTED: {"file": source.name, "ignored": list(parsed.ignored), **counters},
        "hparams": parsed.hparams,
        "model": parsed.weights,
        "optimizers": parsed.optimizers,
        "schedulers": parsed.schedulers,
    }
    beside = source.with_suffix("") if source.suffix else source.with_name(f"{source.name}.imported")
    folder = beside if to is None else Path(to)
    metadata = {IMPORTED: source.name, "current_epoch": counters.get("epoch"), "global_step": counters.get("global_step")}
    try:
        checkpoint = Store(folder).save(tree, metadata)
    except CodecError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return Imported(path=checkpoint, imported=tuple(_describe(parsed)), ignored=parsed.ignored)


@frozen(kw_only=True)
class ParsedCheckpoint:
    """The content of a file that can be imported, and the keys of the rest."""

    weights: OrderedDict[str, Any]
    hparams: dict[str, Any]
    optimizers: list[Any]
    schedulers: list[Any]
    counters: dict[str, int]
    ignored: tuple[str, ...]


def parse_checkpoint(source: Path, content: Any) -> ParsedCheckpoint:
    """Parse the content of a file, whichever trainer wrote it.

    Raises:
        CheckpointError: It has no weights.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source}: contains {a_type_of(content)}, not a dict with a state_dict.")
    name, weights = _weights(source, content)
    rest = {} if name is None else {key: value for key, value in content.items() if key != name}
    hparams, unsupported = _pop_hparams(rest)
    return ParsedCheckpoint(
        weights=weights,
        hparams=hparams,
        optimizers=_pop_states(rest, OPTIMIZERS, {"state", "param_groups"}),
        schedulers=_pop_states(rest, SCHEDULERS, set()),
        counters={key: rest.pop(key) for key in COUNTERS if type(rest.get(key)) is int},
        ignored=(*(f"hyperparameter {key}" for key in unsupported), *map(str, rest)),
    )


def _weights(source: Path, content: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return the key of the weights, None if there is nothing else, and the weights."""
    for name in WEIGHTS:
        if _is_weights(content.get(name)) or (name == WEIGHTS[0] and content.get(name) == {}):  # of a model without weights
            return name, _ordered(content[name])
    if _is_weights(content):
        return None, _ordered(content)
    names = ", ".join(map(short_repr, list(content)[:20])) or "none"
    raise CheckpointError(
        f"{source}: contains no weights. It must be a dict of tensors, or have one under {', '.join(WEIGHTS)}; its keys are "
        f"{names}."
    )


def _is_weights(value: Any) -> bool:
    """Return whether this is a ``state_dict``: tensors by name, and the extra state of modules."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    others = [key for key, item in value.items() if not isinstance(item, Tensor)]
    return len(others) < len(value) and all(key.endswith("_extra_state") for key in others)


def _ordered(weights: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return the weights with the versions of the submodules, if there are any."""
    ordered = OrderedDict(weights)
    versions = getattr(weights, "_metadata", None)
    if isinstance(versions, dict):
        ordered._metadata = versions  # type: ignore[attr-defined]
    return ordered


def _pop_states(rest: dict[Any, Any], names: tuple[str, ...], keys: set[str]) -> list[Any]:
    """Remove the first of these names that has a state, or several, each with these keys; return the states."""
    for name in names:
        value = rest.get(name)
        states = [value] if isinstance(value, dict) else value
        if isinstance(states, (list, tuple)) and all(isinstance(state, dict) and keys <= state.keys() for state in states):
            del rest[name]
            return list(states)
    return []


def _pop_hparams(rest: dict[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Remove the hyperparameters; return those that are plain data, and the names of the others."""
    found = next((name for name in HPARAMS if isinstance(rest.get(name), Mapping)), None)
    plain, unsupported = dict[str, Any](), list[str]()
    for name, value in ({} if found is None else rest.pop(found)).items():
        try:
            if not is_hparam_name(str(name)):
                raise ModelError(f"{name} cannot be the name of a hyperparameter.")
            plain |= hparams_to_dict({name: value})
        except ModelError:
            unsupported.append(str(name))
    return plain, unsupported


def _describe(parsed: ParsedCheckpoint) -> Iterator[str]:
    """Describe in words what is imported."""
    tensors = [value for value in parsed.weights.values() if isinstance(value, Tensor)]
    yield f"weights: {len(tensors)} tensors with {sum(tensor.numel() for tensor in tensors):,} numbers"
    if parsed.hparams:
        yield f"hyperparameters: {', '.join(parsed.hparams)}"
    for what, states in (("optimizer state", parsed.optimizers), ("scheduler state", parsed.schedulers)):
        if states:
            yield plural(len(states), what)
    if parsed.counters:
        yield ", ".join(f"{name} {number}" for name, number in parsed.counters.items())
    unknown = [name for name in COUNTERS if name not in parsed.counters]
    if unknown:
        yield f"{' and '.join(unknown)}: unknown"
