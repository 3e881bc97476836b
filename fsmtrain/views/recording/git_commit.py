"""The commit that is checked out where a program lies, read from git's own files."""

from __future__ import annotations

from pathlib import Path


def commit_at(place: Path) -> str | None:
    """The commit's hash; None where there is no repository, or one that is laid out in another way.

    Whether files have been changed since is not known.
    """
    for folder in (place, *place.parents):
        git = folder / ".git"
        try:
            if git.is_file():  # a worktree
                git = (folder / git.read_text().removeprefix("gitdir:").strip()).resolve()
            if not git.is_dir():
                continue
            head = (git / "HEAD").read_text().strip()
            if not head.startswith("ref:"):
                return head
            return _resolved(git, head.removeprefix("ref:").strip())
        except (OSError, ValueError):
            return None
    return None


def _resolved(git: Path, ref: str) -> str | None:
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
