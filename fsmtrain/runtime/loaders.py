"""Loaders: how long they are, and their batches one by one. What is taken when is decided in `core`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import DataError, ModelError

Loader = Iterable[Any]

_NOTHING = object()


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


class SizedBatches:
    """The batches of one epoch of a loader that has a length. Nothing is fetched ahead of its time."""

    def __init__(self, loader: Loader, name: str, length: int) -> None:
        self._loader, self._name, self._length, self._given = loader, name, length, 0
        self._iterator = iter(loader)

    def next(self) -> Any:
        """The next batch.

        Raises:
            DataError: The loader ends before its length.
        """
        try:
            batch = next(self._iterator)
        except StopIteration:
            raise DataError(
                f"{self._name}: its length is {self._length}, but it ended after {_batches(self._given)}. Correct its __len__, "
                f"or give it none to use it as a stream."
            ) from None
        self._given += 1
        return batch

    def finish(self) -> None:
        """Let a loader of torch's that was used up come to its end, as a ``for`` statement does: samplers may draw there.

        Of any other loader no batch is asked for beyond its length: it may have more, and give them in the next epoch.
        """
        if self._given == self._length and isinstance(self._loader, DataLoader):
            next(self._iterator, None)


def is_iterator(loader: Loader) -> bool:
    """Whether a loader can be gone through only once."""
    return isinstance(loader, Iterator)


class StreamedBatches:
    """The batches of one epoch of a stream, with one batch of look-ahead, so that the last one is known as such."""

    def __init__(self, loader: Loader, name: str) -> None:
        self._iterator = iter(loader)
        self._ahead = next(self._iterator, _NOTHING)
        if self._ahead is _NOTHING:
            hint = " It is an iterator, which can be used only once: pass an iterable." if is_iterator(loader) else ""
            raise DataError(f"{name}: the stream ended without any batch.{hint}")

    def next(self) -> Any:
        """The next batch."""
        batch = self._ahead
        self._ahead = next(self._iterator, _NOTHING)
        return batch

    def finish(self) -> None:
        """Nothing: the look-ahead has come to the end already."""

    @property
    def ended(self) -> bool:
        """Whether the batch given last was the stream's last."""
        return self._ahead is _NOTHING


def evaluation_batches(loaders: Sequence[Loader], limits: Sequence[int | None], name: str) -> Iterator[tuple[int, int, Any]]:
    """The batches of a pass over several loaders: each with the indices, from 0, of its loader and in its loader.

    Args:
        loaders: Val or test loaders.
        limits: The batches to take from each; None takes a stream to its end.
        name: What the loaders are called, for errors.

    Raises:
        DataError: A loader that has a length ends before it, a stream without any batch.
    """
    for index, (loader, limit) in enumerate(zip(loaders, limits, strict=True)):
        if limit == 0:
            continue
        length = length_of(loader)
        where = f"{name}[{index}]" if len(loaders) > 1 else name
        if length is not None and limit is not None:
            sized = SizedBatches(loader, where, length)
            for batch_nb in range(limit):
                yield index, batch_nb, sized.next()
            sized.finish()
        else:
            stream = StreamedBatches(loader, where)
            for batch_nb in count():
                yield index, batch_nb, stream.next()
                if stream.ended or batch_nb + 1 == limit:
                    break


def _batches(n: int) -> str:
    return "1 batch" if n == 1 else f"{n} batches"
