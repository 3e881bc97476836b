"""State diagrams in Graphviz' DOT language, and so the shapes and colours of the pictures that are made of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise

from fsmtrain.core.states import State
from fsmtrain.views.diagrams.diagram_data import DiagramData, Drawable, diagram_data
from fsmtrain.views.diagrams.edges import FILLS, TITLE, Arrow, arrows, filled, kind, legend, stop_request
from fsmtrain.views.diagrams.tally import Tally, told

# The states that stand below each other in one line, from the beginning of a run to its end; the others stand beside it.
MIDDLE = (
    State.START,
    State.SANITY_VAL,
    State.FETCH,
    State.TRAIN_BATCH,
    State.BACKWARD,
    State.STEP,
    State.ROUND_END,
    State.EPOCH_END,
    State.EARLY_STOP,
    State.TEST,
    State.DONE,
)

LABEL, HEADING = 30, 64  # characters in a line

# A sheet of its own, so that a picture can be read on a white page and on a black one.
SHEET, INK, LINE, ACCENT, HEAT = "#ffffff", "#24292f", "#6e7781", "#3b82d0", "#e8590c"
FONT = {"fontname": "Helvetica", "fontcolor": INK}
GRAPH = {
    **FONT,
    "bgcolor": SHEET,
    "pad": "0.25",
    "labelloc": "t",
    "fontsize": "13",
    "rankdir": "TB",
    "newrank": "true",  # which lets an arrow that is written later be the one that points up
    "nodesep": "0.3",
    "ranksep": "0.4",
}
NODE = {
    **FONT,
    "shape": "box",
    "style": "rounded,filled",
    "fillcolor": "#f6f8fa",
    "color": LINE,
    "fontsize": "13",
    "height": "0.42",
}
EDGE = {**FONT, "color": LINE, "fontsize": "11", "arrowsize": "0.8"}
FINAL = {"shape": "doublecircle", "style": "filled", "fontsize": "11", "margin": "0.04"}
NOTE = {"shape": "note", "style": "filled", "fontsize": "11"}

THIN, THICK = 1.0, 2.4  # the width of an arrow, and of one on the spine
RING = 7.0  # the width of the ring around a state that takes all the time


def dot(loop: Drawable, tally: Tally | None = None) -> str:
    """The loop in Graphviz' DOT language.

    A state has the id ``state-NAME`` and its kind as class, a row's arrow ``edge-INDEX``: so they are found again in an SVG.
    """
    return "\n".join(_lines(diagram_data(loop), tally)) + "\n"


def _lines(loop: DiagramData, tally: Tally | None) -> Iterator[str]:
    states = loop.table.states
    title = [TITLE, *filled(loop.heading, ", ", HEADING), *(legend(tally) if tally else [])]
    yield "digraph training_loop {"
    yield f"    graph {_attributes(GRAPH, label=_text(title))}"
    yield f"    node {_attributes(NODE)}"
    yield f"    edge {_attributes(EDGE)}"
    yield from (f"    {state} {_attributes(_state(state, tally))}" for state in states)
    yield f'    begin [id="begin", shape=point, width=0.16, color="{INK}", fillcolor="{INK}"]'
    yield f'    begin -> {State.START} [id="edge-begin"]'
    middle = set(pairwise(state for state in MIDDLE if state in states))
    for arrow in arrows(loop, tally):
        text = "".join(rf"  {_escaped(line)}  \l" for line in arrow.lines(LABEL))  # beside the arrow, so to the left
        yield f"    {arrow.row.source} -> {arrow.row.to} {_attributes(_arrow(arrow, middle), label=text)}"
    if State.STOPPED in states:
        yield f"    stop_request {_attributes({'id': 'stop-request', **NOTE}, label=_text(stop_request(loop, tally)))}"
        yield f'    stop_request -> {State.STOPPED} [id="edge-stop", style=dashed]'
    last = [*(str(state) for state in states if state.is_final), *(["stop_request"] if State.STOPPED in states else [])]
    yield f"    {{rank=sink; {'; '.join(last)}}}"
    yield "}"


def _state(state: State, tally: Tally | None) -> dict[str, str]:
    name = kind(state)
    look = {"id": f"state-{state}", "class": name}
    if name in FILLS:
        look |= {"fillcolor": FILLS[name], "color": FILLS[name], "fontcolor": "#ffffff"}
    if state.is_final:
        look |= FINAL
    if state in MIDDLE:
        look["group"] = "middle"  # a group stands in one line
    if tally is not None:
        look["label"] = _text([str(state), told(tally, state)])
        if (share := tally.share(state)) >= 0.005:
            look |= {"color": HEAT, "penwidth": f"{1 + (RING - 1) * share:.1f}"}
    return look


def _arrow(arrow: Arrow, middle: Collection[tuple[State, State]]) -> dict[str, str]:
    look = {"id": f"edge-{arrow.index}"}
    if arrow.on_spine:
        look |= {"class": "spine", "color": ACCENT}
    if (arrow.row.source, arrow.row.to) in middle:
        look["weight"] = "20" if arrow.on_spine else "8"
    elif arrow.on_spine:
        look["weight"] = "0"  # the way back
    if arrow.taken == 0:
        return {**look, "style": "dashed", "penwidth": f"{THIN}"}
    width = THICK if arrow.on_spine else THIN
    if arrow.taken is not None:
        width = THIN + 0.8 * math.log10(arrow.taken)
    return look if width == THIN else {**look, "penwidth": f"{width:.1f}"}


def _attributes(attributes: Mapping[str, str], *, label: str = "") -> str:
    both = {**attributes, "label": label} if label else attributes
    written = ", ".join(f'{name}="{value}"' for name, value in both.items())
    return f"[{written}]"


def _text(lines: Iterable[str]) -> str:
    return r"\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("\\", r"\\").replace('"', r"\"")
