"""`DiagramData`: what a diagram shows of a loop, as plain values.

A run's folder holds these too, so that its diagram can be drawn where the loop itself is gone: in another process, without the
user's guards.
"""

from __future__ import annotations

from attrs import frozen

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.table import Table
from fsmtrain.views.diagrams.edge_labels import labels
from fsmtrain.views.non_defaults import non_defaults


@frozen
class DiagramData:
    """A table to be drawn.

    Attributes:
        table: Its rows; of each only source and target are looked at.
        labels: The condition of each row, in words.
        heading: What is told of the loop as a whole.
    """

    table: Table
    labels: tuple[str, ...]
    heading: tuple[str, ...] = ()


Drawable = LoopSpec | DiagramData


def diagram_data(loop: Drawable) -> DiagramData:
    """What a diagram shows of a loop."""
    return loop if isinstance(loop, DiagramData) else DiagramData(loop.table, labels(loop), non_defaults(loop))
