"""State diagrams of one configuration's table: as text for Mermaid and Graphviz, as pictures, and in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.errors import MissingExtraError, OptionsError
from fsmtrain.views.diagrams.dot import dot
from fsmtrain.views.diagrams.mermaid import mermaid
from fsmtrain.views.diagrams.svg_png import png, svg
from fsmtrain.views.diagrams.tally import Counts, tally_of

__all__ = ["FORMATS", "bundle", "chosen", "dot", "mermaid", "png", "svg", "write"]


def _encoded(draw: Callable[..., str]) -> Callable[..., bytes]:
    return lambda loop, tally: draw(loop, tally).encode()


# What each suffix draws.
FORMATS: dict[str, Callable[..., bytes]] = {
    ".svg": _encoded(svg),
    ".png": png,
    ".mmd": _encoded(mermaid),
    ".dot": _encoded(dot),
}


def write(loop: LoopSpec, path: str | PathLike[str], *, counts: Counts | None = None) -> None:
    """Draw the loop into a file, in the format that its suffix asks for.

    Raises:
        OptionsError: No drawing has this suffix.
        MissingExtraError: A picture was asked for, and what draws pictures is not installed.
        UsageError: The counts are those of another loop.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(
            f"path={str(path)!r}: the suffix says what is drawn, and those that work are {', '.join(FORMATS)}. "
            f"For a picture pass {str(path.with_suffix('.svg'))!r}."
        )
    path.write_bytes(FORMATS[path.suffix](loop, None if counts is None else tally_of(counts, loop)))


def bundle(loop: LoopSpec, text: str, *, counts: Counts | None = None) -> dict[str, Any]:
    """The loop as notebooks show it, by MIME type: a picture, or where that is not possible Mermaid text; and this text."""
    tally = None if counts is None else tally_of(counts, loop)
    try:
        return {"image/svg+xml": svg(loop, tally), "text/plain": text}
    except MissingExtraError:
        return {"text/markdown": f"```mermaid\n{mermaid(loop, tally)}```\n", "text/plain": text}


def chosen(counts: bool | Counts, own: Callable[[], Counts]) -> Counts | None:
    """The counts that a user has asked for: those given, for True one's own, for False none."""
    if isinstance(counts, bool):
        return own() if counts else None
    return counts
