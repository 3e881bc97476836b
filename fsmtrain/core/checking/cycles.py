"""Whether a walk along arrows may go on for ever. Places are numbered; `leads_to` has the places that each one leads to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def nodes_on_cycles(leads_to: Sequence[Iterable[int]]) -> set[int]:
    """The places that lie on a circle, or between two.

    >>> nodes_on_cycles([{1}, {2, 3}, {1}, set()])
    {1, 2}
    """
    left = _led_to(leads_to, set(range(len(leads_to))))
    comes_from: list[set[int]] = [set() for _ in leads_to]
    for place in left:
        for other in leads_to[place]:
            comes_from[other].add(place)
    return _led_to(comes_from, left)


def _led_to(leads_to: Sequence[Iterable[int]], places: set[int]) -> set[int]:
    """What is left when the places to which none that is left leads are taken away, over and over."""
    arrows = [0] * len(leads_to)
    for place in places:
        for other in leads_to[place]:
            arrows[other] += 1
    left, new = set(places), [place for place in places if arrows[place] == 0]
    while new:
        place = new.pop()
        left.discard(place)
        for other in leads_to[place]:
            arrows[other] -= 1
            if arrows[other] == 0:
                new.append(other)
    return left
