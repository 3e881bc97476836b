"""`ResumableLoader`: save the position of a run in a loader, and resume there with a new loader.

What makes resuming slow, or cannot be exact, is reported as a warning. A position that does not fit raises an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import DataError, PositionError
from fsmtrain.plurals import plural
from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.data.resume_strategies.fast_forward import FastForwardStrategy
from fsmtrain.runtime.data.resume_strategies.loader_state_dict import StateDictStrategy
from fsmtrain.runtime.data.resume_strategies.replay import ReplayStrategy
from fsmtrain.runtime.data.resume_strategies.resume_strategy import LoaderProgress, PassStart, ResumeStrategy
from fsmtrain.runtime.data.set_epoch import EpochSetter
from fsmtrain.runtime.data.worker_exit import worker_exits
from fsmtrain.runtime.rng import preserve_global_states
from fsmtrain.user_warnings import warn

Position = dict[str, Any]  # numbers, text, lists, tensors, None, and what a loader's own ``state_dict`` returned

# The first that supports a loader is used. The last one supports all.
STRATEGIES: tuple[type[ResumeStrategy], ...] = (StateDictStrategy, FastForwardStrategy, ReplayStrategy)

_NOTHING = object()


def length_of(loader: Any) -> int | None:
    """Return the number of batches in a loader; None for a stream, which has no length."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError, AttributeError):
        return None


