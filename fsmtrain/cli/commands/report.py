"""The command ``report``: write the HTML report of a recorded run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fsmtrain.cli.flag_parameters import INPUT, Switch
from fsmtrain.views.recording.read_run_folder import find_run_folder
from fsmtrain.views.recording.report.page import write_report


def report(
    run: Annotated[str | None, Parameter(name="RUN", group=INPUT)] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(group=INPUT, metavar="PATH")] = None,
    runs_dir: Annotated[Path, Parameter(name="--runs_dir", group=INPUT, metavar="PATH")] = Path("runs"),
    open: Switch = False,
) -> int:
    """Write a report of a run as one HTML file, and print its path.

    The run may be finished, still running, or killed. The file opens in any browser, without a network.

    For example:

        fsmtrain report

        fsmtrain report runs/baseline --out baseline.html --open

    Args:
        run: A run's folder, or its name or number in --runs_dir (default: the run that began last).
        out: The file to write (default: report.html in the run's folder).
        runs_dir: Folder of all recorded runs.
        open: Open the report in the browser.
    """
    folder = find_run_folder(run, runs_dir)
    path = folder / "report.html" if out is None else out
    write_report(folder, path)
    print(path)
    if open:
        webbrowser.open(path.resolve().as_uri())
    return 0
