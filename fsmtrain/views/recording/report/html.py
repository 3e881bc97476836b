"""Elements of HTML as text. What is no `Markup` is escaped: nothing from a run's folder can be taken for a part of the page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"meta", "link"})
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str]


def text(value: object) -> Markup:
    """A value as text, whatever it holds.

    >>> text("</script> & 'x'"), text("a\\0b")
    ('&lt;/script&gt; &amp; &#x27;x&#x27;', 'a\ufffdb')
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(printable(value)))


def printable(value: object) -> str:
    """A value as it prints, without characters that no page can hold."""
    return UNPRINTABLE.sub("\ufffd", str(value))


def joined(parts: Content, glue: str = "") -> Markup:
    """Parts one after the other."""
    return text(parts) if isinstance(parts, str) else Markup(glue.join(map(text, parts)))


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """An element. ``class_`` is the attribute ``class``, and an underscore a dash; of False and None there is no attribute.

    >>> tag("p", "a < b", class_="sum", data_of=3, hidden=True, title=None)
    '<p class="sum" data-of="3" hidden>a &lt; b</p>'
    """
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    given = [(key, value) for key, value in given if value is not None and value is not False]
    written = "".join(f" {key}" if value is True else f' {key}="{text(value)}"' for key, value in given)
    inside = "".join(map(joined, content))
    return Markup(f"<{name}{written}>") if name in VOID else Markup(f"<{name}{written}>{inside}</{name}>")


def data(value: Any) -> Markup:
    """Plain data as JSON that can stand in a ``<script>``.

    >>> data({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
