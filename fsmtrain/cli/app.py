"""Entry point of the command line: `COMMANDS` by name, and their exceptions as exit codes.

A new command is a function in a file of its own in `commands`, and a line in `COMMANDS`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from fsmtrain import __version__
from fsmtrain.cli import exit_codes
from fsmtrain.cli.commands.compare import compare
from fsmtrain.cli.commands.fit_and_test import evaluate, fit
from fsmtrain.cli.commands.import_checkpoint import import_file
from fsmtrain.cli.commands.plan_check_draw import check, draw, plan
from fsmtrain.cli.commands.predict import predict
from fsmtrain.cli.commands.report import report
from fsmtrain.cli.commands.runs import runs
from fsmtrain.cli.standard_streams import open_missing_streams
from fsmtrain.errors import FsmtrainError

COMMANDS: dict[str, Callable[..., int]] = {
    "plan": plan,
    "check": check,
    "draw": draw,
    "fit": fit,
    "test": evaluate,
    "predict": predict,
    "report": report,
    "runs": runs,
    "compare": compare,
    "import": import_file,
}

app = App(
    name="fsmtrain",
    version=f"fsmtrain {__version__}",
    help="A PyTorch training loop that is an explicit finite-state machine: plan it, check it, draw it, run it.",
    help_epilogue="Exit codes: 0: done. 1: check found an error, or the run failed. 2: wrong usage. 130: stopped by Ctrl-C.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for place, (name, command) in enumerate(COMMANDS.items()):
    app.command(command, name=name, sort_key=place)


def join_switch_values(tokens: Sequence[str]) -> list[str]:
    """Join each switch with its value: ``--progress_bar False`` becomes ``--progress_bar=False``."""
    joined: list[str] = []
    for token in tokens:
        if token.lower() in ("true", "false") and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: The arguments after ``fsmtrain``; None: those of this process.
    """
    open_missing_streams()
    with warnings.catch_warnings():
        warnings.showwarning = exit_codes.show_warning
        return exit_codes.flush_stdout(_exit_code_of(arguments))


def _exit_code_of(arguments: Sequence[str] | None) -> int:
    """Run a command; returns its exit code, also for its exceptions."""
    try:
        tokens = join_switch_values(sys.argv[1:] if arguments is None else arguments)
        code = app(tokens, exit_on_error=False, print_error=False)
    except (CycloptsError, FsmtrainError) as error:
        return exit_codes.report_usage_error(error)
    except KeyboardInterrupt as error:
        return exit_codes.report_ctrl_c(error)
    except (OSError, SystemExit) as error:
        if exit_codes.is_of_stdout(error):
            return exit_codes.report_stdout_error(error if isinstance(error, OSError) else BrokenPipeError())
        if isinstance(error, SystemExit):
            raise
        return exit_codes.report_exception(error)
    except Exception as error:
        return exit_codes.report_exception(error)
    return code if isinstance(code, int) else 0
