"""A plan as text: the table of rows that `str(plan)` prints, and the lines of `plan.diff(other)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fsmtrain.core.planning.epoch_builder import Epoch, Windows
from fsmtrain.core.planning.int_ranges import IntRanges
from fsmtrain.core.sizes import Schedule
from fsmtrain.plurals import plural

MAX_EPOCH_KINDS = 12  # rows of different epochs in a table; the others are only counted

EpochKinds = Sequence[tuple[IntRanges, Epoch]]  # the indices of equal epochs, and what each of them is like


def lines_as_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of a name and a text as an aligned table."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return a line ``name: here -> there`` for each name with different texts.

    >>> difference({"epochs": "3", "test": "1 batch"}, {"epochs": "3"})
    'test: 1 batch -> none'
    """
    names = {**here, **there}  # in order, each once
    changed = [name for name in names if here.get(name) != there.get(name)]
    return "\n".join(f"{name}: {here.get(name, 'none')} -> {there.get(name, 'none')}" for name in changed)


def comparable_rows(kinds: EpochKinds, other_kinds: EpochKinds) -> dict[str, str]:
    """Return rows to compare with another plan: epochs that both plans have by their indices, the others part by part."""
    rows: dict[str, str] = {}
    common = {epoch for _, epoch in kinds} & {epoch for _, epoch in other_kinds}
    for indices, epoch in kinds[:MAX_EPOCH_KINDS]:
        if epoch in common:
            first = min(kind_indices[0] for kind_indices, kind in (*kinds, *other_kinds) if kind == epoch)
            rows[f"epochs like epoch {first:,}"] = _indices(indices)
        else:
            rows |= {f"{_epochs(indices)}, {name}": text for name, text in _epoch_parts(epoch, "by itself")}
    return rows


def epoch_rows(kinds: EpochKinds, end_reason: str) -> Iterator[tuple[str, str]]:
    """Yield a row for each different epoch, and one that counts those beyond `MAX_EPOCH_KINDS`."""
    for indices, epoch in kinds[:MAX_EPOCH_KINDS]:
        parts = (text if name == "batches" else f"{name}: {text}" for name, text in _epoch_parts(epoch, end_reason))
        yield _epochs(indices), "; ".join(parts)
    rest = kinds[MAX_EPOCH_KINDS:]
    if rest:
        yield "...", f"{plural(sum(len(indices) for indices, _ in rest), 'more epoch')} of {plural(len(rest), 'kind')}"


def or_fewer(text: str, most: int, least: int) -> str:
    """Return the text of a number, with its minimum if the run may have fewer."""
    return text if least == most else f"{text}; may be fewer, at least {least:,}"


def schedule_text(schedule: Schedule) -> str:
    """Return when a scheduler acts.

    >>> schedule_text(Schedule(interval="step", frequency=2))
    'one after every 2 steps of optimizer 0'
    """
    unit = schedule.interval
    text = f"one after every {unit if schedule.frequency == 1 else plural(schedule.frequency, unit)}"
    if schedule.interval == "step":
        return f"{text} of optimizer {schedule.optimizer_i}"
    return f"{text}, if it had a validation" if schedule.needs_validation and unit == "epoch" else text


def _epochs(indices: IntRanges) -> str:
    return f"{'epoch' if len(indices) == 1 else 'epochs'} {_indices(indices)}"


def _indices(indices: IntRanges) -> str:
    """Return epochs by their indices: ``0 to 4, 10``."""
    parts = []
    for part in indices.ranges:
        if len(part) == 1:
            parts.append(f"{part[0]:,}")
        elif part.step == 1:
            parts.append(f"{part[0]:,} to {part[-1]:,}")
        else:
            parts += _shortened([f"{epoch:,}" for epoch in part[:4]], f"{part[-1]:,}", len(part))
    return ", ".join(_shortened(parts[:6], parts[-1], len(parts)))


def _epoch_parts(epoch: Epoch, end_reason: str) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each part of an epoch."""
    yield "batches", plural(epoch.batches, "batch")
    for i, windows in enumerate(epoch.windows):
        yield "windows" + (f" of optimizer {i}" if len(epoch.windows) > 1 else ""), _windows(windows)
    for batches, name in ((epoch.validations, "validations"), (epoch.saves, "checkpoints")):
        if batches:
            yield name, f"{len(batches):,}, {_after_batches(batches)}"
    if epoch.ended_early:
        yield "ends early", end_reason


def _windows(windows: Windows) -> str:
    """Return windows by their backwards: ``11 of 4, 1 of 1``."""
    parts = [f"{count:,} of {length:,}" for length, count in (*windows[:6], *windows[-1:])]
    return ", ".join(parts[:-1] if len(windows) <= 6 else _shortened(parts[:4], parts[-1], len(windows))) or "none"


def _after_batches(batches: IntRanges) -> str:
    """Return batches by how many are done: ``after 11, 22, 33, 44``; of more than 8 the first 4 and the last."""
    parts = [f"{nb + 1:,}" for nb in batches[:8]]
    return "after " + ", ".join(parts if len(batches) <= 8 else _shortened(parts[:4], f"{batches[-1] + 1:,}", len(batches)))


def _shortened(beginning: list[str], last: str, count: int) -> list[str]:
    """Return the beginning of a list of `count` items, and its last one, with dots for those between."""
    if count <= len(beginning):
        return beginning
    return [*beginning, last] if count == len(beginning) + 1 else [*beginning, "...", last]
