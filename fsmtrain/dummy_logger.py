"""`DummyLogger`, the logger of a run that logs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class DummyLogger:
    """Stand for the loggers under ``fast_dev_run``, so that a model's calls of ``self.logger`` run, and log nothing.

    Any attribute can be called, with any arguments, or has such attributes in turn.

    >>> DummyLogger().experiment.add_image("samples", None, 0)
    DummyLogger()
    """

    name = version = ""
    log_dir = save_dir = None

    def __getattr__(self, name: str) -> DummyLogger:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> DummyLogger:
        return self

    def __getitem__(self, key: Any) -> DummyLogger:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> DummyLogger:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DummyLogger)

    def __hash__(self) -> int:
        return hash(DummyLogger)

    def __repr__(self) -> str:
        return "DummyLogger()"
