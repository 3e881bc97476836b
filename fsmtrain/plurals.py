"""Nouns in messages: `plural(2, "batch")` is "2 batches", `a_type_of(3)` is "an int"."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> plural(1, "batch"), plural(2, "val batch"), plural(1200, "epoch")
    ('1 batch', '2 val batches', '1,200 epochs')
    """
    ending = "" if number == 1 else "es" if noun.endswith("batch") else "s"
    return f"{number:,} {noun}{ending}"


def a_type_of(value: object) -> str:
    """Return the name of a value's type with its article.

    >>> a_type_of(1), a_type_of("text")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
