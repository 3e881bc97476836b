"""A disk in memory that fails on request, and loses at a power cut what was not synced."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import Literal

from attrs import define, field

from fsmtrain.runtime.checkpoint_files.files import Files

# What may happen at an operation: an error, fewer bytes than asked for, the end of the process' time.
Fault = Literal["EIO", "ENOSPC", "short", "cut"]


class PowerCut(BaseException):
    """The machine has no power any more."""


@define(eq=False)
class File:
    """Its bytes, and those of them that are on the platter."""

    data: bytearray = field(factory=bytearray)
    durable: bytes = b""


@define(eq=False)
class Change:
    """One change of a folder: a name goes, a name comes, or both in one step."""

    gone: str | None = None
    come: str | None = None
    node: File | Folder | None = None


@define(eq=False)
class Folder:
    """Its names, those on the platter, and the changes in between."""

    entries: dict[str, File | Folder] = field(factory=dict)
    durable: dict[str, File | Folder] = field(factory=dict)
    changes: list[Change] = field(factory=list)
    holder: int | None = None


@define(eq=False)
class Handle:
    """An open file, or a held folder."""

    node: File | Folder
    position: int = 0


class FaultyDisk(Files):
    """A file system whose every operation is counted, and fails where `fault` says so."""

    def __init__(self, root: Folder | None = None) -> None:
        self.root = root or Folder()
        self.done: list[str] = []  # the names of the operations so far
        self.fault: Callable[[int, str], Fault | None] = lambda number, name: None
        self._handles: dict[int, Handle] = {}
        self._last = 2

    # ---- the operations

    def make_folder(self, path: str) -> None:
        self._operate("make_folder")
        folder, name = self._parent(path)
        if name in folder.entries:
            raise self._error(errno.EEXIST)
        self._change(folder, Change(come=name, node=Folder()))

    def create(self, path: str) -> int:
        self._operate("create")
        folder, name = self._parent(path)
        if name in folder.entries:
            raise self._error(errno.EEXIST)
        node = File()
        self._change(folder, Change(come=name, node=node))
        return self._opened(node)

    def open(self, path: str) -> int:
        self._operate("open")
        node = self._node(path)
        if not isinstance(node, File):
            raise self._error(errno.EISDIR)
        return self._opened(node)

    def write(self, handle: int, data: memoryview) -> int:
        node = self._file(handle)
        fault = self._fault("write")
        count = len(data) if fault is None else len(data) // 2
        node.data += data[:count]
        if fault == "short":
            return max(count, 1) if count else self._write_one(node, data)
        if fault is not None:
            self._raise(fault)
        return count

    def read(self, handle: int, into: memoryview) -> int:
        opened = self._handles[handle]
        fault = self._fault("read")
        if fault not in (None, "short"):
            self._raise(fault)
        node = self._file(handle)
        wanted = len(into) if fault is None else max(1, len(into) // 2)
        data = node.data[opened.position : opened.position + wanted]
        into[: len(data)] = data
        opened.position += len(data)
        return len(data)

    def size(self, handle: int) -> int:
        self._operate("size")
        return len(self._file(handle).data)

    def sync(self, handle: int) -> None:
        self._operate("sync")
        node = self._file(handle)
        node.durable = bytes(node.data)

    def close(self, handle: int) -> None:
        opened = self._handles.pop(handle)  # the handle is gone, also after an error
        if isinstance(opened.node, Folder):
            opened.node.holder = None
        self._operate("close")

    def names(self, folder: str) -> list[str]:
        self._operate("names")
        return list(self._folder(folder).entries)

    def is_folder(self, path: str) -> bool:
        return self.exists(path) and isinstance(self._node(path), Folder)

    def exists(self, path: str) -> bool:
        try:
            self._node(path)
        except OSError:
            return False
        return True

    def sync_folder(self, path: str) -> None:
        self._operate("sync_folder")
        folder = self._folder(path)
        folder.durable = dict(folder.entries)
        folder.changes.clear()

    def rename(self, old: str, new: str) -> None:
        self._operate("rename")
        folder, gone = self._parent(old)
        _, come = self._parent(new)
        node = self._node(old)
        there = folder.entries.get(come)
        if there is not None and (not isinstance(there, Folder) or there.entries):
            raise self._error(errno.ENOTEMPTY)
        self._change(folder, Change(gone=gone, come=come, node=node))

    def remove(self, path: str) -> None:
        self._operate("remove")
        folder, name = self._parent(path)
        if not isinstance(self._node(path), File):
            raise self._error(errno.EISDIR)
        self._change(folder, Change(gone=name))

    def remove_folder(self, path: str) -> None:
        self._operate("remove_folder")
        if self._folder(path).entries:
            raise self._error(errno.ENOTEMPTY)
        folder, name = self._parent(path)
        self._change(folder, Change(gone=name))

    def lock(self, folder: str) -> int | None:
        self._operate("lock")
        if not self.exists(folder):
            return None
        node = self._folder(folder)
        if node.holder is not None:
            return None
        node.holder = self._opened(node)
        return node.holder

    # ---- what happens to it

    def after_cut(self, choice: random.Random | Literal["all", "nothing"]) -> FaultyDisk:
        """The disk after a power cut: what was synced is there; of the rest all, nothing, or what chance decides."""
        return FaultyDisk(_survived(self.root, choice))

    # ---- inside

    def _operate(self, name: str) -> None:
        fault = self._fault(name)
        if fault not in (None, "short"):
            self._raise(fault)

    def _fault(self, name: str) -> Fault | None:
        self.done.append(name)
        return self.fault(len(self.done) - 1, name)

    def _raise(self, fault: Fault | None) -> None:
        if fault == "cut":
            raise PowerCut
        raise self._error(errno.EIO if fault == "EIO" else errno.ENOSPC)

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number))

    def _write_one(self, node: File, data: memoryview) -> int:
        node.data += data[:1]
        return 1

    def _change(self, folder: Folder, change: Change) -> None:
        _apply(folder.entries, change)
        folder.changes.append(change)

    def _opened(self, node: File | Folder) -> int:
        self._last += 1
        self._handles[self._last] = Handle(node)
        return self._last

    def _file(self, handle: int) -> File:
        node = self._handles[handle].node
        assert isinstance(node, File)
        return node

    def _node(self, path: str) -> File | Folder:
        node: File | Folder = self.root
        for name in path.strip("/").split("/"):
            if not isinstance(node, Folder) or (name and name not in node.entries):
                raise self._error(errno.ENOENT)
            node = node.entries[name] if name else node
        return node

    def _folder(self, path: str) -> Folder:
        node = self._node(path)
        if not isinstance(node, Folder):
            raise self._error(errno.ENOTDIR)
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._folder(parent), name


def _apply(entries: dict[str, File | Folder], change: Change) -> None:
    if change.gone is not None:
        entries.pop(change.gone, None)
    if change.come is not None and change.node is not None:
        entries[change.come] = change.node


def _survived(folder: Folder, choice: random.Random | Literal["all", "nothing"]) -> Folder:
    entries = dict(folder.durable)
    for change in folder.changes:
        if choice == "all" or (isinstance(choice, random.Random) and choice.random() < 0.5):
            _apply(entries, change)
    result = Folder()
    for name, node in entries.items():
        result.entries[name] = _survived(node, choice) if isinstance(node, Folder) else _surviving_file(node, choice)
    result.durable = dict(result.entries)
    return result


def _surviving_file(file: File, choice: random.Random | Literal["all", "nothing"]) -> File:
    data, durable = bytes(file.data), file.durable
    if data != durable and choice != "nothing":
        part = data[: len(data) // 2]
        fates = [data, durable, part, bytes(len(data)), part + bytes(len(data) - len(part))]
        durable = data if choice == "all" else choice.choice(fates)
    return File(bytearray(durable), durable)
