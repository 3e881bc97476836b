"""Loaders: how long they are, and their batches one by one. What is taken when is decided in `core`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import DataError, ModelError, PositionError
from fsmtrain.runtime.data.resumable_loader import Position, ResumableLoader

Loader = Iterable[Any]


def length_of(loader: Loader) -> int | None:
    """The batches in a loader; None for a stream, which has no length."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, AttributeError):
        return None


def as_loaders(given: Any, name: str) -> tuple[Loader, ...]:
    """One loader, or a list or tuple of loaders, as a tuple; None is none.

    Raises:
        ModelError: Something in it cannot be iterated over.
    """
    if given is None:
        return ()
    loaders = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for loader in loaders:
        as_loader(loader, name)
    return loaders


def as_loader(given: Any, name: str) -> Loader:
    """A loader: anything that can be iterated over.

    Raises:
        ModelError: It cannot.
    """
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        raise ModelError(f"{name}: {given!r} is not a loader. It must be something that yields batches, such as a DataLoader.")
    loader: Loader = given
    return loader


def resumable(loader: Loader | ResumableLoader, name: str) -> ResumableLoader:
    """A cursor at a loader's beginning; one that is given already is left where it is.

    Whoever wants to save where a run stands keeps one cursor for each loader, and gives it in the loader's place.
    """
    return loader if isinstance(loader, ResumableLoader) else ResumableLoader(loader, name, length_of(loader))


def resumables(loaders: Sequence[Loader | ResumableLoader], name: str) -> list[ResumableLoader]:
    """A cursor for each of several loaders, named by its index where there are more than one."""
    names = [f"{name}[{index}]" if len(loaders) > 1 else name for index in range(len(loaders))]
    return [resumable(loader, where) for loader, where in zip(loaders, names, strict=True)]


class SizedBatches:
    """The batches of one epoch of a loader that has a length. Nothing is fetched ahead of its time.

    A cursor with a pass under way goes on with that pass.
    """

    def __init__(self, loader: Loader | ResumableLoader, name: str, length: int) -> None:
        self._cursor, self._length = resumable(loader, name), length
        self.next = self._cursor.next
        if not self._cursor.is_under_way:
            self._cursor.begin()

    def finish(self) -> None:
        """Let a loader of torch's that was used up come to its end, as a ``for`` statement does: samplers may draw there.

        Of any other loader no batch is asked for beyond its length: it may have more, and give them in the next epoch.
        """
        if self._cursor.yielded == self._length and isinstance(self._cursor.loader, DataLoader):
            self._cursor.exhaust()
        self._cursor.end()

    def position(self) -> Position:
        """Where the loader stands, as of the batches given."""
        return self._cursor.state_dict()


def is_iterator(loader: Loader) -> bool:
    """Whether a loader can be gone through only once."""
    return isinstance(loader, Iterator)


class StreamedBatches:
    """The batches of one epoch of a stream, with one batch of look-ahead, so that the last one is known as such.

    A cursor with a pass under way goes on with that pass.
    """

    def __init__(self, loader: Loader | ResumableLoader, name: str) -> None:
        self._cursor, self._name = resumable(loader, name), name
        if not self._cursor.is_under_way:
            self._cursor.begin()
        if not self._cursor.is_pending:
            self._look_ahead()

    def _look_ahead(self) -> None:
        cursor = self._cursor
        if not cursor.has_next() and cursor.yielded == 0:
            hint = " It is an iterator, which can be used only once: pass an iterable." if is_iterator(cursor.loader) else ""
            raise DataError(f"{self._name}: the stream ended without any batch.{hint}")

    def next(self) -> Any:
        """The next batch. If the one after it cannot be had, an error, this one is not given either."""
        cursor = self._cursor
        if cursor.is_pending:
            self._look_ahead()
        return cursor.next_with_look_ahead()

    def finish(self) -> None:
        """Let go of the pass. The look-ahead has come to the end already."""
        self._cursor.end()

    def position(self) -> Position:
        """Where the loader stands, as of the batches given: the look-ahead is not."""
        return self._cursor.state_dict()

    @property
    def ended(self) -> bool:
        """Whether the batch given last was the stream's last."""
        return not self._cursor.has_next()


class EvaluationBatches(Iterator[tuple[int, int, Any]]):
    """The batches of a pass over several loaders: each with the indices, from 0, of its loader and in its loader.

    Args:
        loaders: Val or test loaders, or cursors on them, whose passes begin anew.
        limits: The batches to take from each; None takes a stream to its end.
        name: What the loaders are called, for errors.
        place: Where a pass stands that is under way, as `place` says, in loaders that are at their positions of then.

    Raises:
        DataError: A loader that has a length ends before it, a stream without any batch.
    """

    def __init__(
        self,
        loaders: Sequence[Loader | ResumableLoader],
        limits: Sequence[int | None],
        name: str,
        place: tuple[int, int] | None = None,
    ) -> None:
        self._cursors = resumables(loaders, name)
        self._names = [cursor.name for cursor in self._cursors]
        self._limits = limits
        self._index, self._given = place or (0, 0)
        if place is None:
            for cursor in self._cursors:
                cursor.end()
        self._batches: SizedBatches | StreamedBatches | None = None

    def __next__(self) -> tuple[int, int, Any]:
        while self._index < len(self._cursors):
            if self._limits[self._index] != 0:
                batches = self._batches or self._begin()
                if not self._loader_is_over():
                    batch = batches.next()
                    self._given += 1
                    return self._index, self._given - 1, batch
                batches.finish()
            self._index, self._given, self._batches = self._index + 1, 0, None
        raise StopIteration

    def _begin(self) -> SizedBatches | StreamedBatches:
        cursor, name = self._cursors[self._index], self._names[self._index]
        length = length_of(cursor.loader)
        is_stream = length is None or self._limits[self._index] is None
        self._batches = StreamedBatches(cursor, name) if is_stream else SizedBatches(cursor, name, length or 0)
        return self._batches

    def _loader_is_over(self) -> bool:
        if self._given == self._limits[self._index]:
            return True
        return isinstance(self._batches, StreamedBatches) and self._given > 0 and self._batches.ended

    @property
    def ended(self) -> bool:
        """Whether the batch given last was the pass's last."""
        return self._index == len(self._cursors) or (self._loader_is_over() and not any(self._later_limits()))

    def _later_limits(self) -> Iterator[bool]:
        return (limit != 0 for limit in self._limits[self._index + 1 :])

    @property
    def place(self) -> tuple[int, int]:
        """The indices, from 0, of the loader that the pass is in, and of the next batch in it."""
        return self._index, self._given

    def position(self) -> Position:
        """Where the pass stands, as of the batches given: in which loader, and where in it."""
        cursor = self._cursors[min(self._index, len(self._cursors) - 1)]
        return {"loader": self._index, "given": self._given, "cursor": cursor.state_dict()}

    def load_state_dict(self, position: Position) -> None:
        """Bring the pass to a position.

        Raises:
            PositionError: It is not one of loaders like these.
        """
        self._index, self._given, self._batches = position["loader"], position["given"], None
        if self._index > len(self._cursors):
            raise PositionError(
                f"{self._names}: the position is in loader {self._index}, from 0, and there are {len(self._cursors)}. Pass "
                f"loaders like those that were saved."
            )
        if self._index < len(self._cursors):
            self._cursors[self._index].load_state_dict(position["cursor"])
