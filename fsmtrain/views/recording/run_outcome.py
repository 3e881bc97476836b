"""`Outcome`: whether a recorded run is still running, and how it ended if it is not."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from fsmtrain.views.recording.files.json_files import Row

FRESH_SECONDS = 60.0  # a sign of life that is younger counts, where no lock tells


class Outcome(StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    ENDED = "ended"  # by its own rules
    STOPPED = "stopped"  # on request: a signal, Ctrl-C, stop()
    FAILED = "failed"  # with an error
    KILLED = "killed"  # without a word: neither ended nor running


def outcome_of(end: Row, status: Row, is_locked: bool | None, now: datetime) -> Outcome:
    """Return what has become of a run.

    Args:
        end: Its ``end.json``; empty if there is none.
        status: Its ``status.json``.
        is_locked: Whether a process holds the lock on its folder; None if that cannot be found out.
        now: The time to compare its last sign of life with, where no lock tells.

    >>> now = datetime.fromisoformat("2026-01-02T03:00:00+00:00")
    >>> [str(outcome_of({"reason": reason}, {}, False, now)) for reason in ("max_epochs", "requested", "error")]
    ['ended', 'stopped', 'failed']
    >>> [str(outcome_of({}, {"written": "2026-01-02T02:59:30+00:00"}, is_locked, now)) for is_locked in (True, None, False)]
    ['running', 'running', 'killed']
    """
    if end:  # a run that is resumed removes it first
        return {"error": Outcome.FAILED, "requested": Outcome.STOPPED}.get(str(end.get("reason")), Outcome.ENDED)
    if is_locked or (is_locked is None and _is_fresh(status.get("written"), now)):
        return Outcome.RUNNING
    return Outcome.KILLED


def _is_fresh(written: object, now: datetime) -> bool:
    try:
        return abs((now - datetime.fromisoformat(str(written))).total_seconds()) < FRESH_SECONDS
    except (ValueError, TypeError):
        return False
