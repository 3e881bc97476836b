"""Exit codes of the command line, and the message that is printed with each code other than 0.

0: done, and `check` found no error.
1: `check` found an error, or the run failed: by a rule of fsmtrain, or in the user's own code, whose traceback is printed.
2: the command cannot be run as typed: flags, names, sizes.
130: Ctrl-C; 143: SIGTERM; 138: SIGUSR1; 141: the reader of a pipe has closed it.
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

from fsmtrain.errors import FsmtrainError
from fsmtrain.flags.unknown_flags import OTHER_NAMES, WAYS_OUT
from fsmtrain.views.console.stderr import print_stderr

EXIT_FAILED, EXIT_USAGE, EXIT_CTRL_C, EXIT_BROKEN_PIPE = 1, 2, 130, 141

_PACKAGE_FOLDER = str(Path(__file__).parents[1])


def report_usage_error(error: CycloptsError | FsmtrainError) -> int:
    """Report that the command cannot be run as typed; returns the exit code."""
    print_stderr(f"error: {_usage_message(error)}")
    return EXIT_USAGE


def report_failure(error: FsmtrainError) -> int:
    """Report an error of fsmtrain during the run, with the notes that say where; returns the exit code."""
    print_stderr("\n".join((f"error: {error}", *getattr(error, "__notes__", ()))))
    return EXIT_FAILED


def report_exception(error: Exception) -> int:
    """Print the traceback of the user's own code, from its first frame on; returns the exit code."""
    users = _user_traceback(error.__traceback__)
    if users is not None or isinstance(error, SyntaxError):  # else it is our own fault, so print the whole traceback
        error.__traceback__ = users
    traceback.print_exception(error)
    return EXIT_FAILED


def report_ctrl_c(error: KeyboardInterrupt) -> int:
    """Report a Ctrl-C outside of a run, or the second one in a run; returns the exit code."""
    print_stderr("\n".join(("stopped by Ctrl-C", *getattr(error, "__notes__", ()))))
    return EXIT_CTRL_C


def discard_stdout() -> int:
    """Discard further output, since the reader of the pipe, ``| head``, has ended; returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours without file and line, which are not in the user's code."""
    if _is_internal(filename):
        print_stderr(f"warning: {message}")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _usage_message(error: CycloptsError | FsmtrainError) -> str:
    """Return the message; for an unknown flag its name here, if it is known from elsewhere."""
    if isinstance(error, FsmtrainError):
        return str(error)
    if isinstance(error, UnknownOptionError) and (hint := _other_name(error)):
        return hint
    return f"{error} See {' '.join(('fsmtrain', *(error.command_chain or ()), '--help'))}."


def _other_name(error: UnknownOptionError) -> str:
    """Return the message that gives the name here of another trainer's flag; empty for other flags."""
    typed = (error.token.keyword or error.token.value).partition("=")[0]
    name = typed.lstrip("-").replace("-", "_")
    if name == "max_steps":
        return (
            f"{typed}: there is no such flag. To stop after a number of steps pass --guards MODULE:NAME, the name of "
            f"Guards(stop=after_steps(...)), and --min_nb_epochs 0."
        )
    if name in WAYS_OUT:
        return f"{typed}: there is no such flag. {WAYS_OUT[name]}"
    flag = "no-resume-strict" if name == "resume_anyway" else OTHER_NAMES.get(name)
    return f"{typed}: there is no such flag. Its name here is --{flag}." if flag else ""


def _user_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the user's code on, or None if there is none."""
    while trace is not None and _is_internal(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_internal(filename: str) -> bool:
    return filename.startswith((_PACKAGE_FOLDER, "<frozen ")) or "importlib" in filename or "cyclopts" in Path(filename).parts
