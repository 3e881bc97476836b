"""Startup cost: import time and memory of fresh processes up to their first batch, with each trainer in turns.

Bytecode is cached, as Python does by default: one uncounted turn of each process writes it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ProcessTimes = dict[str, float]  # of one process, as `fresh_process` prints them

ROOT = Path(__file__).parent.parent.parent
NAMES = {
    "hand": "loop by hand",
    "fsmtrain": "fsmtrain",
    "ignite": "Ignite",
    "accelerate": "Accelerate",
    "lightning": "Lightning",
}


def run_process(name: str, cache: str) -> ProcessTimes:
    """Start a process and return its times."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "benchmarks.measurements.fresh_process", name]
    process = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    times: ProcessTimes = json.loads(process.stdout.splitlines()[-1])
    return times


def measure(*, rounds: int, peers: bool, say: Callable[[str], None] = print) -> dict[str, list[ProcessTimes]]:
    """Return the times of this many processes of each trainer, started in turns."""
    names = ["hand", "fsmtrain", *(n for n in ("ignite", "accelerate", "lightning") if peers and find_spec(n) is not None)]
    results: dict[str, list[ProcessTimes]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds + 1):
            for name in names if number % 2 else reversed(names):
                times = run_process(name, cache)
                if number:
                    results[name].append(times)
            say(f"fresh processes: round {number} of {rounds}")
    return results


def lines(results: dict[str, list[ProcessTimes]]) -> list[str]:
    """Return the table."""

    def median(name: str, key: str) -> float | None:
        values = [times[key] for times in results[name] if key in times]
        return statistics.median(values) if values else None

    def cell(name: str, key: str, scale: float) -> str:
        value = median(name, key)
        return f"{'':>14}" if value is None else f"{value * scale:>14.1f}"

    head = f"{'import, ms':>14}{'cpu':>14}{'of it, gc':>14}{'first batch':>14}{'import, MB':>14}{'until run, MB':>14}"
    torch = statistics.median(times["torch"] for group in results.values() for times in group)
    text = ["", f"{f'import after torch ({torch * 1e3:,.0f} ms)':<40}{head}"]
    for name in results:
        columns = [("import", 1e3), ("import_cpu", 1e3), ("gc", 1e3), ("first_batch", 1e3)]
        columns += [("import_bytes", 1e-6), ("bytes", 1e-6)]
        text.append(f"  {NAMES[name]:<38}" + "".join(cell(name, key, scale) for key, scale in columns))
    text.append("  gc: Python's garbage collector also traverses what torch has created, whenever it runs")
    return text
