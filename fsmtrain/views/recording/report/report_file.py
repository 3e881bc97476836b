"""`ReportFile`: a report that has been written, which a notebook shows inline."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from fsmtrain.views.recording.report.elements.html import tag

HEIGHT = "640px"  # of the frame in a notebook, whose lower corner changes it


@frozen
class ReportFile:
    """A report in a file. As the last line of a notebook's cell it is shown there.

    Attributes:
        path: The HTML file.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str | None:
        """Return the page in a frame that runs its scripts and reaches nothing else; None if the file is no longer there."""
        try:
            page = self.path.read_text(encoding="utf-8")
        except OSError:
            return None
        style = f"width:100%;height:{HEIGHT};border:1px solid #8886;border-radius:6px;box-sizing:border-box;resize:vertical"
        where = tag("div", str(self.path), style="font-size:13px;opacity:0.75;padding:4px 0")
        return where + tag("iframe", srcdoc=page, sandbox="allow-scripts", title="report", style=style)
