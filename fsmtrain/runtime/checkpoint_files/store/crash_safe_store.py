"""`Store`: a folder of checkpoints, each in a numbered folder.

Saving is atomic and durable: all of a checkpoint, or nothing.

A checkpoint is written under a name that no reader looks at, and renamed to its number once all of it is durable. A rename
never replaces a checkpoint, so two processes can save into the same folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text, link_or_copy
from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, encode
from fsmtrain.runtime.checkpoint_files.files import Files, close_quietly
from fsmtrain.runtime.checkpoint_files.store.checkpoint import (
    LoadedCheckpoint,
    load_manifest,
    read_checkpoint,
    write_checkpoint,
)
from fsmtrain.runtime.checkpoint_files.store.manifest import encode_metadata

# Takes the metadata of each checkpoint by its number, and returns the numbers of those to keep.
RetentionPolicy = Callable[[Mapping[int, Mapping[str, Any]]], Collection[int]]

_NUMBER = re.compile(r"[0-9]{6,15}")
_WRITING = ".writing-"  # prefix of a checkpoint that is being written
_REMOVING = ".removing-"  # prefix of one that is being removed


def none_valid(folder: str | os.PathLike[str], reasons: Sequence[str]) -> CheckpointError:
    """Return the error for checkpoints of which none can be loaded."""
    lines = "".join(f"\n  {reason}" for reason in reasons)
    return CheckpointError(
        f"{folder}: none of the {len(reasons)} checkpoints can be loaded. To start anew, move them away.{lines}"
    )


class Store:
    """The checkpoints in a folder. The folder is made when the first one is saved."""

    def __init__(self, folder: str | os.PathLike[str], files: Files | None = None) -> None:
        self.folder = Path(folder)
        self._files = files or Files()
        self._is_prepared = False
        self._last_saved = -1  # the number of the last checkpoint that this object saved

    def save(self, tree: Any, metadata: Mapping[str, Any]) -> Path:
        """Save a state. When this returns, the checkpoint survives a power cut.

        Raises:
            CodecError: The state or the metadata has a value that cannot be saved.
            CheckpointError: The files could not be written. Earlier checkpoints are unchanged.
        """
        return self.write(encode(tree), encode_metadata(metadata))

    def write(self, encoded: Encoded, metadata: dict[str, Any], before_commit: Callable[[], object] | None = None) -> Path:
        """Save a state and metadata that are encoded already. `before_commit` is called when all but the name is durable."""

        def write_into(temporary: str) -> None:
            write_checkpoint(self._files, temporary, encoded, metadata)
            if before_commit is not None:
                before_commit()

        return self._add(write_into)

    def link(self, checkpoint: Path) -> Path:
        """Add a checkpoint of another folder. Its files are linked; where they cannot be, they are copied.

        Raises:
            CheckpointError: The files could not be written.
        """

        def link_into(temporary: str) -> None:
            for name in self._files.names(str(checkpoint)):
                link_or_copy(self._files, os.path.join(checkpoint, name), os.path.join(temporary, name))
            self._files.sync_folder(temporary)

        return self._add(link_into)

    def _add(self, write_into: Callable[[str], None]) -> Path:
        """Add a checkpoint, whose files a function writes into an empty folder."""
        try:
            self._prepare_folder()
            with self._locked_folder() as temporary:
                write_into(temporary)
                number = self._commit(temporary)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder}: the checkpoint was not saved: {error_text(error)}. Earlier checkpoints are unchanged."
            ) from error
        try:
            self._files.sync_folder(str(self.folder))
        except OSError as error:
            raise CheckpointError(
                f"{self._path(number)}: the checkpoint was written, but may not survive a power cut: {error_text(error)}. "
                f"Earlier checkpoints are unchanged."
            ) from error
        self._last_saved = number
        return self._path(number)

    def numbers(self) -> list[int]:
        """Return the numbers of all checkpoints, valid or not, the oldest first.

        Raises:
            CheckpointError: The folder cannot be read.
        """
        try:
            names = self._files.names(str(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot read the folder of checkpoints: {error_text(error)}.") from error
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name) and name == f"{int(name):06d}")

    def load_newest(self) -> LoadedCheckpoint | None:
        """Load the newest valid checkpoint, and list the invalid ones skipped; None if there are none.

        Raises:
            CheckpointError: There are checkpoints, but none is valid.
        """
        skipped: list[str] = []
        for number in reversed(self.numbers()):
            try:
                return evolve(self.load(number), skipped=tuple(skipped))
            except CheckpointError as error:
                skipped.append(str(error))
        if skipped:
            raise none_valid(self.folder, skipped)
        return None

    def load(self, checkpoint: int | str | os.PathLike[str]) -> LoadedCheckpoint:
        """Load a checkpoint by its number or path, and verify every byte of it.

        Raises:
            CheckpointError: It does not exist, is damaged, or is not a checkpoint.
        """
        return read_checkpoint(self._files, self._path(checkpoint) if isinstance(checkpoint, int) else Path(checkpoint))

    def metadata_of(self, checkpoint: int | str | os.PathLike[str]) -> dict[str, Any]:
        """Return the metadata of a checkpoint.

        Raises:
            CheckpointError: It does not exist, or its manifest is damaged.
        """
        path = self._path(checkpoint) if isinstance(checkpoint, int) else Path(checkpoint)
        return load_manifest(self._files, path).metadata

    def metadata(self) -> dict[int, dict[str, Any]]:
        """Return the metadata of each checkpoint whose manifest can be read, by its number."""
        metadata = {}
        for number in self.numbers():
            with contextlib.suppress(CheckpointError):
                metadata[number] = self.metadata_of(number)
        return metadata

    def prune(self, policy: RetentionPolicy) -> list[int]:
        """Remove the checkpoints that a policy does not keep; return their numbers.

        The newest valid checkpoint is always kept, and so is every checkpoint whose manifest cannot be read.

        Raises:
            CheckpointError: A checkpoint could not be removed.
        """
        metadata = self.metadata()
        to_remove = sorted(metadata.keys() - policy(metadata))
        newest = self._newest_valid() if to_remove else None
        to_remove = [number for number in to_remove if number != newest]
        for number in to_remove:
            try:
                self._remove(number)
            except OSError as error:
                raise CheckpointError(f"{self._path(number)}: could not be removed: {error_text(error)}.") from error
        return to_remove

    def remove_leftovers(self) -> list[str]:
        """Remove what killed processes left behind; return the names.

        What another process is writing is not touched.
        """
        try:
            names = self._files.names(str(self.folder))
        except OSError:
            return []
        return [name for name in sorted(names) if name.startswith((_WRITING, _REMOVING)) and self._remove_leftover(name)]

    # ---- writing

    def _prepare_folder(self) -> None:
        """Make the folder, durably, and remove leftovers in it."""
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
            with contextlib.suppress(PermissionError):  # no permission to open the folder above
                self._files.sync_folder(os.path.dirname(os.path.realpath(self.folder)))
            self.remove_leftovers()
            self._is_prepared = True

    @contextlib.contextmanager
    def _locked_folder(self) -> Iterator[str]:
        """Make a folder to write in, locked so that it is not taken for a leftover; remove it on errors."""
        lock = None
        while lock is None:
            temporary = os.path.join(self.folder, _WRITING + secrets.token_hex(8))
            self._files.make_folder(temporary)
            try:
                lock = self._files.lock(temporary)
            except OSError:  # folders cannot be locked; then no process removes leftovers
                break
        try:
            yield temporary
        except BaseException:
            self._is_prepared = False  # if the next line fails, the next save removes the leftover
            with contextlib.suppress(OSError):
                self._remove_folder(temporary)
            raise
        finally:
            close_quietly(self._files, lock)

    def _commit(self, temporary: str) -> int:
        """Rename the written folder to the next free number."""
        number = max(self.numbers(), default=-1) + 1
        while True:
            try:
                self._files.rename(temporary, str(self._path(number)))
                return number
            except OSError:
                if not self._files.exists(str(self._path(number))):
                    raise
                number += 1  # another process was faster

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
        """Remove a checkpoint. A rename comes first, so that no reader finds a part of it."""
        leftover = os.path.join(self.folder, f"{_REMOVING}{secrets.token_hex(8)}")
        try:
            self._files.rename(str(self._path(number)), leftover)
        except FileNotFoundError:
            return  # another process was faster
        self._files.sync_folder(str(self.folder))  # before any file is removed; makes newer names durable, too
        self._remove_folder(leftover)

    def _remove_leftover(self, name: str) -> bool:
        path = os.path.join(self.folder, name)
        lock: int | None = None
        try:
            if not self._files.is_folder(path) or (name.startswith(_WRITING) and (lock := self._files.lock(path)) is None):
                return False
            self._remove_folder(path)
            return True
        except OSError:
            return False
        finally:
            close_quietly(self._files, lock)

    def _remove_folder(self, folder: str) -> None:
        for name in self._files.names(folder):
            self._files.remove(os.path.join(folder, name))
        self._files.remove_folder(folder)
