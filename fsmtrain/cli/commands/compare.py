"""The command ``compare``: one HTML page about several recorded runs."""

from __future__ import annotations

import webbrowser
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fsmtrain.cli.commands.runs import Where
from fsmtrain.cli.flag_parameters import INPUT, Switch
from fsmtrain.views.recording.comparison.find_runs import named_runs
from fsmtrain.views.recording.comparison.page import write_comparison
from fsmtrain.views.recording.comparison.run_table import run_table


def compare(
    *names: Annotated[str, Parameter(name="RUN", group=INPUT)],
    out: Annotated[Path, Parameter(group=INPUT, metavar="PATH")] = Path("comparison.html"),
    x: Annotated[Literal["step", "epoch", "time"], Parameter(group=INPUT)] = "step",
    where: Where = None,
    sort: Annotated[str | None, Parameter(group=INPUT, metavar="NAME")] = None,
    reverse: Switch = False,
    metric: Annotated[str | None, Parameter(group=INPUT, metavar="NAME")] = None,
    mode: Annotated[Literal["min", "max"] | None, Parameter(group=INPUT)] = None,
    runs_dir: Annotated[Path, Parameter(name="--runs_dir", group=INPUT, metavar="PATH")] = Path("runs"),
    open: Switch = False,
) -> int:
    """Compare recorded runs on one HTML page: what differs, the best values, and their curves over each other.

    The file opens in any browser, without a network. The path of the page is printed.

    For example:

        fsmtrain compare 3 4 baseline

        fsmtrain compare sweep --where 'lr<0.1' --sort val_loss --x epoch --open

    Args:
        names: Folders of runs, names or numbers of runs in --runs_dir, ranges of numbers (3-7), or a folder of runs
            (default: all of --runs_dir).
        out: The file to write.
        x: What the curves are drawn over.
        where: Compare only runs for which this holds, such as lr<0.1 or state=ended. May be repeated.
        sort: Sort by a column, a flag, a hyperparameter, or the best value of a metric (default: as named, or as they began).
        reverse: Turn the order round.
        metric: The metric that ranks the runs (default: the one that they monitor, else val_loss).
        mode: Which of its values is the best (default: what early stopping or the best checkpoint says, else min).
        runs_dir: Folder of all recorded runs.
        open: Open the page in the browser.
    """
    found, damaged = named_runs(names, runs_dir, datetime.now().astimezone())
    table = run_table(found, metric, mode).where(where or ()).in_order(sort, reverse=reverse)
    write_comparison(table, out, x_axis=x, damaged=damaged)
    print(out)
    if open:
        webbrowser.open(out.resolve().as_uri())
    return 0
