"""Cycles in a directed graph, to find runs that may never end. Nodes are numbered from 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def nodes_on_cycles(successors: Sequence[Iterable[int]]) -> set[int]:
    """Return the nodes that lie on a cycle, or on a path from one cycle to another.

    >>> nodes_on_cycles([{1}, {2, 3}, {1}, set()])
    {1, 2}
    """
    remaining = _without_sources(successors, set(range(len(successors))))
    predecessors: list[set[int]] = [set() for _ in successors]
    for node in remaining:
        for successor in successors[node]:
            predecessors[successor].add(node)
    return _without_sources(predecessors, remaining)


def _without_sources(successors: Sequence[Iterable[int]], nodes: set[int]) -> set[int]:
    """Return what remains of some nodes if those without a predecessor among them are removed, again and again."""
    in_degrees = [0] * len(successors)
    for node in nodes:
        for successor in successors[node]:
            in_degrees[successor] += 1
    remaining, sources = set(nodes), [node for node in nodes if in_degrees[node] == 0]
    while sources:
        node = sources.pop()
        remaining.discard(node)
        for successor in successors[node]:
            in_degrees[successor] -= 1
            if in_degrees[successor] == 0:
                sources.append(successor)
    return remaining
