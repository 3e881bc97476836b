"""Resume a ``DataLoader`` without loading the skipped items: only their indices are drawn again."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.data.resume_strategies.replay import load_again, replay
from fsmtrain.runtime.data.resume_strategies.resume_strategy import LoaderProgress, ResumeStrategy
from fsmtrain.runtime.data.resume_strategies.skip_batches import iter_from, swapped
from fsmtrain.runtime.rng import GlobalStates, get_global_states, global_states_are, preserve_global_states
from fsmtrain.user_warnings import warn


class FastForwardStrategy(ResumeStrategy):
    """For torch's ``DataLoader`` over a map-style dataset."""

    kind = "indices"
    loaders = "a torch DataLoader"

    def __init__(self, loader: Any, name: str) -> None:
        super().__init__(loader, name)
        self._workers_had_lived = False  # whether the persistent workers were there before the last pass that began
        self._revives_workers = False  # whether the next pass draws as one with workers that are there already
        self._detects_draws = False  # whether workers report if they have drawn

    @classmethod
    def supports(cls, loader: object) -> bool:
        """Return whether this is one of torch's loaders, over a dataset with indices."""
        return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)

    def begin(self, progress: LoaderProgress) -> None:
        """Begin a pass; after resuming, with the draws of a pass whose workers were there already."""
        if self._revives_workers:
            self._begin_at(0, progress)
        else:
            before = self._persistent_workers()
            self.iterator = iter(self.loader)
            self._workers_had_lived = before is not None and before is self.iterator
        self._revives_workers = False

    def fetch(self, progress: LoaderProgress) -> Any:
        """Return the next batch, of a pass in which the workers have drawn what they had drawn."""
        batch = next(self.iterator)
        if self._detects_draws:
            has_drawn, batch = batch
            if has_drawn:
                batch = self._load_again(progress)
        return batch

    def end(self) -> None:
        """Drop the pass under way."""
        super().end()
        self._detects_draws = False

    def state_dict(self, *, has_begun: bool, is_under_way: bool) -> dict[str, Any]:
        """Return what the draws of the pass depend on, besides the random states."""
        are_there = self._revives_workers or self._persistent_workers() is not None
        workers_live = self._workers_had_lived if is_under_way else are_there
        return {"workers_live": workers_live, "num_workers": self.loader.num_workers}

    def resume_pass(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Begin the pass without the batches that it has yielded."""
        self._workers_had_lived, self._revives_workers = state["workers_live"], False
        self._warn_of_workers(state["num_workers"])
        self._begin_at(progress.yielded, progress)

    def restore_between_passes(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Let the next pass draw as one with persistent workers does, if there were some."""
        self._workers_had_lived = self._revives_workers = state["workers_live"]
        if self._revives_workers:
            self._warn_of_workers(state["num_workers"])

    def _begin_at(self, skipped: int, progress: LoaderProgress) -> None:
        """Begin a pass without its first batches.

        A subclass that does not use its sampler has to load them again.
        """
        loader = self.loader
        self._detects_draws = skipped > 0 and loader.num_workers > 0 and not loader.persistent_workers
        with _DrawDetector(loader).attached(loader) if self._detects_draws else contextlib.nullcontext():
            rewind = partial(self.rewind, progress)
            self.iterator = iter_from(loader, skipped, self.name, rewind, workers_live=self._workers_had_lived)
        if self.iterator is None:
            self._detects_draws = False
            self.iterator = replay(self, progress, skipped)

    def _load_again(self, progress: LoaderProgress) -> Any:
        """Return the next batch, from new workers that have loaded all batches before it as well."""
        warn(
            f"{self.name}: its items draw random numbers in worker processes, so the batches of this epoch must be loaded "
            f"again to resume exactly. SeededDataLoader avoids this."
        )
        self.end()
        own_states = get_loader_rng_state(self.loader)
        try:
            with preserve_global_states():
                self.rewind(progress)
                self.iterator = iter(self.loader)
                load_again(self.iterator, progress.yielded, self.name)
                return next(self.iterator)
        finally:
            set_loader_rng_state(self.loader, own_states, self.name)

    def _persistent_workers(self) -> Any:
        """Return the iterator whose workers live on from pass to pass; None if there is none yet."""
        return self.loader._iterator if self.loader.persistent_workers else None

    def _warn_of_workers(self, saved_num_workers: int) -> None:
        """Warn if items that draw random numbers cannot draw the same ones."""
        loader, reason = self.loader, None
        if loader.num_workers != saved_num_workers:
            reason = f"num_workers={loader.num_workers}, checkpoint has {saved_num_workers}"
        elif loader.num_workers and loader.persistent_workers:
            reason = "persistent_workers=True, and new workers do not have the random states of the old ones"
        elif loader.num_workers and not loader.in_order:
            reason = "in_order=False, so batches come in any order"
        if reason is not None:
            warn(
                f"{self.name}: {reason}. The run is resumed exactly only if its items draw no random numbers. SeededDataLoader "
                f"resumes exactly in any case."
            )


class _DrawDetector:
    """Makes each batch a pair: whether its worker has drawn from a global generator, and the batch.

    Each worker process has its own copy, which keeps the states in which the worker began. So it holds nothing that cannot be
    sent to a worker, such as the loader, whose sampler may be in the middle of a pass.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._init, self._collate = loader.worker_init_fn, loader.collate_fn
        self._states: GlobalStates = {}

    def attached(self, loader: DataLoader[Any]) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the loader starts its workers with this detector."""
        return swapped(loader, collate_fn=self.collate, worker_init_fn=self.init_worker)

    def init_worker(self, worker: int) -> None:
        """Stand in for ``worker_init_fn``."""
        if self._init is not None:
            self._init(worker)
        self._states = get_global_states()

    def collate(self, items: Any) -> tuple[bool, Any]:
        """Stand in for ``collate_fn``."""
        batch = self._collate(items)
        return not global_states_are(self._states), batch
