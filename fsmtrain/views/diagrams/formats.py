"""The formats in which a state diagram can be written to a file, by suffix, or shown in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.errors import MissingExtraError, OptionsError
from fsmtrain.views.diagrams.diagram_data import Drawable
from fsmtrain.views.diagrams.dot import dot
from fsmtrain.views.diagrams.mermaid import mermaid
from fsmtrain.views.diagrams.svg_png import png, svg
from fsmtrain.views.diagrams.tally import Counts, Tally, tally_of

__all__ = ["FORMATS", "dot", "mermaid", "mime_bundle", "png", "resolve_counts", "svg", "write_diagram"]

# Suffix -> what draws it. A new format is one module, and one entry here.
FORMATS: dict[str, Callable[[Drawable, Tally | None], bytes | str]] = {".svg": svg, ".png": png, ".mmd": mermaid, ".dot": dot}


def write_diagram(loop: LoopSpec, path: str | PathLike[str], *, counts: Counts | None = None) -> None:
    """Draw a loop into a file, in the format that its suffix selects.

    Raises:
        OptionsError: No format has this suffix.
        MissingExtraError: The format is a picture, and the extra ``draw`` is not installed.
        UsageError: The counts belong to another loop.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(
            f"path={str(path)!r}: the suffix selects the format, and must be one of {', '.join(FORMATS)}. "
            f"For a picture pass {str(path.with_suffix('.svg'))!r}."
        )
    content = FORMATS[path.suffix](loop, None if counts is None else tally_of(counts, loop))
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def mime_bundle(loop: LoopSpec, text: str, *, counts: Counts | None = None) -> dict[str, Any]:
    """Return the loop for a notebook, by MIME type: a picture, or Mermaid text if the extra is missing; and this plain text."""
    tally = None if counts is None else tally_of(counts, loop)
    try:
        return {"image/svg+xml": svg(loop, tally), "text/plain": text}
    except MissingExtraError:
        return {"text/markdown": f"```mermaid\n{mermaid(loop, tally)}```\n", "text/plain": text}


def resolve_counts(counts: bool | Counts, own: Callable[[], Counts]) -> Counts | None:
    """Return the counts that a user asked for with ``counts=``: True means one's own, False none."""
    if isinstance(counts, bool):
        return own() if counts else None
    return counts
