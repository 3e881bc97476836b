"""HTML elements as text. Everything except `Markup` is escaped.

So nothing from a run folder can become part of the page's structure.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

VOID_ELEMENTS = frozenset({"meta", "link"})
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str]


def escape(value: object) -> Markup:
    """Return a value as escaped text. `Markup` is returned unchanged.

    >>> escape("</script> & 'x'"), escape("a\\0b")
    ('&lt;/script&gt; &amp; &#x27;x&#x27;', 'a\ufffdb')
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(printable(value)))


def printable(value: object) -> str:
    """Return ``str(value)`` without the characters that HTML forbids."""
    return UNPRINTABLE.sub("\ufffd", str(value))


def join(parts: Content, separator: str = "") -> Markup:
    """Join parts, each escaped."""
    return escape(parts) if isinstance(parts, str) else Markup(separator.join(map(escape, parts)))


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """Return an element. Underscores in attribute names become dashes, ``class_`` is ``class``.

    An attribute that is False or None is omitted.

    >>> tag("p", "a < b", class_="sum", data_of=3, hidden=True, title=None)
    '<p class="sum" data-of="3" hidden>a &lt; b</p>'
    """
    named = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    present = [(key, value) for key, value in named if value is not None and value is not False]
    attribute_text = "".join(f" {key}" if value is True else f' {key}="{escape(value)}"' for key, value in present)
    inside = "".join(map(join, content))
    return Markup(f"<{name}{attribute_text}>{inside}" + ("" if name in VOID_ELEMENTS else f"</{name}>"))


def table_element(headings: Iterable[str], rows: Iterable[Markup], *, class_: str | None = None) -> Markup:
    """Return a table that scrolls sideways if it is wider than the page.

    Args:
        headings: The names of the columns, or cells of the head row; none for a table without one.
        rows: The rows.
        class_: The class of the table.
    """
    head = join(name if isinstance(name, Markup) else tag("th", name, scope="col") for name in headings)
    parts = [tag("thead", tag("tr", head))] if head else []
    return tag("div", tag("table", *parts, tag("tbody", join(rows)), class_=class_), class_="scroll")


def paragraphs(sentences: Iterable[str], *, class_: str | None = None) -> Markup:
    """Return a paragraph per sentence. Empty ones are left out."""
    return join(tag("p", sentence, class_=class_) for sentence in sentences if sentence)


def embed_json(value: Any) -> Markup:
    """Return data as JSON that can stand inside of ``<script>``.

    >>> embed_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
