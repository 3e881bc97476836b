"""`RunFacts`: what one run is compared by: when, how long, how far, what it measured, and its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field, frozen

from fsmtrain.errors import DAMAGED_STATE, UsageError
from fsmtrain.flags.metadata import OnResume, flag_info
from fsmtrain.options import Options
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float, to_json_value
from fsmtrain.views.recording.list_runs import ListedRun
from fsmtrain.views.recording.read_run_folder import RunRecord, as_dict, read_run_folder

Mode = Literal["min", "max"]

# Flags that say where and how a run is shown or recorded, and nothing about the training.
_LOGGED_TO = ("logger", "run_name", "runs_dir")
_DEVICE_FLAG = "device"  # the record has the device itself
_FLAGS = {f.name: f for f in attrs.fields(Options)}
_HIDDEN_FLAGS = {
    *_LOGGED_TO,
    _DEVICE_FLAG,
    *(name for name, f in _FLAGS.items() if flag_info(f).on_resume is OnResume.DISPLAY_ONLY),
}


@frozen
class Extremes:
    """The values of one metric in one run. Those that are not finite are neither the least nor the greatest."""

    last: float
    min: float = math.nan
    max: float = math.nan
    min_step: int | None = None
    max_step: int | None = None

    def best(self, mode: Mode) -> float:
        """Return the minimum or the maximum."""
        return self.min if mode == "min" else self.max


@frozen(kw_only=True, slots=False, eq=False)
class RunFacts:
    """What one run is compared by.

    Attributes:
        record: The contents of its folder.
        outcome: ``running``, ``ended``, ``stopped``, ``failed`` or ``killed``.
        reason: Why it ended, in one word; empty if it has not.
        started: When it began, as ISO text.
        seconds: How long it has run; NaN if that is unknown.
        epochs: Epochs begun.
        steps: ``global_step``.
    """

    record: RunRecord = field(repr=False)
    outcome: str
    reason: str
    started: str
    seconds: float
    epochs: int | None
    steps: int | None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.record.path.absolute().name

    @cached_property
    def choices(self) -> dict[str, Any]:
        """The model, flags and hyperparameters, by the names of their columns; nested ones by path."""
        options = self.record.options
        defaults = {name: to_json_value(f.default) for name, f in _FLAGS.items() if name not in options and _has_default(f)}
        shown = {name: value for name, value in (defaults | options).items() if name not in _HIDDEN_FLAGS}
        choices = {"model": self.record.model_class} | _flat(shown)
        for name, value in _flat(as_dict(self.record.run.get("hparams"))).items():
            choices[f"hparams.{name}" if name in choices else name] = value
        return choices

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The choices, what follows from them (guards, sizes, plan), and where it ran, by the names of their columns."""
        run = self.record.run
        plan, sizes, optimizers = (as_dict(run.get("plan")), as_dict(run.get("sizes")), run.get("optimizers"))
        others: Row = {"guards": as_dict(run.get("guards")), "planned_steps": plan.get("global_step")}
        others |= {f"{name}_batches": sizes[name] for name in ("train", "val", "test") if name in sizes}
        others["planned_validations"] = plan.get("validations")
        if isinstance(optimizers, list):
            others["optimizer"] = ", ".join(map(str, optimizers))
        others |= {name: run.get(name) for name in ("device", "git_commit", "host", "python") if isinstance(run.get(name), str)}
        others["versions"] = as_dict(run.get("versions"))
        return _flat(others) | self.choices

    @cached_property
    def metrics(self) -> dict[str, Extremes]:
        """The values of each metric, by name."""
        values: dict[str, list[tuple[float, int]]] = {}
        for row in self.record.metrics:
            for name, value in row["values"].items():
                values.setdefault(name, []).append((to_float(value), row["step"]))
        return {name: _extremes(pairs) for name, pairs in values.items()}

    @property
    def monitors(self) -> Iterator[tuple[str, Mode | None]]:
        """The metrics by which the run was judged, each with what is better; None if that is not recorded."""
        rule = self.record.options.get("early_stop_callback")
        if isinstance(rule, dict) and isinstance(rule.get("monitor"), str):
            yield rule["monitor"], rule["mode"] if rule.get("mode") in ("min", "max") else None
        best = as_dict(self.record.end.get("best_checkpoint"))
        if isinstance(best.get("monitor"), str):
            yield best["monitor"], self._mode_of(best["monitor"], to_float(best.get("score")))

    def _mode_of(self, monitor: str, score: float) -> Mode | None:
        """Return what is better, by the score of the best checkpoint."""
        extremes = self.metrics.get(monitor)
        if extremes is None or extremes.min == extremes.max:
            return None
        return "max" if math.isclose(score, extremes.max) else "min" if math.isclose(score, extremes.min) else None


def read_facts(run: ListedRun | Path, now: datetime, *, with_timeline: bool = False) -> RunFacts:
    """Read what a run is compared by.

    Args:
        run: The run, or its folder.
        now: The time at which it is read.
        with_timeline: Whether to read ``timeline.jsonl``, too.

    Raises:
        UsageError: It is not a run folder, has an unknown format, or is damaged.
    """
    path = run.folder if isinstance(run, ListedRun) else run
    record = read_run_folder(path, with_timeline=with_timeline)
    try:
        last = record.last
        return RunFacts(
            record=record,
            outcome=str(record.outcome(now)),
            reason=str(record.end.get("reason", "")),
            started=str(record.run.get("started", "")),
            seconds=to_float(record.end.get("wall_seconds", last.get("time", math.nan))),
            epochs=_count(last.get("epoch"), plus=1),
            steps=_count(last.get("step")),
        )
    except DAMAGED_STATE as error:
        raise UsageError(f"{path}: it is damaged: {error!r:.200}") from error


def _count(value: object, plus: int = 0) -> int | None:
    return value + plus if isinstance(value, int) and not isinstance(value, bool) else None


def _has_default(flag: attrs.Attribute[Any]) -> bool:
    return flag.default is not attrs.NOTHING and not isinstance(flag.default, attrs.Factory)  # type: ignore[arg-type]


def _flat(values: Row) -> dict[str, Any]:
    """Return nested values by path; lists, and dicts whose keys are no names, as JSON text.

    >>> _flat({"lr": 0.1, "early_stop_callback": {"monitor": "val_loss"}, "layers": [3, 4], "accumulate": {"0": 1, "4": 2}})
    {'lr': 0.1, 'early_stop_callback.monitor': 'val_loss', 'layers': '[3, 4]', 'accumulate': '{"0": 1, "4": 2}'}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and all(key.isidentifier() for key in value):
            flat |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
        elif isinstance(value, (dict, list)):
            flat[name] = json.dumps(value, ensure_ascii=False)
        else:
            flat[name] = value
    return flat


def _extremes(pairs: list[tuple[float, int]]) -> Extremes:
    finite = [pair for pair in pairs if math.isfinite(pair[0])]
    if not finite:
        return Extremes(pairs[-1][0])
    low, high = (choose(finite, key=lambda pair: pair[0]) for choose in (min, max))
    return Extremes(pairs[-1][0], low[0], high[0], low[1], high[1])
