"""Values as strict JSON: NaN and infinity become strings, attrs objects become dicts.

JSON has no NaN, Infinity or -Infinity. They are written as the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which
Python's ``float`` and JavaScript's ``Number`` parse, so a loss that was NaN differs from one that is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs


def json_number(value: float) -> float | str:
    """Return a float that strict JSON can hold, or its name as a string.

    >>> [json_number(value) for value in (0.5, float("nan"), float("inf"), float("-inf"))]
    [0.5, 'NaN', 'Infinity', '-Infinity']
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def to_float(value: object) -> float:
    """Return a value from a run folder as a float; NaN if it is not a number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def to_json_value(value: object) -> Any:
    """Return a value as JSON data. Attrs objects become dicts, unknown objects their ``repr``.

    >>> to_json_value({1: (2.0, None, float("nan")), "x": {3}})
    {'1': [2.0, None, 'NaN'], 'x': '{3}'}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json_value(item) for item in value]
    kind: type = type(value)
    if attrs.has(kind):
        return {f.name: to_json_value(getattr(value, f.name)) for f in attrs.fields(kind) if f.init and f.repr}
    return repr(value)


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as one line of a JSON Lines file, newline included."""
    text = json.dumps(row, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair becomes what JSON escapes it as


def json_document(content: Mapping[str, Any]) -> bytes:
    """Return a JSON file for people: a line per dict entry, and per item of a list of dicts or lists.

    >>> print(json_document({"a": {"b": [1, 2]}, "c": [{"d": 3}, {"d": 4}]}).decode(), end="")
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
    return _format_value(to_json_value(content), "\n").encode(errors="replace") + b"\n"


def _format_value(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        entries = (f"{_dumps(key)}: {_format_value(item, inner)}" for key, item in value.items())
        return "{" + ",".join(inner + entry for entry in entries) + newline + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[" + ",".join(inner + _dumps(item) for item in value) + newline + "]"
    return _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
