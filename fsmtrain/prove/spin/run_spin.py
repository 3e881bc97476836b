"""Run Spin on a Promela model: explore every behaviour within the bounds, with each claim as an assertion."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from fsmtrain.core.transition_table import Table
from fsmtrain.errors import UsageError
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.bounds import ALL_BOUNDS
from fsmtrain.prove.spin.promela import promela_model


@frozen
class SpinResult:
    """Spin's errors (a failed assertion, or a run without end), the states that it stored, and its output."""

    errors: int
    states: int
    output: str


def missing_program() -> str | None:
    """Return why Spin cannot run here; None if it can."""
    return next((f"{program} is not installed" for program in ("spin", "gcc") if shutil.which(program) is None), None)


def run_spin(model: str, *, timeout_seconds: float = 120.0) -> SpinResult:
    """Explore every behaviour of a model.

    Args:
        model: The Promela text.
        timeout_seconds: For each of the three commands.

    Raises:
        UsageError: Spin or a C compiler is missing, or the search was not finished in time or memory.
    """
    if (reason := missing_program()) is not None:
        raise UsageError(f"model checking needs Spin and gcc: {reason}.")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.pml").write_text(model)

        def call(*command: str) -> str:
            process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_seconds, check=False)
            return process.stdout + process.stderr

        build_output = call("spin", "-a", "model.pml")
        build_output += call("gcc", "-O1", "-w", "-DNP", "-DCOLLAPSE", "-DMEMLIM=4096", "-o", "pan", "pan.c")
        output = call("./pan", "-l", "-E", "-m20000", "-v")
    if "errors:" not in output or "max search depth too small" in output or "out of memory" in output:
        raise UsageError(f"Spin did not finish: {build_output[-600:]}{output[-600:]}")
    errors = int(output.split("errors:")[1].split()[0])
    states = int(output.split("states, stored")[0].split()[-1])
    return SpinResult(errors, states, output)


def spin_refutes(table: Table, claims: Iterable[Claim]) -> bool:
    """Return whether some run of a table breaks a claim, has not exactly one row to take, or never ends."""
    claims = tuple(claims)
    return any(run_spin(promela_model(table, claims, bounds)).errors > 0 for bounds in ALL_BOUNDS.values())
