"""What it costs to begin: fresh processes in turns, with torch alone and with a trainer beside it, up to the first batch.

Their bytecode is written and kept, as Python does by itself: a first, uncounted turn of each makes it.
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

Found = dict[str, float]  # of one process, as `fresh` prints it

ROOT = Path(__file__).parent.parent
NAMES = {
    "hand": "a loop by hand",
    "fsmtrain": "fsmtrain",
    "ignite": "Ignite",
    "accelerate": "Accelerate",
    "lightning": "Lightning",
}


def started(name: str, cache: str) -> Found:
    """A fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "benchmarks.fresh", name]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(*, rounds: int, peers: bool, say: Callable[[str], None] = print) -> dict[str, list[Found]]:
    """So many processes of each, in turns."""
    names = ["hand", "fsmtrain", *(n for n in ("ignite", "accelerate", "lightning") if peers and find_spec(n) is not None)]
    found: dict[str, list[Found]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds + 1):
            for name in names if number % 2 else reversed(names):
                one = started(name, cache)
                if number:
                    found[name].append(one)
            say(f"fresh processes: round {number} of {rounds}")
    return found


def lines(found: dict[str, list[Found]]) -> list[str]:
    """The table."""

    def median(name: str, key: str) -> float | None:
        values = [one[key] for one in found[name] if key in one]
        return statistics.median(values) if values else None

    def told(name: str, key: str, scale: float) -> str:
        value = median(name, key)
        return f"{'':>14}" if value is None else f"{value * scale:>14.1f}"

    head = f"{'import, ms':>14}{'cpu':>14}{'of it the gc':>14}{'first batch':>14}{'import, MB':>14}{'and to run':>14}"
    torch = statistics.median(one["torch"] for ones in found.values() for one in ones)
    text = ["", f"{f'after torch, which takes {torch * 1e3:,.0f} ms':<40}{head}"]
    for name in found:
        columns = [("import", 1e3), ("import_cpu", 1e3), ("collector", 1e3), ("first_batch", 1e3)]
        columns += [("import_bytes", 1e-6), ("bytes", 1e-6)]
        text.append(f"  {NAMES[name]:<38}" + "".join(told(name, key, scale) for key, scale in columns))
    text.append("  the gc, Python's garbage collector, passes over all that torch has made when its time comes, whoever it is")
    return text
