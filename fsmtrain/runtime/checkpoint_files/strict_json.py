"""Strict JSON: no NaN, and a bounded depth, so that no file can overflow the stack."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

MAX_DEPTH = 400  # levels of brackets; more than the codec ever writes
_STRINGS_AND_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """Return a value as JSON, in one line, or indented. Equal values give equal bytes.

    Raises:
        ValueError: A float is not finite.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent).encode()


def parse(text: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is not valid JSON, or too deep.
    """
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"its brackets are nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(text.decode(), parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from None


def _depth(text: bytes) -> int:
    """Return how deep the brackets are nested, not counting those in strings.

    >>> _depth(b'{"a": [1, "]["]}')
    2
    """
    matches = (match[0] for match in _STRINGS_AND_BRACKETS.finditer(text))
    steps = (1 if match in b"[{" else -1 for match in matches if match in b"[]{}")
    return max(accumulate(steps), default=0)


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")
