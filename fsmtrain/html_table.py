"""Tables as HTML, for the cells of a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(rows: Iterable[Sequence[object]], headings: Sequence[str] = ()) -> str:
    """Return a table; each value is escaped, and the first cell of each row is its name.

    >>> html_table([("loss", 0.25)], ["metric", "value"])
    '<table><thead><tr><th>metric</th><th>value</th></tr></thead><tbody><tr><th>loss</th><td>0.25</td></tr></tbody></table>'
    """
    head = f"<thead><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in headings)}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _cells(row: Sequence[object]) -> Iterable[str]:
    for place, value in enumerate(row):
        name = "td" if place else "th"
        text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
        style = ' style="text-align:left;white-space:pre-wrap"' if place and isinstance(value, str) else ""
        yield f"<{name}{style}>{html.escape(text)}</{name}>"
