"""A snapshot of the beginning of a val or test pass, to save instead if no checkpoint can hold the pass's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen
from torch import Tensor, nn

from fsmtrain.runtime.data.restore_loader_position import Position, ResumableLoader
from fsmtrain.runtime.hooks.checkpoint_hooks import CheckpointHooks
from fsmtrain.runtime.metrics.metric_objects import copied
from fsmtrain.runtime.nested_tensors import map_nested
from fsmtrain.runtime.rng import RngState, get_rng_state

_Version = tuple[Tensor, int | None]


@frozen(eq=False)
class PassSnapshot:
    """Loader positions, random states and the state of callbacks before a pass fetched its first batch.

    The model is not copied: changes of it are detected by the version that torch counts for each tensor. Of the callbacks'
    states only the containers are copied, and not the tensors in them.
    """

    positions: Mapping[ResumableLoader, Position]
    random: RngState
    callbacks: Sequence[Any]
    data_module: Any  # None if it has no state, or none that the pass may change
    hooks: Any  # what on_save_checkpoint wrote then; None if it is not needed
    metric_objects: Mapping[str, Any]  # what they have gathered, as copies
    _model: nn.Module
    _versions: Mapping[str, _Version]
    _changed: list[str] | None = None  # those noted by `without_later_changes`

    @property
    def changed(self) -> list[str]:
        """The names of the parameters and buffers that have changed since."""
        if self._changed is not None:
            return self._changed
        now = _versions(self._model)
        return sorted(name for name in {*now, *self._versions} if not _same(now.get(name), self._versions.get(name)))

    def without_earlier_changes(self) -> PassSnapshot:
        """Return this snapshot for changes from now on: ``on_validation_start`` has changed the model, and will do so again."""
        return evolve(self, versions=_versions(self._model))

    def without_later_changes(self) -> PassSnapshot:
        """Return this snapshot for changes up to now: ``on_validation_end`` will undo others."""
        return evolve(self, changed=self.changed)


def take_pass_snapshot(
    cursors: Iterable[ResumableLoader],
    model: nn.Module,
    callbacks: Iterable[Any] = (),
    hooks: CheckpointHooks | None = None,
    metric_objects: Mapping[str, Any] = MappingProxyType({}),
    data_module: Any = None,
) -> PassSnapshot:
    """Take a snapshot now, also of these callbacks, what these hooks write, these metric objects, and the data module."""
    positions = {cursor: cursor.state_dict() for cursor in cursors}
    states = [_copied(callback.state_dict()) for callback in callbacks]
    of_data = None if data_module is None else _copied(data_module.state_dict())
    written = None if hooks is None else _copied(hooks.state_dict())
    return PassSnapshot(positions, get_rng_state(), states, of_data, written, copied(metric_objects), model, _versions(model))


def _copied(state: Any) -> Any:
    return map_nested(lambda tensor: tensor, state)


def _versions(model: nn.Module) -> dict[str, _Version]:
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: (tensor, None if tensor.is_inference() else tensor._version) for name, tensor in named}


def _same(now: Any, before: Any) -> bool:
    return now is not None and before is not None and now[0] is before[0] and now[1] == before[1]
