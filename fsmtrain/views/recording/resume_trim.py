"""What a run that is resumed had recorded up to its checkpoint: kept, and gone on from. What came after that is done again.

A checkpoint says what had been spent when it was saved, as a line of the timeline does. The folder is cut back to that moment,
and from then on all that is cumulative is the sum of both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from fsmtrain.atomic_write import write_atomically
from fsmtrain.views.recording.json_csv import line

Row = dict[str, Any]


@frozen(kw_only=True)
class Earlier:
    """What there was before a run was resumed; of a run that begins anew, nothing.

    Attributes:
        checkpoint: Where the run goes on.
        noted: The seconds on the clock of the metrics.
        spent: What had been spent, as in ``timeline.jsonl``, with `taken`.
    """

    checkpoint: Path | None = None
    noted: float = 0.0
    spent: Mapping[str, Any] = field(factory=dict)

    @property
    def seconds(self) -> float:
        """The run's time up to then."""
        return float(self.spent.get("time", 0.0))

    def and_now(self, spent: Mapping[str, Any]) -> Row:
        """What has been spent in all, where this has been since. What counters know goes on by itself.

        >>> before = Earlier(spent={"time": 2.0, "states": {"step": [3, 0.5]}, "windows": [{"1": 3}], "taken": [3, 0]})
        >>> before.and_now({"time": 1.0, "step": 4, "states": {"step": [1, 0.25]}, "windows": [{"2": 1}], "taken": [1, 1]})
        {'time': 3.0, 'step': 4, 'states': {'step': [4, 0.75]}, 'windows': [{'1': 3, '2': 1}], 'taken': [4, 1]}
        """
        return {name: _sum(self.spent.get(name), value) if name in SUMS else value for name, value in spent.items()}


SUMS = frozenset({"time", "states", "device_states", "data_wait", "windows", "taken"})


def _sum(before: Any, now: Any) -> Any:
    """Two nests of numbers, added; where they do not fit, as of a table that was another one, what is now."""
    if now is None:
        return before
    if isinstance(now, dict) and isinstance(before, dict):
        return {name: _sum(before.get(name), now.get(name)) for name in {**before, **now}}
    if isinstance(now, list) and isinstance(before, list):
        return [_sum(*pair) for pair in zip(before, now, strict=True)] if len(before) == len(now) else now
    if isinstance(now, (int, float)) and isinstance(before, (int, float)):
        return now + before if isinstance(now, int) and isinstance(before, int) else round(now + before, 6)
    return now


def said_of_the_record(said: Mapping[str, Any]) -> dict[str, Any]:
    """`noted` and `spent` as a checkpoint tells them, as far as they are what they should be."""
    noted, spent = said.get("noted"), said.get("spent")
    is_whole = isinstance(noted, (int, float)) and isinstance(spent, dict) and isinstance(spent.get("time"), (int, float))
    return {"noted": noted, "spent": spent} if is_whole else {}


def cut_back(folder: Path, earlier: Earlier) -> int:
    """Take out of a run's folder what was recorded after the checkpoint; returns how many rows of metrics these were.

    It may be interrupted, and done again. A row that stands for batches before the checkpoint and after it goes, too.

    Raises:
        OSError: Nothing can be written there.
    """
    (folder / "end.json").unlink(missing_ok=True)
    gone = _cut(folder / "metrics.jsonl", earlier.noted)
    _cut(folder / "timeline.jsonl", earlier.seconds)
    return gone


def _cut(path: Path, seconds: float) -> int:
    rows = list(readable(path))
    kept = [row for row in rows if row["time"] <= seconds]
    write_atomically(path, b"".join(map(line, kept)))
    return len(rows) - len(kept)


def readable(path: Path) -> Iterator[Row]:
    """The rows of a file whose writer may have been killed in the middle of a line."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for text in lines:
        try:
            row = json.loads(text)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("time"), (int, float)):
            yield row


def facts_in(folder: Path, name: str = "run.json") -> Row:
    """What a JSON file of a run's folder holds; nothing where it is not there, or cannot be read."""
    try:
        facts = json.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