class ResumableLoader:
    """A loader, and the position up to which its batches have been yielded. It lives as long as the run.

    Args:
        loader: Anything that can be iterated over.
        name: The loader's name in errors and warnings.

    Attributes:
        length: Its number of batches in this pass, or in the next one; None if it has no length.
        is_under_way: Whether a pass has been asked for, and has not ended.
        is_pending: Whether that pass could not begin when it was asked for; it begins when a batch is asked for.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader, self.name, self.length = loader, name, length_of(loader)
        self._epoch_setter = EpochSetter(loader, name)
        self._has_reported_more = False
        self._epoch: int | None = None  # the last one that was set; None if no pass has begun
        self.is_under_way = self.is_pending = False
        self._strategy = next(strategy for strategy in STRATEGIES if strategy.supports(loader))(loader, name)
        self._progress = LoaderProgress()
        self._ahead: Any = _NOTHING  # a batch that has been fetched and not yielded
        self._has_looked_ahead = False  # whether the next batch has been asked for; there may be none
        self._state_before: dict[str, Any] | None = None  # the strategy's, before that
        self._restored: Position | None = None  # a position between two passes, until the next pass begins

    @property
    def yielded(self) -> int:
        """The number of batches yielded in this pass."""
        return self._progress.yielded

    # ---- a pass

    def set_epoch(self, epoch: int) -> None:
        """Prepare the next pass: call ``set_epoch`` of the loader and its parts, then ask for the length."""
        self._epoch = epoch
        self._epoch_setter.set_epoch(epoch)
        self.length = length_of(self.loader)

    def begin(self) -> None:
        """Begin the next pass, as a ``for`` loop does.

        If that fails, the pass is pending, and nothing has been drawn.
        """
        progress, before = self._progress, (self._progress.start, self._progress.is_exhausted)
        self.end()
        self.is_under_way = self.is_pending = True
        progress.yielded, progress.is_exhausted, progress.start = 0, False, PassStart.now(self.loader)
        try:
            self._strategy.begin(progress)
        except BaseException:
            progress.start.restore(self.loader, self.name)
            self._strategy.end()
            progress.start, progress.is_exhausted = before
            raise
        progress.first_start = progress.first_start or progress.start
        self.is_pending, self._restored = False, None
        worker_exits.after_start()

    def next(self) -> Any:
        """Return the next batch.

        Raises:
            StopIteration: There is none.
            DataError: There is none, and there should be one by the loader's length.
        """
        if not self._has_looked_ahead:
            if self.is_pending:
                self.begin()
            batch = self._fetch()
        elif self._ahead is _NOTHING:
            raise StopIteration
        else:
            batch, self._ahead, self._has_looked_ahead, self._state_before = self._ahead, _NOTHING, False, None
        self._progress.yielded += 1
        return batch

    def has_next(self) -> bool:
        """Return whether there is another batch. It is fetched to find out, and kept."""
        if not self._has_looked_ahead:
            if self.is_pending:
                self.begin()
            self._has_looked_ahead = True
            self._state_before = self._strategy.state_before_look_ahead()
            with contextlib.suppress(StopIteration):
                self._ahead = self._fetch()
        return self._ahead is not _NOTHING

    def next_with_look_ahead(self) -> Any:
        """Return the next batch, and fetch the one after it.

        If that raises an error, the batch counts as not yielded.
        """
        before = self._state_before
        batch = self.next()
        try:
            self.has_next()
        except BaseException:
            self._ahead, self._has_looked_ahead, self._state_before = batch, True, before
            self._progress.yielded -= 1
            raise
        return batch

    def exhaust(self) -> None:
        """Ask for one more batch after the last one: samplers may draw random numbers at StopIteration.

        If there is one, it is dropped, and reported once.
        """
        with contextlib.suppress(StopIteration):
            self._strategy.fetch(self._progress)
            if not self._has_reported_more:
                self._has_reported_more = True
                warn(
                    f"{self.name}: its length is {self.length}, but it has more batches. No more than {self.length} are taken. "
                    f"Correct its __len__, or remove it to use the loader as a stream."
                )
        self._progress.is_exhausted = True

    def end(self) -> None:
        """End the pass, wherever it is."""
        self._strategy.end()
        self.is_under_way = self.is_pending = False
        self._ahead, self._has_looked_ahead, self._state_before = _NOTHING, False, None

    def _fetch(self) -> Any:
        progress = self._progress
        try:
            batch = self._strategy.fetch(progress)
        except StopIteration:
            progress.is_exhausted = True
            if self.length is not None and progress.yielded < self.length:
                raise DataError(
                    f"{self.name}: its length is {self.length}, but it ended after {plural(progress.yielded, 'batch')}. "
                    f"Correct its __len__, or remove it to use the loader as a stream."
                ) from None
            raise
        progress.fetched += 1
        return batch

    # ---- positions

    def state_dict(self) -> Position:
        """Return the position as of the batches yielded. A batch that was fetched ahead does not count."""
        progress, is_iterator = self._progress, isinstance(self.loader, Iterator)
        if self._restored is not None:  # some loaders say where they are only once they have begun
            flags = {"is_under_way": self.is_under_way, "is_pending": self.is_pending}
            return {**self._restored, **flags, "rng": get_loader_rng_state(self.loader)}
        state = self._state_before
        if state is None:
            is_under_way = self.is_under_way and not self.is_pending
            state = self._strategy.state_dict(has_begun=progress.start is not None, is_under_way=is_under_way)
        return {
            "strategy": self._strategy.kind,
            "strategy_state": state,
            "signature": self._signature(),
            "epoch": self._epoch,
            "is_under_way": self.is_under_way,
            "is_pending": self.is_pending,
            "yielded": progress.yielded,
            "fetched": progress.fetched - (self._ahead is not _NOTHING),
            "is_exhausted": progress.is_exhausted,
            "has_looked_ahead": self._has_looked_ahead,
            "start": progress.start and progress.start.state_dict(),
            "first_start": progress.first_start.state_dict() if progress.first_start and is_iterator else None,
            "rng": get_loader_rng_state(self.loader),
        }

    def load_state_dict(self, position: Position) -> None:
        """Bring the loader to a position. The global random generators are left as they are.

        Raises:
            PositionError: The position was saved with another kind of loader, or another length.
        """
        epoch = position.get("epoch")  # older checkpoints have none: their runs never set it
        if epoch is not None:
            self.set_epoch(epoch)
        self._validate(position)
        self.end()
        self._restored = None
        start, first_start = (position[key] and PassStart(**position[key]) for key in ("start", "first_start"))
        counts = {name: position[name] for name in ("yielded", "fetched", "is_exhausted")}
        self._progress = progress = LoaderProgress(**counts, start=start, first_start=first_start)
        with preserve_global_states():
            if position["is_under_way"] and not position["is_pending"]:
                self._strategy.resume_pass(progress, position["strategy_state"])
                if position["has_looked_ahead"]:
                    self.has_next()
            else:
                if start is not None:
                    self._strategy.restore_between_passes(progress, position["strategy_state"])
                    progress.is_exhausted = False  # a torchdata loader has left its end by now
                self._restored = position
                set_loader_rng_state(self.loader, position["rng"], self.name)
        self.is_under_way, self.is_pending = position["is_under_way"], position["is_pending"]

    def _signature(self) -> dict[str, Any]:
        """Return what another loader must have in common with this one to resume at its positions."""
        signature: dict[str, Any] = {"batches": self.length}
        if isinstance(self.loader, DataLoader):
            signature["batch_size"] = self.loader.batch_size
            with contextlib.suppress(TypeError, NotImplementedError):
                signature["items"] = len(self.loader.dataset)  # type: ignore[arg-type]
        return signature

    def mismatch(self, position: Position) -> str | None:
        """Return why a position is none of this loader's; None if it may be one."""
        if position["strategy"] != self._strategy.kind:
            saved = next((s.loaders for s in STRATEGIES if s.kind == position["strategy"]), "a loader of another kind")
            return f"it is that of {saved}, and this is {self._strategy.loaders} ({type(self.loader).__name__})"
        for key, own in self._signature().items():
            saved = position["signature"].get(key)
            if saved != own:
                return f"{key}={own}, checkpoint has {saved}"
        return None

    def _validate(self, position: Position) -> None:
        mismatch = self.mismatch(position)
        if mismatch is not None:
            raise PositionError(
                f"{self.name}: cannot continue at the saved position: {mismatch}. Pass a loader like the saved one; or begin a "
                f"new run with the saved weights: Model.load_from_checkpoint(path)."
            )
