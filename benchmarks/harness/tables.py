"""Tables of results, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.compare import ContestantResult


def comparison_table(name: str, measured: Sequence[ContestantResult]) -> list[str]:
    """Return a table of what contestants cost, in µs a batch, and what they add to the loop by hand."""
    head = f"{'µs a batch':>10}{'adds':>10}{'quartiles':>20}{'ratio':>9}{'adds, cpu':>11}"
    lines = ["", f"{name:<40}{head}"]
    for result in measured:
        low, high = result.quartiles
        cells = f"{result.wall:>10.1f}{result.added:>+10.1f}{f'{low:+.1f} .. {high:+.1f}':>20}"
        lines.append(f"  {result.name:<38}{cells}{result.ratio:>9.3f}{result.added_cpu:>+11.1f}")
    return lines
