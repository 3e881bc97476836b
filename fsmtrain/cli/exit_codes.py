"""Exit codes of the command line, and the message that is printed with each code other than 0.

0: done, and `check` found no error.
1: `check` found an error, or the run failed: by a rule of fsmtrain, or in the user's own code, whose traceback is printed.
2: the command cannot be run as typed: flags, names, sizes.
130: Ctrl-C; 143: SIGTERM; 138: SIGUSR1; 141: the reader of a pipe has closed it.

A standard output that is closed changes no code. If it is full, or no longer read, a command that would exit with 0 exits with
1 or 141; a run has ended as ever by then.
"""

from __future__ import annotations

import difflib
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import TextIO

from cyclopts import CycloptsError, MissingArgumentError, UnknownOptionError

from fsmtrain.cli.standard_streams import discard_stdout, stdout_is_unread
from fsmtrain.errors import FsmtrainError, FsmtrainWarning
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
    print_stderr("".join(traceback.format_exception(error)).rstrip())
    return EXIT_FAILED


def report_ctrl_c(error: KeyboardInterrupt) -> int:
    """Report a Ctrl-C outside of a run, or the second one in a run; returns the exit code."""
    print_stderr("\n".join(("stopped by Ctrl-C", *getattr(error, "__notes__", ()))))
    return EXIT_CTRL_C


def report_stdout_error(error: OSError, code: int = 0) -> int:
    """Report that not all output could be written, unless nobody reads it any more; returns the exit code.

    Args:
        error: What writing has raised.
        code: The exit code of the command itself.
    """
    discard_stdout()
    if isinstance(error, BrokenPipeError):
        return code or EXIT_BROKEN_PIPE
    print_stderr(f"error: standard output: {error.strerror or error}")
    return code or EXIT_FAILED


def flush_stdout(code: int) -> int:
    """Write what standard output holds back, at the end of a command; returns the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return report_stdout_error(error, code)
    return code


def is_of_stdout(error: BaseException) -> bool:
    """Return whether an error is that of a standard output that is full or no longer read.

    Library code that prints help turns the latter into an exit. The user's code may write to a pipe or a file of its own.
    """
    if isinstance(error, SystemExit):
        return isinstance(error.__context__, BrokenPipeError)
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    return (isinstance(error, BrokenPipeError) and stdout_is_unread()) or _user_traceback(error.__traceback__) is None


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours in one line, with the user's line if it is about one."""
    if issubclass(category, FsmtrainWarning):
        main = getattr(sys.modules["__main__"], "__file__", None)
        place = "" if _is_internal(filename) or filename == main else f" ({filename}:{lineno})"
        print_stderr(f"warning: {message}{place}")
    else:
        print_stderr(warnings.formatwarning(message, category, filename, lineno, line).rstrip())


def _usage_message(error: CycloptsError | FsmtrainError) -> str:
    """Return the message; for an unknown flag its name here, if it is known from elsewhere."""
    if isinstance(error, FsmtrainError):
        return str(error)
    if isinstance(error, UnknownOptionError) and (hint := _other_name(error)):
        return hint
    if isinstance(error, MissingArgumentError) and (hint := _similar_flag(error)):
        return hint
    return f"{error} See {' '.join(('fsmtrain', *(error.command_chain or ()), '--help'))}."


def _other_name(error: UnknownOptionError) -> str:
    """Return the message that gives the name here of another trainer's flag; empty for other flags."""
    typed = (error.token.keyword or error.token.value).partition("=")[0]
    name = typed.lstrip("-").replace("-", "_")
    if name in WAYS_OUT:
        return f"{typed}: there is no such flag. {WAYS_OUT[name]}"
    flag = "no-resume-strict" if name == "resume_anyway" else OTHER_NAMES.get(name)
    return f"{typed}: there is no such flag. Its name here is --{flag}." if flag else ""


def _similar_flag(error: MissingArgumentError) -> str:
    """Return the message for a misspelled flag, if that is why a required one is missing; else an empty string."""
    if error.argument is None or not error.argument.name.startswith("--") or error.argument.tokens:
        return ""
    typed = [token.partition("=")[0] for token in error.unused_tokens or () if token.startswith("--")]
    similar = difflib.get_close_matches(error.argument.name, typed, n=1)
    if not similar or similar[0] in error.argument.names:
        return ""
    return f"{similar[0]}: there is no such flag. Did you mean {error.argument.name}?"


def _user_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the user's code on, or None if there is none."""
    while trace is not None and _is_internal(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_internal(filename: str) -> bool:
    path = Path(filename)
    return (
        filename.startswith((_PACKAGE_FOLDER, "<frozen "))
        or "importlib" in filename
        or not {"cyclopts", "rich"}.isdisjoint(path.parts)
        or path.name == "runpy.py"
    )
