"""Read a value that was typed: a number, true, false, none, a list, a dict, or a text. Nothing is evaluated.

One reader for flags, hyperparameters and YAML files. What looks like a value and is none, such as ``1e-3x`` or ``no``, is an
error: as a text it would be taken for something else later, since every text is true. In quotes anything is a text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fsmtrain.errors import UsageError

Value = bool | int | float | str | None | list[Any] | dict[Any, Any]

WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}
_OTHER_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # bools elsewhere
_OPENING = {"]": "[", "}": "{"}

_INT = re.compile(r"[+-]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+|0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)
_BEGINS_LIKE_A_NUMBER = re.compile(r"[-+\u2212\u2013\s]*\.?\d")  # the minus and the dash of printed text included
_SPACES = re.compile(r"\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL)


def read_value(text: str) -> Value:
    """Return the value of a text.

    >>> [read_value(text) for text in ("3", "1e-3", "true", "None", "adam")]
    [3, 0.001, True, None, 'adam']
    >>> read_value("[0.9, 0.99]"), read_value('{sizes: [8, 16], act: relu}'), read_value('"3"')
    ([0.9, 0.99], {'sizes': [8, 16], 'act': 'relu'}, '3')
    >>> read_value("1e-3x")
    Traceback (most recent call last):
    fsmtrain.errors.UsageError: 1e-3x begins like a number and is none.

    Raises:
        UsageError: It looks like a value and is none.
    """
    value, end = read_prefix(text)
    if text[end:].strip():
        raise UsageError(f"{text[end:].strip()} follows after {text[:end].strip()}.")
    return value


def read_prefix(text: str, begin: int = 0, end: re.Pattern[str] | None = None) -> tuple[Value, int]:
    """Return the value that begins at an index, and the index behind it.

    Args:
        text: A text with the value in it.
        begin: The index at which the value begins, spaces included.
        end: What ends a value without brackets and quotes; None if only the end of the text does.

    Raises:
        UsageError: What is there looks like a value and is none.
    """
    try:
        return _read_prefix(text, begin, end)
    except RecursionError:
        raise UsageError(f"{text[begin : begin + 9]}... is nested too deep.") from None


def _read_prefix(text: str, begin: int, end: re.Pattern[str] | None) -> tuple[Value, int]:
    begin = _SPACES.match(text, begin).end()  # type: ignore[union-attr]  # it matches nothing, too
    first = text[begin : begin + 1]
    if first == "[":
        return _read_list(text, begin)
    if first == "{":
        return _read_dict(text, begin)
    if first in ('"', "'") and first:
        quoted = _QUOTED.match(text, begin)
        if quoted is None:
            raise UsageError(f"{text[begin:]} has no closing {first}.")
        return _unquoted(quoted.group()), quoted.end()
    behind = end.search(text, begin) if end is not None else None
    stop = len(text) if behind is None else behind.start()
    return read_word(text[begin:stop].strip()), stop


def read_word(word: str) -> bool | int | float | str | None:
    """Return the value of a text without brackets and quotes.

    Raises:
        UsageError: It looks like a value and is none.
    """
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    if _INT.fullmatch(word):
        try:
            return int(word.replace("_", ""), 0)
        except ValueError as error:  # Python's limit of digits
            raise UsageError(f"{word[:9]}... is too long for an int.") from error
    if _FLOAT.fullmatch(word):
        number = float(word)
        if math.isinf(number):
            raise UsageError(f"{word} is too large for a float.")
        return number
    if _NOT_FINITE.fullmatch(word):
        return float(word)
    if not word:
        raise UsageError('a value is missing. An empty text is "".')
    if word.lower() in _OTHER_SWITCHES:
        raise UsageError(f"{word} is neither true nor false. Write {_OTHER_SWITCHES[word.lower()]}.")
    if _BEGINS_LIKE_A_NUMBER.match(word):
        of_list = f" A list needs brackets: [{word}]." if "," in word else ""
        raise UsageError(f"{word} begins like a number and is none.{of_list}")
    if word.startswith("(") or (word[-1] in _OPENING and _OPENING[word[-1]] not in word):
        raise UsageError(f"{word} is no list. Write [{word.strip('(){}[]')}].")
    return word


def _read_list(text: str, begin: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    at = begin + 1
    while not (closing := re.compile(r"\s*\]").match(text, at)):
        item, at = _read_prefix(text, at, _END_OF_ITEM)
        items.append(item)
        at = _behind_comma(text, begin, at, "]")
    return items, closing.end()


def _read_dict(text: str, begin: int) -> tuple[dict[Any, Any], int]:
    items: dict[Any, Any] = {}
    at = begin + 1
    while not (closing := re.compile(r"\s*\}").match(text, at)):
        key, at = _read_prefix(text, at, _END_OF_KEY)
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            raise UsageError(f"{text[begin:]}: the key {key} is neither a name nor an int.")
        colon = re.compile(r"\s*:").match(text, at)
        if colon is None:
            raise UsageError(f"{text[begin:]}: {key} has no value. A dict is written {{name: value}}.")
        if key in items:
            raise UsageError(f"{text[begin:]}: the key {key} occurs twice.")
        items[key], at = _read_prefix(text, colon.end(), _END_OF_ITEM)
        at = _behind_comma(text, begin, at, "}")
    return items, closing.end()


_END_OF_ITEM = re.compile(r"[,\]}]")
_END_OF_KEY = re.compile(r"[:,\]}]")


def _behind_comma(text: str, begin: int, at: int, bracket: str) -> int:
    """Return the index behind a comma, or at the closing bracket."""
    found = re.compile(rf"\s*(,|(?=\{bracket}))").match(text, at)
    if found is None:
        raise UsageError(f"{text[begin:]} has no closing {bracket}.")
    return found.end()


def _unquoted(quoted: str) -> str:
    """Return a text without its quotes. In double quotes a backslash is one of JSON's escapes."""
    if quoted[0] == "'":
        return quoted[1:-1]
    try:
        unquoted: str = json.loads(quoted, strict=False)
    except ValueError as error:
        raise UsageError(f"{quoted}: {error}. In double quotes a backslash is written twice.") from error
    return unquoted


def quoted(text: str) -> str:
    """Return a text in the quotes with which it is read as a text."""
    return json.dumps(text, ensure_ascii=False)
