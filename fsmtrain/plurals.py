"""Plurals of nouns in messages: `plural(2, "batch")` is "2 batches"."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> plural(1, "batch"), plural(2, "val batch"), plural(1200, "epoch")
    ('1 batch', '2 val batches', '1,200 epochs')
    """
    ending = "" if number == 1 else "es" if noun.endswith("batch") else "s"
    return f"{number:,} {noun}{ending}"
