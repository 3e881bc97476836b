"""The folder of the user's program, whose git commit is recorded: that of the script, or of the module that a command names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_named: ContextVar[Path | None] = ContextVar("_named", default=None)


@contextmanager
def program_in(folder: Path) -> Iterator[None]:
    """Record runs that begin within as those of a program in this folder, whatever script the process was started with."""
    token = _named.set(folder)
    try:
        yield
    finally:
        _named.reset(token)


def is_shell_command() -> bool:
    """Return whether a command of fsmtrain runs the program, so that messages spell flags as they are typed."""
    return _named.get() is not None


def program_folder() -> Path:
    """Return the folder that `program_in` names, or else that of the script; without a script the current directory."""
    named = _named.get()
    if named is not None:
        return named
    program = Path(sys.argv[0]) if sys.argv else Path()
    return program.resolve().parent if program.is_file() else Path.cwd()
