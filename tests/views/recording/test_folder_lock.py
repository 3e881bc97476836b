"""The lock of a run folder holds whatever its own process does with the folder, and ends with that process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fsmtrain.views.recording import folder_lock
from fsmtrain.views.recording.folder_lock import LOCK_FILE, FolderLock, is_locked, lock_folder
from tests.views.recording.lock_holder import kinds_without

ROOT = Path(__file__).parents[3]
NO_LOCKS_OF_OPEN_FILES = ("_lock_open_file",)
NO_LOCKS = ("_lock_open_file", "_flock", "_lockf")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no locks")


@pytest.fixture(params=[(), NO_LOCKS_OF_OPEN_FILES], ids=["any lock", "no locks of open files"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The kinds of lock that the file system lacks, for this process and for those that it starts."""
    kinds: tuple[str, ...] = request.param
    monkeypatch.setattr(folder_lock, "_KINDS", kinds_without(kinds))
    return kinds


@contextmanager
def holder(folder: Path, action: str, without: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Start a process that locks the folder, does something with it, and waits."""
    command = [sys.executable, "-m", "tests.views.recording.lock_holder", str(folder), action, *without]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("action", ["nothing", "read", "copy", "child"])
def test_a_lock_holds_while_its_process_reads_or_copies_the_folder(tmp_path: Path, action: str, without: Any) -> None:
    """A POSIX lock would be lost when any descriptor of the file is closed."""
    with holder(tmp_path, action, without):
        assert lock_folder(tmp_path) is None


@pytest.mark.parametrize("action", ["nothing", "copy", "child", "worker"])
def test_a_lock_ends_with_its_process_even_if_its_workers_live_on(tmp_path: Path, action: str, without: Any) -> None:
    with holder(tmp_path, action, without) as process:
        process.kill()
        process.wait()
        lock = lock_folder(tmp_path)
        assert lock is not None
        lock.release()


def test_a_process_gets_a_lock_once_and_releases_it_once(tmp_path: Path, without: Any) -> None:
    first = lock_folder(tmp_path)
    assert first is not None
    assert lock_folder(tmp_path) is None
    assert lock_folder(tmp_path / "." / ".." / tmp_path.name) is None
    first.release()
    second = lock_folder(tmp_path)
    first.release()  # once is enough
    assert second is not None
    assert lock_folder(tmp_path) is None
    second.release()


def test_a_forked_child_cannot_release_a_lock_nor_close_a_file_of_its_own(tmp_path: Path, without: Any) -> None:
    """The child has closed the descriptor; its number may belong to another file by then."""
    lock = lock_folder(tmp_path)
    assert lock is not None
    child = os.fork()
    if child == 0:
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        lock.release()
        failed = [file for file in files if not _is_open(file)]
        os._exit(len(failed) + 10 * (lock_folder(tmp_path) is not None))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lock.release()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_lock_file_that_is_replaced_while_it_is_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two processes could hold locks on two files of the same name, one of them deleted."""
    kinds, calls = folder_lock._KINDS, 0

    def replace_file_first(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / LOCK_FILE).unlink()
            (tmp_path / LOCK_FILE).touch()
        kinds[0](descriptor)

    monkeypatch.setattr(folder_lock, "_KINDS", [replace_file_first])
    lock = lock_folder(tmp_path)
    assert lock is not None
    assert calls == 2
    with pytest.raises(BlockingIOError), (tmp_path / LOCK_FILE).open("r+") as file:
        kinds[0](file.fileno())
    lock.release()


def test_without_any_locks_a_folder_is_locked_within_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_KINDS", kinds_without(NO_LOCKS))
    lock = lock_folder(tmp_path)
    assert isinstance(lock, FolderLock)
    assert lock_folder(tmp_path) is None
    lock.release()


@pytest.mark.parametrize("without", [()], indirect=True)
def test_the_lock_file_obeys_the_umask(tmp_path: Path, without: Any) -> None:
    before = os.umask(0o027)
    try:
        lock = lock_folder(tmp_path)
    finally:
        os.umask(before)
    assert lock is not None
    lock.release()
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(sys.platform != "linux", reason="there are no locks of open files")
def test_is_locked_asks_without_taking_the_lock_or_creating_a_file(tmp_path: Path) -> None:
    assert is_locked(tmp_path) is None
    assert not (tmp_path / LOCK_FILE).exists()
    with holder(tmp_path, "nothing", ()):
        assert is_locked(tmp_path) is True
    assert is_locked(tmp_path) is False
    lock = lock_folder(tmp_path)
    assert lock is not None
    assert is_locked(tmp_path) is True
    lock.release()
    (tmp_path / LOCK_FILE).unlink()
    os.mkfifo(tmp_path / LOCK_FILE)
    assert is_locked(tmp_path) in (None, False), "a pipe is not waited for"
