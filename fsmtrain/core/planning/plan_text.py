"""A plan for people: as a text, and what is different between two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fsmtrain.core.planning.epoch_builder import Epoch, Windows
from fsmtrain.core.planning.int_ranges import IntRanges
from fsmtrain.core.sizes import Schedule
from fsmtrain.wording import plural

if TYPE_CHECKING:
    from fsmtrain.core.planning.plan import Plan

SHOWN = 12  # kinds of epochs, before the rest is only counted


def text(plan: Plan) -> str:
    """The plan as a table of names and what there is to say of each."""
    rows = list(_rows(plan))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {said}" for name, said in rows)


def difference(here: Plan, there: Plan) -> str:
    """A line for each name that two plans say different things of."""
    left, right = _compared(here, there), _compared(there, here)
    names = [*left, *(name for name in right if name not in left)]
    return "\n".join(
        f"{name}: {left.get(name, 'none')} -> {right.get(name, 'none')}" for name in names if left.get(name) != right.get(name)
    )


def _compared(plan: Plan, other: Plan) -> dict[str, str]:
    """What there is to compare with another plan: epochs that both have by their indices, others part by part."""
    said, common = dict(_totals(plan)), {epoch for _, epoch in plan.kinds} & {epoch for _, epoch in other.kinds}
    for places, epoch in plan.kinds[:SHOWN]:
        if epoch in common:
            first = min(kind[0][0] for kind in (*plan.kinds, *other.kinds) if kind[1] == epoch)
            said[f"epochs like epoch {first:,}"] = _indices(places)
        else:
            said |= {f"{_which(places)}, {what}": text for what, text in _parts(epoch)}
    return said


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    yield from _totals(plan)
    kinds = plan.kinds
    for places, epoch in kinds[:SHOWN]:
        yield _which(places), "; ".join(said if what == "batches" else f"{what}: {said}" for what, said in _parts(epoch))
    if len(kinds) > SHOWN:
        rest = kinds[SHOWN:]
        yield "...", f"{plural(sum(len(places) for places, _ in rest), 'epoch')} more, of {plural(len(rest), 'kind')}"


def _totals(plan: Plan) -> Iterator[tuple[str, str]]:
    """The whole run: names, and what there is to say of each."""
    least = plan.at_least
    yield "sanity pass", plural(plan.sanity_batches, "batch") if plan.sanity_batches else "none"
    yield "epochs", _least(f"{plan.nb_epochs:,}", plan.nb_epochs, least.epochs) if plan.epochs else "none"
    if plan.epochs:
        yield "global_step at the end", _least(f"{plan.global_step:,}", plan.global_step, least.global_step)
        for i, (steps, fewest) in enumerate(zip(plan.optimizer_steps, least.optimizer_steps, strict=True)):
            yield f"optimizer {i}", _least(plural(steps, "step"), steps, fewest)
        schedules = zip(plan.loop.sizes.schedulers, plan.scheduler_steps, least.scheduler_steps, strict=True)
        for i, (schedule, steps, fewest) in enumerate(schedules):
            yield f"scheduler {i}", _least(f"{plural(steps, 'step')}, one after {_when(schedule)}", steps, fewest)
        checks = f"{plan.validations:,} of {plural(plan.validation_batches, 'batch')}"
        yield "validations", _least(checks, plan.validations, least.validations) if plan.validations else "none"
    if plan.test_batches:
        yield "test", plural(plan.test_batches, "batch")
    end = plan.earliest_end
    if end is not None:
        where = f"{plural(end.batch_nb + 1, 'batch')} of epoch {end.current_epoch:,} (global_step {end.global_step:,})"
        yield "early stopping", f"may end the training, at the earliest after {where}"
    if plan.epochs:
        options, means = plan.loop.options, "where a guard counts steps, all this holds as long as it skips none"
        if options.mixed_precision.uses_scaler:
            yield "fp16", f"may skip any step; {means}"
        if options.on_nonfinite == "skip":
            yield "on_nonfinite", f"may skip any step; {means}"
        if plan.most_rollbacks:
            times = plural(plan.most_rollbacks, "time")
            yield "on_nonfinite", f"may go back to a checkpoint, {times} at most, and may then skip steps; {means}"


def _least(said: str, most: int, least: int) -> str:
    return said if least == most else f"{said}; may be fewer, at least {least:,}"


def _when(schedule: Schedule) -> str:
    """After what a scheduler acts."""
    one = "epoch" if schedule.interval == "epoch" else "step"
    every = f"every {one}" if schedule.frequency == 1 else f"every {plural(schedule.frequency, one)}"
    if schedule.interval == "step":
        return f"{every} of optimizer {schedule.optimizer_i}"
    return f"{every}, if it had a validation" if schedule.needs_check else every


def _which(epochs: IntRanges) -> str:
    return f"{'epoch' if len(epochs) == 1 else 'epochs'} {_indices(epochs)}"


def _indices(epochs: IntRanges) -> str:
    """Epochs by their indices: ``0 to 4, 10``."""
    parts = []
    for run in epochs.runs:
        if len(run) == 1:
            parts.append(f"{run[0]:,}")
        elif run.step == 1:
            parts.append(f"{run[0]:,} to {run[-1]:,}")
        else:
            parts += _shortened([f"{epoch:,}" for epoch in run[:4]], f"{run[-1]:,}", len(run))
    return ", ".join(_shortened(parts[:6], parts[-1], len(parts)))


def _parts(epoch: Epoch) -> Iterator[tuple[str, str]]:
    """An epoch, part by part."""
    yield "batches", plural(epoch.batches, "batch")
    for i, windows in enumerate(epoch.windows):
        yield "windows" + (f" of optimizer {i}" if len(epoch.windows) > 1 else ""), _spelled(windows)
    for places, name in ((epoch.validations, "validations"), (epoch.saves, "checkpoints")):
        if places:
            yield name, f"{len(places):,}, {_places(places)}"
    if epoch.cut:
        yield "cut short", "by Guards(stop=...)"


def _spelled(windows: Windows) -> str:
    """Windows by their backwards: ``11 of 4, 1 of 1``."""
    spelled = [f"{count:,} of {length:,}" for length, count in windows[:6]]
    if len(windows) > 6:
        length, count = windows[-1]
        spelled = _shortened(spelled[:4], f"{count:,} of {length:,}", len(windows))
    return ", ".join(spelled) or "none"


def _places(batches: IntRanges) -> str:
    """Batches as how many have gone by: ``after 11, 22, 33, 44``; long lists in part."""
    shown = [f"{nb + 1:,}" for nb in batches[:8]]
    if len(batches) > 8:
        shown = _shortened(shown[:4], f"{batches[-1] + 1:,}", len(batches))
    return "after " + ", ".join(shown)


def _shortened(beginning: list[str], last: str, count: int) -> list[str]:
    """The beginning of a list of so many, and its last one."""
    if count <= len(beginning):
        return beginning
    return [*beginning, last] if count == len(beginning) + 1 else [*beginning, "...", last]
