"""Hand a formula to Z3 or cvc5 and read the solver's answer.

The solvers belong to the extra ``prove`` and are imported when they are first needed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from typing import Any

from fsmtrain.errors import UsageError


@functools.cache
def z3() -> Any:
    """Return Z3's Python module.

    Raises:
        UsageError: It is not installed.
    """
    return _import("z3", "z3-solver")


@functools.cache
def cvc5() -> Any:
    """Return cvc5's Python module.

    Raises:
        UsageError: It is not installed.
    """
    return _import("cvc5", "cvc5")


def _import(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"proofs need {distribution}, which is not installed. Install the extra: pip install 'fsmtrain[prove]'."
        ) from error


def to_smtlib(conjuncts: Iterable[Any]) -> str:
    """Return a conjunction of Z3 terms as SMT-LIB text, for any solver."""
    solver = z3().Solver()
    solver.add(*conjuncts)
    return "\n".join(line for line in solver.to_smt2().splitlines() if not line.startswith((";", "(set-info")))


def z3_refutes(conjuncts: Iterable[Any], timeout_seconds: float = 5.0) -> bool:
    """Return whether Z3 finds that a conjunction of its terms has no model."""
    solver = z3().Solver()
    solver.set("timeout", int(timeout_seconds * 1000))
    solver.add(*conjuncts)
    return str(solver.check()) == "unsat"


def cvc5_refutes(smtlib: str, timeout_seconds: float = 10.0) -> bool:
    """Return whether cvc5 finds that SMT-LIB text has no model."""
    manager = cvc5().TermManager()
    solver = cvc5().Solver(manager)
    solver.setOption("tlimit-per", str(int(timeout_seconds * 1000)))
    parser = cvc5().InputParser(solver)
    parser.setStringInput(cvc5().InputLanguage.SMT_LIB_2_6, "(set-logic ALL)\n" + smtlib, "obligation")
    symbols, answers = parser.getSymbolManager(), ""
    while not (command := parser.nextCommand()).isNull():
        answers += str(command.invoke(solver, symbols))
    return answers.strip() == "unsat"
