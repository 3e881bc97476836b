"""Values as strict JSON, which every language reads, and as cells of a CSV file.

JSON has no word for the three numbers that are none. They are written as the texts ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``, which Python's ``float`` and JavaScript's ``Number`` both take, so that a loss that was NaN can be told from
one that was not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs


def number(value: float) -> float | str:
    """A number as JSON can have it.

    >>> [number(value) for value in (0.5, float("nan"), float("inf"), float("-inf"))]
    [0.5, 'NaN', 'Infinity', '-Infinity']
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain(value: object) -> Any:
    """A value as plain data. Keys become texts, and attrs objects mappings; what is unknown is written as it prints.

    >>> plain({1: (2.0, None, float("nan")), "x": {3}})
    {'1': [2.0, None, 'NaN'], 'x': '{3}'}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    kind: type = type(value)
    if attrs.has(kind):
        return {f.name: plain(getattr(value, f.name)) for f in attrs.fields(kind) if f.init and f.repr}
    return repr(value)


def line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(row, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"


def document(content: Mapping[str, Any]) -> bytes:
    """Content as a JSON file for people: an entry a line, and of a list that is no mere row of values an item a line.

    >>> print(document({"a": {"b": [1, 2]}, "c": [{"d": 3}, {"d": 4}]}).decode(), end="")
    {
      "a": {
        "b": [1, 2]
      },
      "c": [
        {"d": 3},
        {"d": 4}
      ]
    }
    """
    return _laid_out(plain(content), "\n").encode(errors="replace") + b"\n"


def _laid_out(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        entries = (f"{_text(key)}: {_laid_out(item, inner)}" for key, item in value.items())
        return "{" + ",".join(inner + entry for entry in entries) + newline + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[" + ",".join(inner + _text(item) for item in value) + newline + "]"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
