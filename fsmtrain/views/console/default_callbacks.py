"""The callbacks that print a run on the console by default: header, progress, summary."""

from __future__ import annotations

from fsmtrain.options import Options
from fsmtrain.views.console.progress_callback import Progress
from fsmtrain.views.console.run_header import RunHeader
from fsmtrain.views.console.run_summary import RunSummary


def default_callbacks(options: Options) -> list[object]:
    """Return the callbacks that these options ask for, in the order in which they print."""
    if options.quiet:
        return []
    progress = [Progress()] if options.progress_bar else []
    return [RunHeader(), *progress, RunSummary(shows_stop_reason=not options.progress_bar)]
