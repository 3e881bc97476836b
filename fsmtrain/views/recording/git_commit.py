"""The git commit of the training script's repository, read from git's files without running git."""

from __future__ import annotations

from pathlib import Path


def read_git_commit(folder: Path) -> str | None:
    """Return the hash of the commit checked out in a folder, or None if it is in no repository.

    Uncommitted changes are not detected.
    """
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        try:
            if git.is_file():  # a worktree
                git = (parent / git.read_text().removeprefix("gitdir:").strip()).resolve()
            if not git.is_dir():
                continue
            head = (git / "HEAD").read_text().strip()
            if not head.startswith("ref:"):
                return head
            return _resolve_ref(git, head.removeprefix("ref:").strip())
        except (OSError, ValueError):
            return None
    return None


def _resolve_ref(git: Path, ref: str) -> str | None:
    common = git / "commondir"
    homes = [git, (git / common.read_text().strip()).resolve()] if common.exists() else [git]
    for home in homes:
        if (home / ref).is_file():
            return (home / ref).read_text().strip()
        packed = home / "packed-refs"
        for line in packed.read_text().splitlines() if packed.is_file() else ():
            if line.endswith(f" {ref}"):
                return line.split()[0]
    return None
