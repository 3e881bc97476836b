"""The tables of results, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.turns import Measured


def of_turns(name: str, measured: Sequence[Measured]) -> list[str]:
    """What contestants have cost: µs a batch, and what they add to the loop by hand."""
    head = f"{'µs a batch':>10}{'adds':>10}{'half lie within':>20}{'ratio':>9}{'adds, cpu':>11}"
    lines = ["", f"{name:<40}{head}"]
    for one in measured:
        low, high = one.quartiles
        within = f"{low:+.1f} .. {high:+.1f}"
        lines.append(
            f"  {one.name:<38}{one.wall:>10.1f}{one.added:>+10.1f}{within:>20}{one.ratio:>9.3f}{one.added_cpu:>+11.1f}"
        )
    return lines
