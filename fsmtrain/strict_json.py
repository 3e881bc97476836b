"""Strict JSON: no NaN, and a bounded depth, so that no file can overflow the stack. Parsing takes linear time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

MAX_DEPTH = 400  # levels of brackets; more than the codec ever writes

# From every quote a string matches, be it closed or not, and `*+` never goes back: so no byte is looked at twice.
_STRINGS_AND_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


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
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and any(depth > MAX_DEPTH for depth in _depths(text)):
        raise ValueError(f"its brackets are nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(text.decode(), parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from None


def _depths(text: bytes) -> Iterator[int]:
    """Yield how deep the brackets are nested, after each of them that is not in a string.

    >>> [*_depths(b'{"a": [1, "]["]}')]
    [1, 2, 1, 0]
    """
    matches = (match[0] for match in _STRINGS_AND_BRACKETS.finditer(text))
    return accumulate(1 if match in b"[{" else -1 for match in matches if match in b"[]{}")


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")
