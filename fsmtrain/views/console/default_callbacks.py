"""What a person sees of a run by itself: the opening, the progress, the table at the end. Each is a callback."""

from __future__ import annotations

from fsmtrain.options import Options
from fsmtrain.views.console.progress import Progress
from fsmtrain.views.console.run_header import RunHeader
from fsmtrain.views.console.run_summary import RunSummary


def default_callbacks(options: Options) -> list[object]:
    """The callbacks that these options ask for, in the order in which they speak."""
    if options.quiet:
        return []
    return [RunHeader(), *([Progress()] if options.progress_bar else []), RunSummary(tells_why=not options.progress_bar)]
