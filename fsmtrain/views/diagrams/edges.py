"""What all formats of a diagram share: the edges and their text, the main path, the note on stop requests, the colours.

Each row of the table is an edge of its own, except those of stop requests: edges from nearly every state would hide the
others, so one note lists their states. `edge_labels` writes the labels; `mermaid` and `dot` decide how it looks.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from itertools import chain, pairwise

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Row
from fsmtrain.views.diagrams.diagram_data import Drawable, diagram_data
from fsmtrain.views.diagrams.tally import Tally
from fsmtrain.views.number_format import duration, repeat_count

TITLE = "A training loop"

# The main path: that of a batch after which nothing else is due.
SPINE = tuple(pairwise((State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP, State.ROUND_END, State.FETCH)))

# Fills of the kinds of states, strong enough for white text. States of other kinds have no colour.
FILLS = {"training": "#2563a8", "evaluation": "#2e7d4f", "decision": "#a8601c"}

NOTE_COLUMNS = 30  # of the note on stop requests


@frozen
class Edge:
    """A row that is drawn as an edge.

    Attributes:
        index: The row's index in the table.
        row: The row.
        label: Its condition, in words.
        count: How often it was taken; None if nothing was counted.
        is_on_spine: Whether it is on the main path.
    """

    index: int
    row: Row
    label: str
    count: int | None
    is_on_spine: bool

    def lines(self, columns: int) -> list[str]:
        """Return the text of the edge in lines of at most so many characters, the count last."""
        return [*wrap_label(self.label, columns), *([] if self.count is None else [repeat_count(self.count)])]


def drawn_edges(loop: Drawable, tally: Tally | None) -> list[Edge]:
    """Return the edges, in the order of the table."""
    spine = {(row.source, row.to): row for row in loop.table if (row.source, row.to) in SPINE}.values()  # the last of two
    labels = diagram_data(loop).labels
    return [
        Edge(index, row, labels[index], None if tally is None else tally.row_counts[index], any(row is each for each in spine))
        for index, row in enumerate(loop.table)
        if row.to is not State.STOPPED
    ]


def stop_note(loop: Drawable, tally: Tally | None) -> list[str]:
    """Return the lines of the note that lists the states in which a stop request ends the run."""
    sources = list(dict.fromkeys(str(row.source) for row in loop.table if row.to is State.STOPPED))
    counts = [repeat_count(tally.stop_count)] if tally is not None and tally.stop_count else []
    return ["stop requested in", *join_in_lines(sources, ", ", NOTE_COLUMNS), *counts]


def count_legend(tally: Tally) -> list[str]:
    """Return what the numbers mean."""
    return ["×: how often" + (f"; %: of {duration(tally.total_seconds)} in the states" if tally.seconds else "")]


def colour_class(state: State) -> str:
    """Return the kind of a state if that has a colour, else "structural"."""
    return state.info.kind if state.info.kind in FILLS else "structural"


# ---- lines


def wrap_label(label: str, columns: int) -> list[str]:
    """Return a label in lines of at most this many characters, broken before an ``and`` or ``or`` if one is near."""
    lines = []
    for clause in label.split("\n"):
        pieces = re.split(r" (?=(?:and|or) )|(?<=:) ", clause)
        lines += join_in_lines(chain.from_iterable(textwrap.wrap(piece, columns) for piece in pieces), " ", columns)
    return lines


def join_in_lines(pieces: Iterable[str], glue: str, columns: int) -> list[str]:
    """Return pieces joined in lines of at most this many characters; a longer piece has a line of its own."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(glue) + len(piece) <= columns:
            lines[-1] += glue + piece
        else:
            lines[-1:] = [line + glue.rstrip() for line in lines[-1:]]
            lines.append(piece)
    return lines
