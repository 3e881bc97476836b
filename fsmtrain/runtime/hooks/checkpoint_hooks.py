"""``on_save_checkpoint`` and ``on_load_checkpoint``: what the model and callbacks add to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.codec.codec import encoding_error
from fsmtrain.runtime.hooks.hook_pair import Hook


@frozen
class CheckpointHooks:
    """The two hooks of each owner, by a name that is the same in the run that resumes: part of a run's state."""

    owners: Mapping[str, tuple[Hook | None, Hook | None]]

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Return what the hooks ``on_save_checkpoint`` write, by owner.

        Raises:
            CheckpointError: It is not plain data.
        """
        return {owner: written_by(save, owner) for owner, (save, _) in self.owners.items() if save is not None}

    def load_state_dict(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Call ``on_load_checkpoint`` of those owners that wrote something."""
        for owner, (_, load) in self.owners.items():
            if load is not None and owner in states:
                load(states[owner])


def written_by(save: Hook, owner: str) -> dict[str, Any]:
    """Return what ``on_save_checkpoint`` writes into an empty checkpoint.

    Raises:
        CheckpointError: It is not plain data.
    """
    checkpoint: dict[str, Any] = {}
    save(checkpoint)
    reason = encoding_error(checkpoint)
    if reason is not None:
        raise CheckpointError(f"{owner}: on_save_checkpoint wrote what no checkpoint can hold: {reason}")
    return checkpoint
