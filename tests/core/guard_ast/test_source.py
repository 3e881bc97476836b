"""A source is accepted only if it is the function's: not if the file has been edited since it was imported."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import fsmtrain
from fsmtrain.core.guard_ast.expressions import Opaque
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.transition_guards import Guard

WRITTEN = "def guard(limits, counters, signals):\n    return counters.batch_nb > 1\n"


def module_of(path: Path, written: str) -> Any:
    """What a file with this text has in it."""
    path.write_text(written)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(path: Path, written: str) -> Guard:
    """The guard of a file with this text."""
    guard: Guard = module_of(path, written).guard
    return guard


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (WRITTEN.replace("> 1", "> 2"), "its source has changed since it was imported"),
        (f"\n{WRITTEN}", "its source has changed since it was imported"),
        (WRITTEN.replace("signals)", "signals"), "its source has changed since it was imported"),
        ("", "its source cannot be found"),
        (f"{WRITTEN}\n\nx = 1\n", None),
        (WRITTEN.replace("\n", "  # a remark\n"), None),
    ],
    ids=["another number", "another line", "no Python", "nothing", "a line below", "a remark"],
)
def test_an_edited_file_is_no_source_unless_the_code_is_the_same(now: str, reason: str | None, tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    guard = loaded(path, WRITTEN)
    path.write_text(now)
    expression = parse_guard(guard)
    if reason is None:
        assert format_expression(expression) == "batch_nb > 1"
    else:
        assert isinstance(expression, Opaque)
        assert expression.reason == reason


def test_the_same_code_in_two_files_is_read_with_what_is_around_it_in_each(tmp_path: Path) -> None:
    once = f"N = 1\n{WRITTEN.replace('> 1', '> N')}"
    assert format_expression(parse_guard(loaded(tmp_path / "once.py", once))) == "batch_nb > 1"
    again = parse_guard(loaded(tmp_path / "again.py", f"{once}\nN = 2\n"))
    assert isinstance(again, Opaque)
    assert again.reason == "`N` may change"


def test_of_two_functions_of_one_name_the_right_one_is_read(tmp_path: Path) -> None:
    longer = WRITTEN.replace("> 1", "> 1 and counters.batch_nb < 9")
    assert (
        format_expression(parse_guard(loaded(tmp_path / "first.py", f"{WRITTEN}\n\n{longer}")))
        == "batch_nb > 1 and batch_nb < 9"
    )
    assert format_expression(parse_guard(loaded(tmp_path / "second.py", f"{longer}\n\n{WRITTEN}"))) == "batch_nb > 1"


def test_syntax_warnings_of_a_file_are_not_repeated(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard = loaded(tmp_path / "escaped.py", f'{WRITTEN}\nx = "\\d"\n')
        warnings.simplefilter("error")
        assert format_expression(parse_guard(guard)) == "batch_nb > 1"


IN_LINES = """
from fsmtrain.core.guard_ast.parse import parse_guard
alone = lambda limits, counters, signals: counters.batch_nb > 1
one, other = lambda limits, counters, signals: counters.batch_nb > 1, lambda limits, counters, signals: counters.batch_nb > 2
said = [getattr(parse_guard(guard), "reason", "read") for guard in (alone, one, other)]
if __name__ == "__main__":
    print(said)
"""


def test_without_columns_a_lambda_is_read_only_where_it_has_its_line_to_itself(tmp_path: Path) -> None:
    """Python can be told to keep none, and has to be told as it starts."""
    script = tmp_path / "lambdas.py"
    assert module_of(script, IN_LINES).said == ["read", "read", "read"]
    command = [sys.executable, "-X", "no_debug_ranges", str(script)]
    env = {**os.environ, "PYTHONPATH": str(Path(fsmtrain.__file__).parent.parent)}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    several = "its line contains more than one lambda"
    assert ran.stdout.strip() == str(["read", several, several])
