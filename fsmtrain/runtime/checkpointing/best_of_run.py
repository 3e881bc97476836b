"""The best checkpoint of a run of which only the files are left: by the ranking in its newest checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.checkpoint_folder import saved_checkpoint
from fsmtrain.runtime.checkpointing.save_top_k import RANKING, MetricRanking
from fsmtrain.runtime.checkpointing.state_owners import damaged_state_is_an_error
from fsmtrain.user_warnings import warn


def best_of_run(newest: LoadedCheckpoint, folders: Sequence[Path]) -> SavedCheckpoint | None:
    """Return the best checkpoint in the folders of a run, by the first of its rules that ranks; None if none has a rank.

    Args:
        newest: The newest checkpoint of the run.
        folders: All folders of its checkpoints.

    Raises:
        ResumeError: The state of the ranking cannot be read.
    """
    with damaged_state_is_an_error("callbacks"):
        for ranking in _rankings(newest.tree["callbacks"]):
            found = [best for folder in folders if (best := best_in(Store(folder), ranking)) is not None]
            if found:
                sign = 1 if ranking.mode == "min" else -1
                return min(found, key=lambda best: sign * (best.score or 0.0))
    return None


def best_in(store: Store, ranking: MetricRanking) -> SavedCheckpoint | None:
    """Return the best checkpoint in one folder; None if none has a rank. Warn of those of which this cannot be known."""
    metadata = store.metadata()
    for number in store.numbers():
        if number not in metadata:
            _warn_if_damaged(store, number)
    numbers = ranking.best(metadata)
    if not numbers:
        return None
    path, score = store.folder / f"{numbers[0]:06d}", ranking.scores(metadata)[numbers[0]]
    return saved_checkpoint(path, metadata[numbers[0]], monitor=ranking.metric, score=score)


def monitors_in(callbacks: Iterable[Any]) -> list[str]:
    """Return the metrics that ranked the checkpoints of a saved run, by the states of its callbacks."""
    return [callback["state"].get("monitor", "") for callback in callbacks if callback["class"] == RANKING]


def _warn_if_damaged(store: Store, number: int) -> None:
    """Warn of a checkpoint whose manifest cannot be read, unless it was only added or removed just now."""
    try:
        store.metadata_of(number)
    except CheckpointError as error:
        if number in store.numbers():
            warn(f"whether this checkpoint is the best one is unknown, because it is damaged: {error}")


def _rankings(callbacks: Iterable[Any]) -> Iterable[MetricRanking]:
    for callback in callbacks:
        if callback["class"] == RANKING:
            state = callback["state"]
            rule = ModelCheckpoint(monitor=state["monitor"], mode=state.get("mode", "min"))  # older runs did not save it
            ranking = MetricRanking(rule, state["monitor"])
            ranking.load_state_dict(state)
            yield ranking
