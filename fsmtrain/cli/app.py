"""The commands under one name, and how they end. A new command is a function in a module beside this one, and a line here."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from fsmtrain import __version__
from fsmtrain.cli import exit_codes
from fsmtrain.cli.import_command import import_file
from fsmtrain.cli.plan_commands import check, draw, plan
from fsmtrain.cli.report_command import report
from fsmtrain.cli.run_commands import evaluate, fit
from fsmtrain.errors import FsmtrainError

COMMANDS: dict[str, Callable[..., int]] = {
    "plan": plan,
    "check": check,
    "draw": draw,
    "fit": fit,
    "test": evaluate,
    "report": report,
    "import": import_file,
}

app = App(
    name="fsmtrain",
    version=f"fsmtrain {__version__}",
    help="A PyTorch training loop that is an explicit finite-state machine: plan it, check it, draw it, run it.",
    help_epilogue="Exit codes: 0 done, 1 found wrong or failed, 2 cannot be run as typed, 130 stopped by Ctrl-C.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for place, (name, command) in enumerate(COMMANDS.items()):
    app.command(command, name=name, sort_key=place)


def joined(tokens: Sequence[str]) -> list[str]:
    """What was typed, with a switch and its value as one: ``--progress_bar False`` as ``--progress_bar=False``."""
    words: list[str] = []
    for token in tokens:
        if token.lower() in ("true", "false") and words and words[-1].startswith("--") and "=" not in words[-1]:
            words[-1] += f"={token}"
        else:
            words.append(token)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code.

    Args:
        arguments: What was typed behind ``fsmtrain``; None takes this process's own.
    """
    with warnings.catch_warnings():
        warnings.showwarning = exit_codes.show_warning
        try:
            code = app(joined(sys.argv[1:] if arguments is None else arguments), exit_on_error=False, print_error=False)
            sys.stdout.flush()
        except (CycloptsError, FsmtrainError) as error:
            return exit_codes.misused(error)
        except KeyboardInterrupt as error:
            return exit_codes.interrupted(error)
        except BrokenPipeError:
            return exit_codes.unread()
        except Exception as error:
            return exit_codes.raised(error)
    return code if isinstance(code, int) else 0
