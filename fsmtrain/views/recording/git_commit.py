"""The git commit of the training script's repository, read from git's files without running git."""

from __future__ import annotations

import re
from pathlib import Path

from fsmtrain.plain_files import read_plain_file

MAX_BYTES = 2**24  # of a file; packed-refs is the one that can be long
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def read_git_commit(folder: Path) -> str | None:
    """Return the hash of the commit checked out in a folder, or None if it is in no repository.

    Uncommitted changes are not detected.
    """
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        try:
            if git.is_file():  # a worktree
                git = (parent / _text(git).removeprefix("gitdir:").strip()).resolve()
            if not git.is_dir():
                continue
            head = _text(git / "HEAD")
            commit = _resolve_ref(git, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
            return commit if commit is not None and _HASH.fullmatch(commit) else None  # nothing else is recorded
        except (OSError, ValueError):
            return None
    return None


def _resolve_ref(git: Path, ref: str) -> str | None:
    common = git / "commondir"
    homes = [git, (git / _text(common)).resolve()] if common.exists() else [git]
    for home in homes:
        if (home / ref).is_file():
            return _text(home / ref)
        packed = home / "packed-refs"
        for line in _text(packed).splitlines() if packed.is_file() else ():
            if line.endswith(f" {ref}"):
                return line.split()[0]
    return None


def _text(path: Path) -> str:
    return read_plain_file(path, MAX_BYTES).decode().strip()
