"""`html_page`: one HTML page that loads nothing, with the style, the script and the numbers of its charts in it."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.report.elements.charts import ChartData
from fsmtrain.views.recording.report.elements.html import Markup, embed_json, tag

_REPORT = Path(__file__).parents[1]


def html_page(title: str, content: Markup, data: ChartData, *, extra_css: str = "", extra_script: Path | None = None) -> str:
    """Return a page. Its content security policy allows no source but its own script.

    Args:
        title: The title of the browser's tab.
        content: The sections.
        data: The values behind the charts.
        extra_css: Rules after those of ``page.css``.
        extra_script: A script that runs after ``page.js``.
    """
    style = (_REPORT / "page.css").read_text(encoding="utf-8") + extra_css
    script = "\n".join(path.read_text(encoding="utf-8") for path in (_REPORT / "page.js", extra_script) if path is not None)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("main", content),
        tag("script", embed_json(data.to_json()), type="application/json", id="numbers"),
        tag("script", Markup(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def write_page(path: str | os.PathLike[str], content: str) -> None:
    """Write a page to a file. Its folder is created if it is missing.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}.") from error
