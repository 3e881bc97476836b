"""Numbers formatted for people: durations, rates, percentages, counts, and metrics."""

from __future__ import annotations

from datetime import timedelta


def repeat_count(count: int) -> str:
    """Return how often something happened.

    >>> repeat_count(12345)
    '12,345×'
    """
    return f"{count:,}×"


def duration(seconds: float) -> str:
    """Return a duration of any length.

    >>> [duration(seconds) for seconds in (0.0000042, 0.00042, 0.042, 4.06, 125.2)]
    ['4.2 µs', '420 µs', '42 ms', '4.1 s', '0:02:05']
    """
    if seconds >= 100:
        return str(timedelta(seconds=round(seconds)))
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def rate(batches: float) -> str:
    """Return a rate in batches per second, or in seconds per batch if that is easier to read; empty for 0 (not known).

    >>> rate(21234.5), rate(212.6), rate(2.125), rate(0.25), rate(0)
    ('21,234 batches/s', '213 batches/s', '2.12 batches/s', '4 s/batch', '')
    """
    if batches <= 0:
        return ""
    if batches < 1:
        return f"{1 / batches:.3g} s/batch"
    return f"{batches:,.0f} batches/s" if batches >= 100 else f"{batches:.3g} batches/s"


def percent(share: float) -> str:
    """Return a share of 1 in percent.

    >>> percent(0.414), percent(0.004), percent(0.0)
    ('41 %', '<1 %', '0 %')
    """
    return "<1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")


def metric(name: str, value: float) -> str:
    """Return a metric's name and value on one line, whatever the name contains.

    >>> metric("val_loss", 0.123456), metric("a\\nb", 2.0)
    ('val_loss=0.1235', 'a?b=2')
    """
    return f"{''.join(c if c.isprintable() else '?' for c in name)}={value:.4g}"
