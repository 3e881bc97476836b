"""`DiagramData`: everything that a diagram shows of a loop, as plain values.

A run folder stores them, so that the diagram can be drawn later, in another process, without the user's guards.
"""

from __future__ import annotations

from attrs import frozen

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.transition_table import Table
from fsmtrain.views.diagrams.edge_labels import edge_labels
from fsmtrain.views.non_defaults import non_defaults


@frozen
class DiagramData:
    """A table to be drawn.

    Attributes:
        table: Its rows; only their sources and targets are used.
        labels: The condition of each row, in words.
        heading: How the loop differs from a default one.
    """

    table: Table
    labels: tuple[str, ...]
    heading: tuple[str, ...] = ()


Drawable = LoopSpec | DiagramData


def diagram_data(loop: Drawable) -> DiagramData:
    """Return what a diagram shows of a loop."""
    return loop if isinstance(loop, DiagramData) else DiagramData(loop.table, edge_labels(loop), non_defaults(loop))
