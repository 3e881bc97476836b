"""A snapshot of the beginning of a val or test pass, to save instead if no checkpoint can hold the pass's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen
from torch import Tensor, nn

from fsmtrain.runtime.data.restore_loader_position import Position, ResumableLoader
from fsmtrain.runtime.rng import RngState, get_rng_state

_Version = tuple[Tensor, int | None]


@frozen(eq=False)
class PassSnapshot:
    """Loader positions and random states before a pass fetched its first batch.

    The model is not copied: changes of it are detected by the version that torch counts for each tensor.
    """

    positions: Mapping[ResumableLoader, Position]
    random: RngState
    _model: nn.Module
    _versions: Mapping[str, _Version]

    @property
    def changed(self) -> list[str]:
        """The names of the parameters and buffers that have changed since."""
        now = _versions(self._model)
        return sorted(name for name in {*now, *self._versions} if not _same(now.get(name), self._versions.get(name)))


def take_pass_snapshot(cursors: Iterable[ResumableLoader], model: nn.Module) -> PassSnapshot:
    """Take a snapshot now."""
    positions = {cursor: cursor.state_dict() for cursor in cursors}
    return PassSnapshot(positions, get_rng_state(), model, _versions(model))


def _versions(model: nn.Module) -> dict[str, _Version]:
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: (tensor, None if tensor.is_inference() else tensor._version) for name, tensor in named}


def _same(now: Any, before: Any) -> bool:
    return now is not None and before is not None and now[0] is before[0] and now[1] == before[1]
