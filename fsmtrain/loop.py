"""`Loop` as users meet it: the torch-free value of `core`, which can also draw itself; and its one-line forms."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from fsmtrain.core import iteration as core
from fsmtrain.core.checking.findings import Report
from fsmtrain.core.guards import Guards
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.sizes import Sizes
from fsmtrain.options import Options
from fsmtrain.views.diagrams.tally import Counts


@frozen
class Loop(core.Loop):
    __doc__ = core.Loop.__doc__

    def draw(self, path: str | os.PathLike[str], *, counts: bool | Counts = False) -> None:
        """Draw the loop's state diagram into a file: ``.svg``, ``.png``, ``.mmd`` for Mermaid, ``.dot`` for Graphviz.

        Args:
            path: The file; its suffix says what is drawn. Pictures need ``pip install 'fsmtrain[draw]'``.
            counts: Whether it is told how often each arrow is taken and each state visited: True as the plan has it, or give
                a plan, a trace or ``machine.tally`` of this loop, the last with the times too.

        Raises:
            OptionsError: No drawing has the file's suffix.
            MissingExtraError: What draws pictures is not installed.
            SizesError: A loader has no length, so that there is no plan to count in.
            UsageError: The counts are those of another loop.
        """
        from fsmtrain.views.diagrams import formats

        formats.write(self, path, counts=formats.chosen(counts, self.plan))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The diagram, in a notebook."""
        from fsmtrain.views.diagrams import formats

        return formats.bundle(self, repr(self))


def plan(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Plan:
    """The exact schedule of a run: ``Loop(options, Sizes(**sizes), guards=guards).plan()``.

    >>> print(plan(Options(max_nb_epochs=2, accumulate_grad_batches=4), train=9, val=[3]).optimizer_steps)
    (6,)
    """
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).plan()


def check(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Report:
    """What is wrong with a run, or probably not meant: ``Loop(options, Sizes(**sizes), guards=guards).check()``."""
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).check()


def draw(
    options: Options,
    path: str | os.PathLike[str],
    *,
    guards: Guards | None = None,
    counts: bool | Counts = False,
    **sizes: Any,
) -> None:
    """The state diagram of a run: ``Loop(options, Sizes(**sizes), guards=guards).draw(path, counts=counts)``."""
    Loop(options, Sizes(**sizes), guards=guards or Guards()).draw(path, counts=counts)
