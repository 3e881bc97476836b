"""Runs Spin on a model of the table: every behaviour within the bounds, with every claim as an assertion."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from fsmtrain.core.table import Table
from fsmtrain.errors import UsageError
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.promela import ALL_BOUNDS, promela_model


@frozen
class SpinResult:
    """What Spin found: its errors (an assertion that failed, or a run without an end), and the states it stored."""

    errors: int
    states: int
    output: str


def missing_program() -> str | None:
    """Why Spin cannot be run here; None where it can."""
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def run_spin(model: str, *, seconds: float = 120.0) -> SpinResult:
    """Run through every behaviour of a model.

    Raises:
        UsageError: Spin or a C compiler is missing, or the search was not finished in time or memory.
    """
    if (reason := missing_program()) is not None:
        raise UsageError(f"{reason}: Spin and gcc are needed to check a Promela model.")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.pml").write_text(model)

        def call(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
            return done.stdout + done.stderr

        made = call("spin", "-a", "model.pml")
        made += call("gcc", "-O1", "-w", "-DNP", "-DCOLLAPSE", "-DMEMLIM=4096", "-o", "pan", "pan.c")
        output = call("./pan", "-l", "-E", "-m20000", "-v")
    if "errors:" not in output or "max search depth too small" in output or "out of memory" in output:
        raise UsageError(f"Spin did not finish: {made[-600:]}{output[-600:]}")
    errors = int(output.split("errors:")[1].split()[0])
    states = int(output.split("states, stored")[0].split()[-1])
    return SpinResult(errors, states, output)


def spin_refutes(table: Table, claims: Iterable[Claim]) -> bool:
    """Whether Spin finds a run of a table that breaks a claim, has not exactly one row to take, or never ends."""
    claims = tuple(claims)
    return any(run_spin(promela_model(table, claims, bounds)).errors > 0 for bounds in ALL_BOUNDS.values())
