"""Without the solvers the package says what to install, and what runs never needs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fsmtrain.errors import UsageError
from fsmtrain.prove.smt import call_z3_and_cvc5


@pytest.mark.parametrize("solver", [call_z3_and_cvc5.z3, call_z3_and_cvc5.cvc5], ids=["z3", "cvc5"])
def test_a_missing_solver_is_an_error_that_names_the_extra(solver: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("z3", "cvc5"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'fsmtrain\[prove\]'"):
        solver.__wrapped__()  # type: ignore[attr-defined]


def test_a_run_imports_no_solver_and_no_proof() -> None:
    script = "import sys, fsmtrain; print([m for m in sys.modules if m in ('z3', 'cvc5') or m.startswith('fsmtrain.prove')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
