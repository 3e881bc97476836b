"""Whether this process is the kernel of a notebook, and where lines about a run are printed there. Imports no rich."""

from __future__ import annotations

import builtins

from fsmtrain.views.console.stderr import print_stderr


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    if not hasattr(builtins, "get_ipython"):
        return False
    from rich.console import Console  # only in IPython: a slow import

    return Console().is_jupyter


def print_about_run(text: str) -> None:
    """Print lines to standard error; in a notebook, where that looks like an error, to the output of the cell."""
    if is_notebook():
        print(text)
    else:
        print_stderr(text)
