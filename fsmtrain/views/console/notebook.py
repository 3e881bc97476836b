"""The live lines of a notebook's cell: an output that is updated in place.

Not `rich.live`, which needs ipywidgets there, and whose output swallows what the training thread prints during a redraw.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


class NotebookLines:
    """Lines in the output of the cell that runs now, from now to `close`."""

    def __init__(self) -> None:
        from IPython.display import display  # present wherever `is_notebook`

        self.console = Console()
        self._drawn = Text()
        self._output = display(self._drawn, display_id=True)

    @property
    def columns(self) -> int:
        """The columns that a line may have."""
        return self.console.width

    def draw(self, text: Text, position: object) -> None:
        """Show a text."""
        if text != self._drawn:
            self._drawn = text
            self._output.update(text)

    def erase(self) -> None:
        """Show nothing."""
        self.draw(Text(), None)

    def close(self, *texts: Text) -> None:
        """Leave these texts, each on lines of its own."""
        self.draw(Text("\n").join(texts), None)
