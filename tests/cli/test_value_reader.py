"""The one reader of values: what Python or JSON reads as a value is read as the same one, and is never a text."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsmtrain.cli.parse_values import parse_hparams, value_parser
from fsmtrain.cli.value_reader import quoted, read_value
from fsmtrain.errors import UsageError
from tests.cli.conftest import Run

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
typed = st.text("0123456789.,_eExX+-[]{}:'\" \\atruefalsnoyv", max_size=9)


@given(values)
def test_a_value_of_json_is_read_as_json_reads_it(value: Any) -> None:
    assert read_value(json.dumps(value)) == value
    assert read_value(json.dumps(value, indent=1)) == value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False), lambda inner: st.lists(inner)))
def test_a_number_or_a_list_is_read_as_python_writes_it(value: Any) -> None:
    assert repr(read_value(repr(value))) == repr(value)  # 1 is not 1.0, nor True


@given(st.text())
def test_in_quotes_anything_is_a_text(text: str) -> None:
    assert read_value(quoted(text)) == text


@given(typed | st.text())
@example("- 0")
@example("1_0")
@example("2024_01_02")
@example("0x1F")
@example("007")
def test_a_text_is_what_was_typed_and_no_value_of_python_is_a_text(text: str) -> None:
    try:
        value = read_value(text)
    except UsageError:
        return
    try:
        pythons = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if isinstance(value, str) and text.strip()[:1] not in ("'", '"'):
            assert value == text.strip()
        return
    if isinstance(pythons, (bool, int, float, list, dict, type(None))):
        assert not isinstance(value, str)
        if not isinstance(pythons, (list, dict)):
            assert repr(value) == repr(pythons)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), values, max_size=4))
def test_hyperparameters_of_any_values_are_read_back(hparams: dict[str, Any]) -> None:
    pairs = [f"{name}={json.dumps(value)}" for name, value in hparams.items()]
    assert vars(parse_hparams(pairs)) == hparams
    assert vars(parse_hparams([",".join(pairs)] if pairs else [])) == hparams
    assert vars(parse_hparams([" , ".join(pairs)] if pairs else [])) == hparams


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("1_000_000", 1_000_000),
        ("0x10", 16),
        ("-3", -3),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("-inf", -math.inf),
        ("[0.9,0.99]", [0.9, 0.99]),
        ("[[1, 2], [3]]", [[1, 2], [3]]),
        ("[a b, 'c,d', ]", ["a b", "c,d"]),
        ("{lr: 0.1, nested: {on_gpu: false}, 3: x}", {"lr": 0.1, "nested": {"on_gpu": False}, 3: "x"}),
        ("[]", []),
        ("{}", {}),
        ("adam", "adam"),
        ("a,b", "a,b"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("layer[0]", "layer[0]"),
        ("-", "-"),
        ("'false'", "false"),
        ('"3"', "3"),
        (" adam ", "adam"),
    ],
)
def test_what_is_read(text: str, value: Any) -> None:
    assert repr(read_value(text)) == repr(value)


LOOKS_LIKE_A_VALUE = [
    ("1e-3x", "begins like a number and is none"),
    ("3x3", "begins like a number and is none"),
    ("0.9,0.99", r"A list needs brackets: \[0.9,0.99\]"),
    ("1,5", "A list needs brackets"),
    ("007", "begins like a number"),
    ("2024_01_02", "begins like a number"),
    ("2024-01-02", "begins like a number"),
    ("\u22123", "begins like a number"),  # a minus sign out of a printed page
    ("50%", "begins like a number"),
    ("1e999", "too large for a float"),
    ("9" * 5000, "too long for an int"),
    ("[0.9,0.99", r"\[0.9,0.99 has no closing \]"),
    ("[0.9 0.99]", "0.9 0.99 begins like a number"),
    ("0.9]", "begins like a number"),
    ("a]", r"a\] is no list"),
    ("(0.9,0.99)", r"Write \[0.9,0.99\]"),
    ("[1]2", r"2 follows"),
    ("[1,,2]", "a value is missing"),
    ("{lr: 1", "has no closing }"),
    ("{lr}", "lr has no value"),
    ("{lr: 1, lr: 2}", "the key lr occurs twice"),
    ("{[1]: 2}", r"the key \[1\] is neither a name nor an int"),
    ("{true: 2}", "the key True is neither"),
    ("'false", "has no closing '"),
    ('"a\\x"', "a backslash is written twice"),
    ("yes", "Write true"),
    ("Off", "Write false"),
    ("", "a value is missing"),
]


@pytest.mark.parametrize(("text", "says"), LOOKS_LIKE_A_VALUE)
def test_what_looks_like_a_value_and_is_none_is_an_error(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_value(text)
    with pytest.raises(UsageError, match=rf"--hparams x=.*{says}.* For a text type --hparams 'x=\""):
        parse_hparams([f"x={text}"])
    assert vars(parse_hparams([f"x={quoted(text)},y=1"])) == {"x": text, "y": 1}


@pytest.mark.parametrize(("text", "says"), LOOKS_LIKE_A_VALUE)
def test_a_flag_of_a_number_leaves_the_error_to_its_own_rule(text: str, says: str) -> None:
    assert value_parser(float)(text) == text


def test_every_spelling_of_none_is_none_for_a_flag_of_a_text_also() -> None:
    for word in ("none", "None", "null", "NULL"):
        assert value_parser(str | None)(word) is None
        assert value_parser(str)(word) == word
    assert value_parser(str | None)("false") == "false"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--hparams width=no", "no is neither true nor false"),
        ("--hparams lr=1e-3x", "--hparams lr=1e-3x: 1e-3x begins like a number and is none. For a text type --hparams 'lr="),
        ("--hparams lr=,width=2", "--hparams lr=: a value is missing"),
        ("--max_nb_epochs 3x", "max_nb_epochs='3x'"),
        ("--val_check_interval yes", "val_check_interval='yes'"),
        ("--accumulate_grad_batches 0:1,0:2", "the key 0 occurs twice"),
        ("--early_stop_callback.min_delta 1e-3x", "min_delta='1e-3x'"),
    ],
)
def test_a_mistyped_value_is_one_message_and_exit_code_2(run: Run, folder: Any, typed: str, says: str) -> None:
    result = run(f"plan mine.py:Model {typed}")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert "Traceback" not in result.err
