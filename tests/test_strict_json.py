"""JSON by the standard, bounded: what goes beyond is a ValueError, whatever this Python's stack could bear."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.strict_json import MAX_DEPTH, _depths, dump, parse
from tests.bounded import bounded

texts = st.text('[]{}"\\ä\n', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_is_dumped_is_parsed(value: object) -> None:
    assert parse(dump(value)) == value
    assert parse(dump(value, indent=2)) == json.loads(json.dumps(value)) == value


def test_brackets_are_counted_outside_of_strings() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    for text in (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), b'[{"a":' * MAX_DEPTH + b"1" + b"}]" * MAX_DEPTH):
        with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
            parse(text)
    tricky = ["[" * 1000, '"' + "[" * 1000, "\\", '\\"' + "{" * 1000]
    assert parse(dump(tricky)) == tricky


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b"-Infinity"])
def test_nan_and_infinity_are_not_parsed(text: bytes) -> None:
    with pytest.raises(ValueError, match="is not a number in JSON"):
        parse(text)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_nan_and_infinity_are_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump([number])


SLOW_TO_MATCH = {
    "brackets and quotes": b'"\\' * 100_000,
    "a string that never ends": b"[" * (MAX_DEPTH + 1) + b'"' + b"x" * 200_000,
    "strings that never end": b"[" * (MAX_DEPTH + 1) + b'"\\"' * 70_000,
    "quotes": b"[" * (MAX_DEPTH + 1) + b'"' * 200_000,
    "quotes and brackets": b'["]{' * 50_000,
    "backslashes": b"[" * (MAX_DEPTH + 1) + b'"' + b"\\" * 200_001,
}


@pytest.mark.parametrize("name", SLOW_TO_MATCH)
def test_no_text_takes_more_than_linear_time(name: str) -> None:
    text = SLOW_TO_MATCH[name]
    with bounded(len(text)), pytest.raises(ValueError, match=r"deep|not valid JSON"):
        parse(text)


@given(st.text('[]{}"\\x', max_size=40))
def test_brackets_are_counted_as_a_parser_counts_them(text: str) -> None:
    depth, deepest, position = 0, [], 0
    while position < len(text):
        if text[position] == '"':
            position += 1
            while position < len(text) and text[position] != '"':
                position += 1 + (text[position] == "\\")
        elif text[position] in "[]{}":
            depth += 1 if text[position] in "[{" else -1
            deepest.append(depth)
        position += 1
    assert [*_depths(text.encode())] == deepest
