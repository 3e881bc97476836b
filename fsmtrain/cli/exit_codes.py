"""How a command ends that does not end well: one readable message, and an exit code.

0: done; `check` found no error.
1: `check` found an error, or the run failed: in a rule of the run, or in the user's own code, whose traceback is shown.
2: what was typed cannot be run: flags, names, sizes.
130: Ctrl-C; 143: SIGTERM; 138: SIGUSR1; 141: whoever read the output has gone.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import TextIO

from cyclopts import CycloptsError, UnknownOptionError

from fsmtrain.cli.typed_values import reader_of
from fsmtrain.errors import FsmtrainError, OptionsError
from fsmtrain.flags.unknown_flags import OTHER_NAMES
from fsmtrain.options import Options
from fsmtrain.views.console.stderr import print_stderr

OURS = str(Path(__file__).parents[1])
FAILED, MISUSED, INTERRUPTED, UNREAD = 1, 2, 130, 141


def misused(error: CycloptsError | FsmtrainError) -> int:
    """What was typed cannot be run."""
    print_stderr(f"error: {_spelled(error)}")
    return MISUSED


def failed(error: FsmtrainError) -> int:
    """The run has failed, on a rule of its own; the error says where."""
    print_stderr("\n".join((f"error: {error}", *getattr(error, "__notes__", ()))))
    return FAILED


def raised(error: Exception) -> int:
    """The user's own code has raised: its traceback, from the user's first line on."""
    theirs = _from_the_user_on(error.__traceback__)
    if theirs is not None or isinstance(error, SyntaxError):  # else it is a fault of ours, to be shown whole
        error.__traceback__ = theirs
    traceback.print_exception(error)
    return FAILED


def interrupted(error: KeyboardInterrupt) -> int:
    """Ctrl-C where nothing takes it as a request, or the second one in a run."""
    print_stderr("\n".join(("stopped by Ctrl-C", *getattr(error, "__notes__", ()))))
    return INTERRUPTED


def unread() -> int:
    """Whoever read standard output has gone, as ``| head`` does: nothing more is written there, nor complained about."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours is told without the line of code that led to it: nobody wrote one."""
    if _leads_there(filename):
        print_stderr(f"warning: {message}")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _spelled(error: CycloptsError | FsmtrainError) -> str:
    """The message; for a flag that there is not, the name that it has here."""
    if isinstance(error, FsmtrainError):
        return str(error)
    if isinstance(error, UnknownOptionError):
        hint = _known_elsewhere(error)
        if hint is not None:
            return hint
    return f"{error} See {' '.join(('fsmtrain', *(error.command_chain or ()), '--help'))}."


def _known_elsewhere(error: UnknownOptionError) -> str | None:
    """The answer of `Options` to a name of another trainer's."""
    typed = error.token.keyword or error.token.value
    name, _, value = typed.lstrip("-").partition("=")
    name = name.replace("-", "_")
    if name in OTHER_NAMES or name == "max_steps":
        try:
            Options(**{name: reader_of(float)(value or _next_to(typed, error))})
        except OptionsError as hint:
            return str(hint)
    return None


def _next_to(typed: str, error: CycloptsError) -> str:
    """The token after this one: its value."""
    tokens = error.root_input_tokens or []
    after = tokens[tokens.index(typed) + 1 :] if typed in tokens else []
    return after[0] if after else ""


def _from_the_user_on(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without what led to the user's code: this package, the command line's library, the import system."""
    while trace is not None and _leads_there(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _leads_there(filename: str) -> bool:
    return filename.startswith((OURS, "<frozen ")) or "importlib" in filename or "cyclopts" in Path(filename).parts
