"""JSON as the standard has it: no NaN, bounded in size and depth, so that no text overflows the stack."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 400  # levels of brackets; what the codec writes stays below
_STRINGS_AND_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """One line of JSON, or several; the same bytes for the same value.

    Raises:
        ValueError: A float that is not finite.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent).encode()


def parse(text: bytes) -> Any:
    """What a text of JSON says.

    Raises:
        ValueError: It is no JSON, or deeper than anything that is written here.
    """
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"its brackets are more than {MAX_DEPTH} deep")
    try:
        return json.loads(text.decode(), parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("its brackets are too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None


def _depth(text: bytes) -> int:
    """How deep the brackets are, those in strings left out.

    >>> _depth(b'{"a": [1, "]["]}')
    2
    """
    depth = deepest = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        if match[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif match[0] in b"]}":
            depth -= 1
    return deepest


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")
