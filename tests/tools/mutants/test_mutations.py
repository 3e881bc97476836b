"""The mutants of a small file, each by its change."""

from __future__ import annotations

import ast

from tools.mutants.mutations import mutants

TEXT = b'''
def first(limits: int | None, n: int = 2) -> bool:
    """Not a text: 1 < 2."""
    if ready(n):
        return n + 1 < 3 and not (limits is None or f"{n - 1}")
    while True:
        box.best = min(n, -n)
        break
'''


def changed() -> list[tuple[str, str]]:
    return [(mutant.before, mutant.after) for mutant in mutants("a.py", TEXT)]


def test_each_mutant_is_the_file_with_one_change_that_can_be_compiled() -> None:
    for mutant in mutants("a.py", TEXT):
        assert mutant.text != TEXT
        assert (mutant.function, mutant.is_read) == (2, False)
        compile(ast.parse(mutant.text), "a.py", "exec")


def test_the_mutants_of_a_file_are_these() -> None:
    last = 'limits is None or f"{n - 1}"'
    assert changed() == [
        ("2", "3"),
        ("2", "1"),
        ("ready(n)", "(not ready(n))"),
        (f"n + 1 < 3 and not ({last})", f"(not ({last.replace(chr(34), chr(39))}))"),
        (f"n + 1 < 3 and not ({last})", "(n + 1 < 3)"),
        ("n + 1 < 3", "(n + 1 <= 3)"),
        ("n + 1", "(n - 1)"),
        ("1", "2"),
        ("1", "0"),
        ("3", "4"),
        ("3", "2"),
        (f"not ({last})", f"({last.replace(chr(34), chr(39))})"),
        (last, "(f'{n - 1}')"),
        (last, "(limits is None)"),
        ("limits is None", "(limits is not None)"),
        ("True", "False"),
        ("box.best = min(n, -n)", "pass"),
        ("min(n, -n)", "(max(n, -n))"),
        ("-n", "(n)"),
        ("break", "pass"),
    ]
