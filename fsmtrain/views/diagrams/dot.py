"""The Graphviz format: state diagrams in the DOT language, and so the shapes and colours of SVG and PNG."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise

from fsmtrain.core.states import State
from fsmtrain.views.diagrams.diagram_data import DiagramData, Drawable, diagram_data
from fsmtrain.views.diagrams.edges import FILLS, TITLE, Edge, colour_class, count_legend, drawn_edges, join_in_lines, stop_note
from fsmtrain.views.diagrams.tally import Tally, state_numbers

LABEL_COLUMNS, HEADING_COLUMNS = 30, 64

# A picture has a background of its own, so that it can be read on a white page and on a black one.
BACKGROUND, INK, LINE, ACCENT, HEAT = "#ffffff", "#24292f", "#6e7781", "#3b82d0", "#e8590c"
FONT = {"fontname": "Helvetica", "fontcolor": INK}
GRAPH = {
    **FONT, "bgcolor": BACKGROUND, "pad": "0.25", "labelloc": "t", "fontsize": "13", "rankdir": "TB",
    "newrank": "true",  # lets the edge that is written later be the one that points up
    "nodesep": "0.3", "ranksep": "0.4",
}  # fmt: skip
BOX = {"shape": "box", "style": "rounded,filled", "fillcolor": "#f6f8fa"}
NODE = {**FONT, **BOX, "color": LINE, "fontsize": "13", "height": "0.42"}
EDGE = {**FONT, "color": LINE, "fontsize": "11", "arrowsize": "0.8"}
FINAL = {"shape": "doublecircle", "style": "filled", "fontsize": "11", "margin": "0.04"}
NOTE = {"shape": "note", "style": "filled", "fontsize": "11"}

EDGE_WIDTH, SPINE_WIDTH = 1.0, 2.4
MAX_BORDER_WIDTH = 7.0  # of a state that takes all of the time


def dot(loop: Drawable, tally: Tally | None = None) -> str:
    """Return the loop in the DOT language.

    A state has the id ``state-NAME`` and its kind as class, the edge of a row ``edge-INDEX``, so that an SVG can be searched.
    """
    return "\n".join(_lines(diagram_data(loop), tally)) + "\n"


def _lines(loop: DiagramData, tally: Tally | None) -> Iterator[str]:
    states = loop.table.states
    title = [TITLE, *join_in_lines(loop.heading, ", ", HEADING_COLUMNS), *(count_legend(tally) if tally else [])]
    yield "digraph training_loop {"
    yield f"    graph {_attributes(GRAPH, label=_text(title))}"
    yield f"    node {_attributes(NODE)}"
    yield f"    edge {_attributes(EDGE)}"
    yield from (f"    {state} {_attributes(_state(state, tally))}" for state in states)
    yield f'    begin [id="begin", shape=point, width=0.16, color="{INK}", fillcolor="{INK}"]'
    yield f'    begin -> {State.START} [id="edge-begin"]'
    central = set(pairwise(state for state in states if state.info.is_central))
    for edge in drawn_edges(loop, tally):
        text = "".join(rf"  {_escape(line)}  \l" for line in edge.lines(LABEL_COLUMNS))  # beside the edge, so to the left
        yield f"    {edge.row.source} -> {edge.row.to} {_attributes(_edge(edge, central), label=text)}"
    if State.STOPPED in states:
        yield f"    stop_request {_attributes({'id': 'stop-request', **NOTE}, label=_text(stop_note(loop, tally)))}"
        yield f'    stop_request -> {State.STOPPED} [id="edge-stop", style=dashed]'
    last = [*(str(state) for state in states if state.is_final), *(["stop_request"] if State.STOPPED in states else [])]
    yield f"    {{rank=sink; {'; '.join(last)}}}"
    yield "}"


def _state(state: State, tally: Tally | None) -> dict[str, str]:
    kind = colour_class(state)
    attributes = {"id": f"state-{state}", "class": kind}
    if kind in FILLS:
        attributes |= {"fillcolor": FILLS[kind], "color": FILLS[kind], "fontcolor": "#ffffff"}
    if state.is_final:
        attributes |= FINAL
    if state.info.is_central:
        attributes["group"] = "middle"  # Graphviz draws a group in one line
    if tally is not None:
        attributes["label"] = _text([str(state), state_numbers(tally, state)])
        if (share := tally.time_share(state)) >= 0.005:
            attributes |= {"color": HEAT, "penwidth": f"{1 + (MAX_BORDER_WIDTH - 1) * share:.1f}"}
    return attributes


def _edge(edge: Edge, central: Collection[tuple[State, State]]) -> dict[str, str]:
    attributes = {"id": f"edge-{edge.index}"}
    if edge.is_on_spine:
        attributes |= {"class": "spine", "color": ACCENT}
    if (edge.row.source, edge.row.to) in central:
        attributes["weight"] = "20" if edge.is_on_spine else "8"
    elif edge.is_on_spine:
        attributes["weight"] = "0"  # the way back up
    if edge.count == 0:
        return {**attributes, "style": "dashed", "penwidth": f"{EDGE_WIDTH}"}
    width = SPINE_WIDTH if edge.is_on_spine else EDGE_WIDTH
    if edge.count is not None:
        width = EDGE_WIDTH + 0.8 * math.log10(edge.count)
    return attributes if width == EDGE_WIDTH else {**attributes, "penwidth": f"{width:.1f}"}


def _attributes(attributes: Mapping[str, str], *, label: str = "") -> str:
    labelled = {**attributes, "label": label} if label else attributes
    pairs = (f'{name}="{value}"' for name, value in labelled.items())
    return f"[{', '.join(pairs)}]"


def _text(lines: Iterable[str]) -> str:
    return r"\n".join(map(_escape, lines))


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("\\", r"\\").replace('"', r"\"")
