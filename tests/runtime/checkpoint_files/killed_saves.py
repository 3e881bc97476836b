"""Saves in a process that is killed, repeatedly: ``python -m tests.runtime.checkpoint_files.killed_saves FOLDER``.

It forks a child for each operation on files that a save has. The child kills itself with SIGKILL as it comes to that
operation, in the middle of it where it is a write; the parent then looks at what is there, and prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.save_top_k import keep_newest

OPERATIONS = (
    "make_folder", "create", "write", "sync", "close", "names", "sync_folder", "rename", "remove", "remove_folder", "lock"
)  # fmt: skip


class KillingFiles(Files):
    """The real file system, in which this process is killed at the operation of this number."""

    def __init__(self, at: int, will: Path) -> None:
        self.at = at
        self.will = will  # the file in which it says what it was about to do
        self.done = 0

    def write(self, handle: int, data: memoryview) -> int:
        if self.done == self.at:
            super().write(handle, data[: len(data) // 2])
        count: int = self.count("write", lambda: super(KillingFiles, self).write(handle, data))
        return count

    def count(self, name: str, operate: Callable[[], Any]) -> Any:
        """Operate, or die."""
        if self.done == self.at:
            self.will.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)
        self.done += 1
        return operate()


def _counted(name: str) -> Callable[..., Any]:
    def operation(self: KillingFiles, *args: Any) -> Any:
        return self.count(name, lambda: getattr(Files, name)(self, *args))

    return operation


for _name in OPERATIONS:
    if _name != "write":
        setattr(KillingFiles, _name, _counted(_name))


def sample_state(number: int, size: int = 3) -> dict[str, Any]:
    return {"model": {"weight": torch.full((size,), float(number))}, "number": number, "step": torch.tensor(number)}


def save_second(folder: Path, files: Files) -> None:
    store = Store(folder, files)
    store.save(sample_state(2), {})
    store.prune(keep_newest(1))


def run_in_child(act: Callable[[], None]) -> int:
    """Act in a process of its own; returns how it ended, as `os.waitpid` says it."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def checkpoints_in(folder: Path) -> dict[str, Any]:
    """What the next process finds, and what it leaves when it has saved."""
    store = Store(folder)
    loaded = store.load_newest()
    assert loaded is not None
    number = loaded.tree["number"]
    assert set(loaded.tree["model"]["weight"].tolist()) == {float(number)}
    store.save(sample_state(number + 1), {})
    return {"number": number, "skipped": len(loaded.skipped), "left": sorted(p.name for p in folder.iterdir())}


def kill_at_operation(folder: Path, at: int) -> bool:
    """Save once, and save again until this operation; whether there is one of this number."""
    Store(folder).save(sample_state(1), {})
    will = folder.with_suffix(".will")
    status = run_in_child(lambda: save_second(folder, KillingFiles(at, will)))
    if status == 0:
        return False
    told = {"at": at, "operation": will.read_text(), "signal": os.WTERMSIG(status), **checkpoints_in(folder)}
    print(json.dumps(told), flush=True)
    return True


def keep_saving(folder: Path) -> None:
    """A run that saves in the background as fast as it can."""
    with closing(BackgroundWriter(Store(folder), keep_newest(2))) as writer:
        for number in range(1, 1000):
            writer.submit(sample_state(number, 100_000), {})
            time.sleep(0.001)


def kill_after_seconds(folder: Path, seconds: float) -> None:
    """Kill such a run from outside at a moment that has nothing to do with what it does."""
    Store(folder).save(sample_state(0), {})
    child = os.fork()
    if child == 0:
        keep_saving(folder)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(json.dumps({"at": "random", "signal": os.WTERMSIG(status), **checkpoints_in(folder)}), flush=True)


def main(folder: Path) -> None:
    """Kill everywhere; at last a child that ends by itself while its last save is being written."""
    torch.set_num_threads(1)
    at = 0
    while kill_at_operation(folder / f"at{at}", at):
        at += 1
    chance = random.Random(0)
    for turn in range(6):
        kill_after_seconds(folder / f"random{turn}", 0.02 + 0.1 * chance.random())
    if os.fork() == 0:
        BackgroundWriter(Store(folder / "end")).submit(sample_state(7, 1_000_000), {})
        raise SystemExit  # the normal end of a process, without close()
    os.wait()
    print(json.dumps({"at": "end", **checkpoints_in(folder / "end")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
