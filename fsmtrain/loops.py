"""`Loop` as users meet it: the torch-free value of `core`, which can also draw itself; and its one-line forms."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from fsmtrain.core import loop as core
from fsmtrain.core.findings import Report
from fsmtrain.core.guards import Guards
from fsmtrain.core.plan import Plan
from fsmtrain.core.sizes import Sizes
from fsmtrain.options import Options
from fsmtrain.views import diagram


@frozen
class Loop(core.Loop):
    __doc__ = core.Loop.__doc__

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Draw the loop's state diagram into a file: ``.mmd`` for Mermaid, ``.dot`` for Graphviz.

        Raises:
            OptionsError: No drawing has the file's suffix.
        """
        diagram.write(self, path)


def plan(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Plan:
    """The exact schedule of a run: ``Loop(options, Sizes(**sizes), guards=guards).plan()``.

    >>> print(plan(Options(max_nb_epochs=2, accumulate_grad_batches=4), train=9, val=[3]).optimizer_steps)
    (6,)
    """
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).plan()


def check(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Report:
    """What is wrong with a run, or probably not meant: ``Loop(options, Sizes(**sizes), guards=guards).check()``."""
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).check()


def draw(options: Options, path: str | os.PathLike[str], *, guards: Guards | None = None, **sizes: Any) -> None:
    """The state diagram of a run: ``Loop(options, Sizes(**sizes), guards=guards).draw(path)``."""
    Loop(options, Sizes(**sizes), guards=guards or Guards()).draw(path)
