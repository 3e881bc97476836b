"""A folder of checkpoints, each a folder of its own whose name is a number: there whole and durable, or not there.

A checkpoint is written under a name that no reader looks at, and gets its number in one step when all of it is durable.
A number is never used twice while it is there, so two processes that save into one folder cannot hurt each other.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, encode
from fsmtrain.runtime.checkpoint_files.files import Files, close_quietly
from fsmtrain.runtime.checkpoint_files.store.checkpoint import (
    LoadedCheckpoint,
    SkippedCheckpoint,
    load_manifest,
    read_checkpoint,
    write_checkpoint,
)
from fsmtrain.runtime.checkpoint_files.store.manifest import encode_metadata
from fsmtrain.runtime.checkpoint_files.store.retention import RetentionPolicy

_NUMBER = re.compile(r"[0-9]{6,15}")
_WRITING = ".writing-"  # a checkpoint that is not yet one
_REMOVING = ".removing-"  # one that is none any more


class Store:
    """The checkpoints in a folder, which is made when the first one is saved."""

    def __init__(self, folder: str | os.PathLike[str], files: Files | None = None) -> None:
        self.folder = Path(folder)
        self._files = files or Files()
        self._is_prepared = False
        self._last_saved = -1  # the last number that was saved here

    def save(self, tree: Any, metadata: Mapping[str, Any]) -> Path:
        """Save a state. When this returns, the checkpoint is there, also after a power cut.

        Raises:
            CodecError: The state, or what it is of, holds something that cannot be saved.
            CheckpointError: The files could not be written. The checkpoints before are as they were.
        """
        return self.write(encode(tree), encode_metadata(metadata))

    def write(self, encoded: Encoded, metadata: dict[str, Any]) -> Path:
        """Save a state, and what it is of, that are encoded already."""
        try:
            self._prepare_folder()
            with self._locked_folder() as temporary:
                write_checkpoint(self._files, temporary, encoded, metadata)
                number = self._commit(temporary)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder}: no checkpoint could be saved: {error_text(error)}. Those that were there before are untouched."
            ) from error
        try:
            self._files.sync_folder(str(self.folder))
        except OSError as error:
            raise CheckpointError(
                f"{self._path(number)}: this checkpoint was written, but may not survive a power cut: {error_text(error)}. "
                f"Those that were there before are untouched."
            ) from error
        self._last_saved = number
        return self._path(number)

    def numbers(self) -> list[int]:
        """The numbers of the checkpoints that are there, valid or not, the oldest first.

        Raises:
            CheckpointError: The folder cannot be read.
        """
        try:
            names = self._files.names(str(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder}: the folder of checkpoints cannot be read: {error_text(error)}.") from error
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name) and name == f"{int(name):06d}")

    def load_newest(self) -> LoadedCheckpoint | None:
        """The newest valid checkpoint, with those that were skipped; None if there is none at all.

        Raises:
            CheckpointError: There are some, but not one is valid.
        """
        skipped: list[SkippedCheckpoint] = []
        for number in reversed(self.numbers()):
            try:
                loaded = self.load(number)
            except CheckpointError as error:
                path = self._path(number)
                skipped.append(SkippedCheckpoint(path, str(error).removeprefix(f"{path}: ")))
            else:
                return LoadedCheckpoint(loaded.path, loaded.tree, loaded.metadata, tuple(skipped))
        if skipped:
            reasons = "".join(f"\n  {one}" for one in skipped)
            raise CheckpointError(
                f"{self.folder}: none of the {len(skipped)} checkpoints can be loaded. To begin anew, move them away.{reasons}"
            )
        return None

    def load(self, checkpoint: int | str | os.PathLike[str]) -> LoadedCheckpoint:
        """One checkpoint, by its number or its path; every byte of it is checked.

        Raises:
            CheckpointError: It is not there, damaged, or none.
        """
        return read_checkpoint(self._files, self._path(checkpoint) if isinstance(checkpoint, int) else Path(checkpoint))

    def metadata(self) -> dict[int, dict[str, Any]]:
        """What each checkpoint is of, by its number, as far as its manifest can be read."""
        abouts = {}
        for number in self.numbers():
            with contextlib.suppress(CheckpointError):
                abouts[number] = load_manifest(self._files, self._path(number)).metadata
        return abouts

    def prune(self, policy: RetentionPolicy) -> list[int]:
        """Remove those checkpoints that a policy does not keep; returns their numbers.

        The newest valid one stays whatever the policy says, and so does every one whose manifest cannot be read.

        Raises:
            CheckpointError: One could not be removed.
        """
        abouts = self.metadata()
        kept = set(policy(abouts))
        doomed = [number for number in sorted(abouts) if number not in kept]
        if doomed:
            safe = self._newest_valid()
            doomed = [number for number in doomed if number != safe]
        for number in doomed:
            try:
                self._remove(number)
            except OSError as error:
                raise CheckpointError(f"{self._path(number)}: it could not be removed: {error_text(error)}.") from error
        return doomed

    def remove_leftovers(self) -> list[str]:
        """Remove what killed writers left behind; returns the names. What another process is writing now is let be."""
        try:
            names = self._files.names(str(self.folder))
        except OSError:
            return []
        return [name for name in sorted(names) if name.startswith((_WRITING, _REMOVING)) and self._remove_leftover(name)]

    # ---- writing

    def _prepare_folder(self) -> None:
        """The folder is there and durable, and no leftovers are in it."""
        missing = []
        folder = os.path.abspath(self.folder)
        if not self._is_prepared and self._files.exists(folder) and not self._files.is_folder(os.path.realpath(folder)):
            raise ValueError("it is a file, not a folder")
        while not self._files.is_folder(os.path.realpath(folder)):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self._files.make_folder(path)
            self._files.sync_folder(os.path.dirname(path))
        if not self._is_prepared:
            with contextlib.suppress(PermissionError):  # a folder above may be closed to us
                self._files.sync_folder(os.path.dirname(os.path.realpath(self.folder)))
            self.remove_leftovers()
            self._is_prepared = True

    @contextlib.contextmanager
    def _locked_folder(self) -> Iterator[str]:
        """A new folder to write in, held so that no other process takes it for a leftover; removed after an error."""
        lock = None
        while lock is None:
            temporary = os.path.join(self.folder, _WRITING + secrets.token_hex(8))
            self._files.make_folder(temporary)
            try:
                lock = self._files.lock(temporary)
            except OSError:  # no locks here: then nobody sweeps
                break
        try:
            yield temporary
        except BaseException:
            self._is_prepared = False  # if the next line fails, the next save sweeps
            with contextlib.suppress(OSError):
                self._remove_folder(temporary)
            raise
        finally:
            if lock is not None:
                close_quietly(self._files, lock)

    def _commit(self, temporary: str) -> int:
        """Give the written folder the next number that is free."""
        number = max(self.numbers(), default=-1) + 1
        while True:
            try:
                self._files.rename(temporary, str(self._path(number)))
            except OSError:
                if not self._files.exists(str(self._path(number))):
                    raise
                number += 1  # another process was faster
            else:
                return number

    # ---- finding

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _newest_valid(self) -> int | None:
        for number in reversed(self.numbers()):
            if number == self._last_saved:
                return number
            with contextlib.suppress(CheckpointError):
                self.load(number)
                return number
        return None

    # ---- removing

    def _remove(self, number: int) -> None:
        """A checkpoint stops being one in one step, so that nobody ever meets half of it."""
        leftover = os.path.join(self.folder, f"{_REMOVING}{secrets.token_hex(8)}")
        try:
            self._files.rename(str(self._path(number)), leftover)
        except FileNotFoundError:
            return  # another process was faster
        self._files.sync_folder(str(self.folder))  # before its files go; the newer ones' names are durable then, too
        self._remove_folder(leftover)

    def _remove_leftover(self, name: str) -> bool:
        path = os.path.join(self.folder, name)
        lock = None
        try:
            if not self._files.is_folder(path):
                return False
            if name.startswith(_WRITING):
                lock = self._files.lock(path)
                if lock is None:
                    return False
            self._remove_folder(path)
        except OSError:
            return False
        finally:
            if lock is not None:
                close_quietly(self._files, lock)
        return True

    def _remove_folder(self, folder: str) -> None:
        for name in self._files.names(folder):
            self._files.remove(os.path.join(folder, name))
        self._files.remove_folder(folder)
