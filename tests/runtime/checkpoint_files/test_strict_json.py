"""JSON by the standard, bounded: what goes beyond is a ValueError, whatever this Python's stack could bear."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.runtime.checkpoint_files.strict_json import MAX_DEPTH, dump, parse

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
