"""Hooks around a part of a run: where the first was called, the second is called once, whatever happens in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

Hook = Callable[..., None]


class UnfinishedMetrics(dict[str, Any]):
    """The metrics of a validation or test that was not finished: there are none, and each that is looked up is NaN.

    >>> UnfinishedMetrics()["val_loss"]
    nan
    """

    def __missing__(self, name: str) -> float:
        return math.nan


class HookPair:
    """Two hooks around a part of a run.

    Args:
        owners: For the model and each callback that has one of the two: its first and its second hook, or None.
    """

    def __init__(self, owners: Iterable[tuple[Hook | None, Hook | None]]) -> None:
        self._owners = tuple(owners)
        self.is_open = False
        self._to_end: list[Hook] = []

    def start(self) -> None:
        """Call the first hooks. If one fails, it and those after it have not begun: their second hooks are not called."""
        self.is_open = True
        for start, end in self._owners:
            if start is not None:
                start()
            if end is not None:
                self._to_end.append(end)

    def resume(self) -> None:
        """Continue a part that another run has begun: call no hook now, and the second ones at its end."""
        self.is_open, self._to_end = True, [end for _, end in self._owners if end is not None]

    def end(self, *args: Any) -> None:
        """Call the second hooks, also after one that fails, and raise the first failure. Does nothing if nothing has begun."""
        hooks, self._to_end, self.is_open = self._to_end, [], False
        call_all(hooks, *args)


class Stages:
    """The stages of a run, which `setup` and `teardown` surround: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``."""

    def __init__(self, setup: Hook | None, teardown: Hook | None) -> None:
        self._setup, self._teardown = setup, teardown
        self._set_up: list[str] = []

    def set_up(self, stage: str) -> None:
        """Call the hooks ``setup``."""
        self._set_up.append(stage)
        if self._setup is not None:
            self._setup(stage)

    def tear_down(self) -> None:
        """Call the hooks ``teardown`` for each stage that was set up, the last one first. Idempotent."""
        stages, self._set_up = self._set_up, []
        if self._teardown is not None:
            call_all([partial(self._teardown, stage) for stage in reversed(stages)])


def call_all(hooks: Iterable[Hook], *args: Any) -> None:
    """Call each hook, also after one that fails, and raise the first failure: what was begun must be ended."""
    first_error: BaseException | None = None
    for hook in hooks:
        try:
            hook(*args)
        except BaseException as error:
            first_error = first_error or error
    if first_error is not None:
        raise first_error
