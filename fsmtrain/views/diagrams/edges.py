"""What every diagram of a loop shows, whatever its language: the arrows and their words, the spine, the kinds of states.

Each row of the table is an arrow of its own, but for the requests to stop: an arrow from nearly every state would hide the
others, so one note names them. What the words say is in `labels`; how it all looks, in `mermaid` and `dot`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from itertools import chain, pairwise

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.core.table import Row
from fsmtrain.views.diagrams.diagram_data import Drawable, diagram_data
from fsmtrain.views.diagrams.tally import Tally
from fsmtrain.views.number_format import duration, repeat_count

TITLE = "A training loop"

# The way of a plain batch, which the eye is to follow.
SPINE = tuple(pairwise((State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP, State.ROUND_END, State.FETCH)))

KINDS: dict[State, str] = {
    **dict.fromkeys((State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP), "training"),
    **dict.fromkeys((State.SANITY_VAL, State.VAL_CHECK, State.TEST), "evaluation"),
    State.EARLY_STOP: "decision",
}  # the others, which hold these together, are "structural"

# Strong fills, under white text.
FILLS = {"training": "#2563a8", "evaluation": "#2e7d4f", "decision": "#a8601c"}

NOTE_WIDTH = 30  # characters in a line of the note on requests to stop


@frozen
class Arrow:
    """A row that is drawn as an arrow.

    Attributes:
        index: The row's index in the table.
        row: The row.
        label: Its condition.
        taken: How often it was taken; None where nothing was counted.
        on_spine: Whether a plain batch goes this way.
    """

    index: int
    row: Row
    label: str
    taken: int | None
    on_spine: bool

    def lines(self, width: int) -> list[str]:
        """The words beside the arrow in lines of at most so many characters, the count last."""
        counted = [] if self.taken is None else [repeat_count(self.taken)]
        return [*wrapped(self.label, width), *counted]


def arrows(loop: Drawable, tally: Tally | None) -> list[Arrow]:
    """The rows that are drawn as arrows, in the table's order."""
    spine = {(row.source, row.to): row for row in loop.table if (row.source, row.to) in SPINE}.values()  # of two the last
    said = diagram_data(loop).labels
    return [
        Arrow(index, row, said[index], None if tally is None else tally.taken[index], any(row is one for one in spine))
        for index, row in enumerate(loop.table)
        if row.to is not State.STOPPED
    ]


def stop_request(loop: Drawable, tally: Tally | None) -> list[str]:
    """The other rows, by their states: two rows of one state differ in what is counted alone."""
    sources = list(dict.fromkeys(str(row.source) for row in loop.table if row.to is State.STOPPED))
    counted = [repeat_count(tally.stops)] if tally is not None and tally.stops else []
    return ["stop requested in", *filled(sources, ", ", NOTE_WIDTH), *counted]


def legend(tally: Tally) -> list[str]:
    """What the numbers mean."""
    return ["×: how often" + (f"; %: of {duration(tally.whole)} in all" if tally.seconds else "")]


def kind(state: State) -> str:
    """What a state is for."""
    return KINDS.get(state, "structural")


# ---- lines


def wrapped(label: str, width: int) -> list[str]:
    """The label in lines of at most this many characters, broken before an ``and`` or ``or`` where one is near."""
    lines = []
    for clause in label.split("\n"):
        pieces = re.split(r" (?=(?:and|or) )|(?<=:) ", clause)
        lines += filled(chain.from_iterable(textwrap.wrap(piece, width) for piece in pieces), " ", width)
    return lines


def filled(pieces: Iterable[str], glue: str, width: int) -> list[str]:
    """The pieces in lines of at most this many characters, as far as no piece is longer."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(glue) + len(piece) <= width:
            lines[-1] += glue + piece
        else:
            lines[-1:] = [line + glue.rstrip() for line in lines[-1:]]
            lines.append(piece)
    return lines
