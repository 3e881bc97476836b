"""The command ``runs``: list recorded runs, with the values that differ as columns."""

from __future__ import annotations

import json as json_module
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fsmtrain.cli.flag_parameters import INPUT, Switch
from fsmtrain.errors import UsageError
from fsmtrain.views.recording.comparison.find_runs import runs_of
from fsmtrain.views.recording.comparison.run_table import run_table
from fsmtrain.views.recording.comparison.text_table import as_json, as_text

Where = Annotated[list[str] | None, Parameter(group=INPUT, metavar="CONDITION", negative=())]


def runs(
    folder: Annotated[Path | None, Parameter(name="FOLDER", group=INPUT)] = None,
    /,
    *,
    runs_dir: Annotated[Path | None, Parameter(name="--runs_dir", group=INPUT, metavar="PATH")] = None,
    columns: Annotated[list[str] | None, Parameter(group=INPUT, metavar="NAME,...", negative=())] = None,
    all: Switch = False,
    where: Where = None,
    sort: Annotated[str | None, Parameter(group=INPUT, metavar="NAME")] = None,
    reverse: Switch = False,
    metric: Annotated[str | None, Parameter(group=INPUT, metavar="NAME")] = None,
    mode: Annotated[Literal["min", "max"] | None, Parameter(group=INPUT)] = None,
    json: Switch = False,
) -> int:
    """List recorded runs: when, how long, how far, the best value, and the flags and hyperparameters in which they differ.

    A run is running, ended (by its own rules, which are named), stopped (on request), failed, or killed.

    For example:

        fsmtrain runs

        fsmtrain runs --columns state,val_loss,lr

        fsmtrain runs sweep --where 'lr<0.1' --where state=ended --sort val_acc --metric val_acc --mode max --reverse

    Args:
        folder: The folder of all runs (default: runs).
        runs_dir: The same, as for the other commands.
        columns: Show these columns: state, steps, epochs, time, started, reason, flags, hyperparameters, or metrics, for which
            their best value stands.
        all: Show everything in which the runs differ, also what follows from what was typed, however wide.
        where: List only runs for which this holds, such as lr<0.1, accumulate_grad_batches=4 or state!=ended. May be repeated.
        sort: Sort by a column, a flag, a hyperparameter, or the best value of a metric (default: the newest first).
        reverse: Turn the order round.
        metric: The metric that ranks the runs (default: the one that they monitor, else val_loss).
        mode: Which of its values is the best (default: what early stopping or the best checkpoint says, else min).
        json: Print all values as JSON.
    """
    if folder is not None and runs_dir is not None:
        raise UsageError(f"runs {folder} --runs_dir {runs_dir}: both are the folder of all runs. Leave one of them out.")
    folder = folder or runs_dir or Path("runs")
    chosen = [name for typed in columns or () for name in typed.split(",") if name]
    found, damaged = runs_of(folder, datetime.now().astimezone())
    table = run_table(found, metric, mode).where(where or ()).in_order(sort, reverse=reverse)
    if json:
        print(json_module.dumps(as_json(table, damaged), indent=2, allow_nan=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        text = as_text(table, damaged, columns=chosen or None, shows_all=all, width=width)
        print(text or f"no run in {folder}{' for which this holds' if found else ''}")
    return 0
