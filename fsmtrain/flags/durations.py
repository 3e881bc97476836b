"""Durations as text: ``"8:00:00"`` is eight hours, ``"2:00:00:00"`` two days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fsmtrain.errors import OptionsError

_PARTS = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)", re.ASCII)


def duration_as_text(value: object) -> Any:
    """Return a timedelta, or a dict of its arguments, as text; anything else as it is.

    >>> from datetime import timedelta
    >>> duration_as_text(timedelta(days=1, hours=2)), duration_as_text({"minutes": 90})
    ('1:02:00:00', '1:30:00')
    """
    if isinstance(value, Mapping):
        try:
            value = timedelta(**value)
        except TypeError:
            return value
    if not isinstance(value, timedelta):
        return value
    minutes, seconds = divmod(value.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{seconds:0{2 if seconds == int(seconds) else 4}.{0 if seconds == int(seconds) else 6}f}"
    return f"{days}:{clock}" if days else clock.removeprefix("0")


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration.

    >>> seconds_of("8:00:00"), seconds_of("1:00:00:30")
    (28800.0, 86430.0)

    Raises:
        ValueError: The text is no duration.
    """
    match = _PARTS.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{duration!r} is no duration")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def validate_max_time(_: object, flag: Any, value: object) -> None:
    """Validate the text of a duration, or None."""
    try:
        is_right = value is None or (isinstance(value, str) and seconds_of(value) > 0)
    except ValueError:
        is_right = False
    if not is_right:
        raise OptionsError(
            f"{flag.name}={value!r}: must be a time > 0, as [days:]hours:minutes:seconds in {flag.name}='8:00:00', or a "
            f"datetime.timedelta. None: no limit."
        )
