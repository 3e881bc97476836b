"""`RunTable`: runs as rows, with the values that differ as columns; sorted, and filtered by conditions such as ``lr<0.1``."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.comparison.run_facts import Mode, RunFacts

FIXED: dict[str, Callable[[RunFacts], Any]] = {
    "run": lambda run: run.name,
    "started": lambda run: run.started,
    "time": lambda run: run.seconds,
    "state": lambda run: run.outcome,
    "reason": lambda run: run.reason,
    "epochs": lambda run: run.epochs,
    "steps": lambda run: run.steps,
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*(?P<name>[^<>=!]+?)\s*(?P<operator><=|>=|!=|==?|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
MAX_NAMES = 12  # in an error
_MISSING = object()
_USUAL_METRICS = ("val_loss", "loss")


@frozen(kw_only=True)
class RunTable:
    """Runs as rows.

    Attributes:
        runs: The runs in order.
        metric: The metric that ranks them; None if they have none in common use.
        mode: Whether the least or the greatest value of it is the best.
    """

    runs: tuple[RunFacts, ...]
    metric: str | None
    mode: Mode

    @property
    def columns(self) -> list[str]:
        """The settings in which the runs differ."""
        names = dict.fromkeys(name for run in self.runs for name in (*run.choices, *run.settings))
        return [name for name in names if len({_hashable(run.settings.get(name, _MISSING)) for run in self.runs}) > 1]

    @property
    def typed_columns(self) -> list[str]:
        """The flags and hyperparameters in which the runs differ, first those with the most values.

        What follows from them (guards, sizes, the plan), and where a run took place, is left out. A flag with parts that some
        run leaves out is one column, beside the parts in which the others differ.
        """
        typed = {name for run in self.runs for name in run.choices} | {"optimizer", "device"}
        wholes = {name.partition(".")[0] for run in self.runs for name in run.choices if "." not in name}
        values: dict[str, int] = {}
        for name in self.columns:
            whole, dot, _ = name.partition(".")
            is_part = bool(dot) and whole in wholes
            shown = [self.setting(run, name) for run in self.runs if name in run.settings or not is_part]
            if name in typed and len(different := set(map(_hashable, shown))) > 1:
                values[name] = len(different)
        return sorted(values, key=lambda name: -values[name])

    def setting(self, run: RunFacts, name: str) -> Any:
        """Return a setting as its column shows it: a flag of which only the parts are recorded is on."""
        has_parts = name not in run.settings and any(other.startswith(f"{name}.") for other in run.choices)
        return "on" if has_parts else run.settings.get(name)

    def best(self, run: RunFacts) -> float:
        """Return the best value of the metric in a run; NaN if it has none."""
        extremes = run.metrics.get(self.metric or "")
        return math.nan if extremes is None else extremes.best(self.mode)

    @property
    def best_run(self) -> RunFacts | None:
        """The run with the best value of all; None if no run has one, or there is only one run."""
        ranked = [run for run in self.runs if math.isfinite(self.best(run))]
        if len(self.runs) < 2 or not ranked:
            return None
        return (min if self.mode == "min" else max)(ranked, key=self.best)

    def value(self, run: RunFacts, name: str, asked: str | None = None) -> Any:
        """Return a value by the name of its column, or the best value of a metric; None if the run has none.

        Args:
            run: The run.
            name: The name.
            asked: What was typed, for the message; None: the name.

        Raises:
            UsageError: No run has such a value.
        """
        if name in FIXED:
            return FIXED[name](run)
        if name in run.settings:
            return run.settings[name]
        if name in run.metrics:
            return run.metrics[name].best(self._mode_of(name))
        known = {*FIXED, *(name for run in self.runs for name in (*run.settings, *run.metrics))}
        if name in known:
            return None
        near = difflib.get_close_matches(name, sorted(known), n=3)
        telling = [*FIXED, *dict.fromkeys([*(name for run in self.runs for name in run.metrics), *self.typed_columns])]
        more = f", ... (fsmtrain runs --json has all {len(known)})" if len(telling) > MAX_NAMES else ""
        hint = f" Did you mean {', '.join(near)}?" if near else f" They have {', '.join(telling[:MAX_NAMES])}{more}."
        raise UsageError(f"{asked or name}: no run has a flag, hyperparameter or metric of this name.{hint}")

    def _mode_of(self, metric: str) -> Mode:
        if metric == self.metric:
            return self.mode
        modes = {mode for run in self.runs for monitor, mode in run.monitors if monitor == metric and mode}
        return modes.pop() if len(modes) == 1 else "min"

    def where(self, conditions: Iterable[str]) -> RunTable:
        """Return the rows for which all conditions hold.

        Raises:
            UsageError: A condition is none, or no run has the value that it names.
        """
        runs = self.runs
        for condition in conditions:
            match = _CONDITION.fullmatch(condition)
            if match is None:
                raise UsageError(
                    f"--where {condition}: write a name, =, !=, <, <=, > or >=, and a value, as in --where 'lr<0.1'."
                )
            name, symbol, wanted = match["name"], match["operator"].replace("==", "="), match["value"]
            runs = tuple(run for run in runs if _holds(self.value(run, name, f"--where {condition}"), symbol, wanted))
        return RunTable(runs=runs, metric=self.metric, mode=self.mode)

    def in_order(self, name: str | None, *, reverse: bool = False) -> RunTable:
        """Return the rows sorted by a value; numbers come before words, and runs without the value last.

        Args:
            name: The value; None: the order stays.
            reverse: Turn it round.

        Raises:
            UsageError: No run has such a value.
        """
        if name is None:
            return RunTable(runs=self.runs[::-1] if reverse else self.runs, metric=self.metric, mode=self.mode)
        values = [(self.value(run, name, f"--sort {name}"), run) for run in self.runs]
        present = [(_sort_key(value), run) for value, run in values if not _is_missing(value)]
        ordered = sorted(present, key=lambda pair: pair[0], reverse=reverse)
        missing = [run for value, run in values if _is_missing(value)]
        return RunTable(runs=(*(run for _, run in ordered), *missing), metric=self.metric, mode=self.mode)


def run_table(runs: Sequence[RunFacts], metric: str | None = None, mode: Mode | None = None) -> RunTable:
    """Return a table of runs, in this order.

    Args:
        runs: The runs.
        metric: The metric that ranks them. None: what early stopping or the best checkpoint monitors in any of them, else
            ``val_loss``, else ``loss``, else the first one that any run has.
        mode: Which of its values is the best. None: what the run that monitors it says, else the least.

    Raises:
        UsageError: No run has the metric.
    """
    monitored = [pair for run in runs for pair in run.monitors]
    recorded = dict.fromkeys(name for run in runs for name in run.metrics)
    if metric is None:
        candidates = [*(name for name, _ in monitored), *_USUAL_METRICS, *recorded]
        metric = next((name for name in candidates if name in recorded), None)
    elif metric not in recorded:
        raise UsageError(f"--metric {metric}: no run has recorded it. They have {', '.join(recorded) or 'no metrics'}.")
    modes = [known for name, known in monitored if name == metric and known]
    return RunTable(runs=tuple(runs), metric=metric, mode=mode or (modes[0] if modes else "min"))


def _hashable(value: object) -> object:
    """Return a value to compare others with: 1 and True differ, 1 and 1.0 do not."""
    return (isinstance(value, bool), value)


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (False, value) if isinstance(value, (int, float)) else (True, str(value))


def _holds(value: object, symbol: str, wanted: str) -> bool:
    """Return whether a condition holds: of numbers as numbers, of anything else as words.

    >>> _holds(0.1, "<", "1e-0"), _holds(None, "=", "None"), _holds(True, "=", "true"), _holds("adam", "!=", "sgd")
    (True, True, True, True)
    """
    compare = _OPERATORS[symbol]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return compare(float(value), float(wanted))
        except (ValueError, OverflowError):
            return symbol == "!="
    if symbol in ("=", "!="):
        return compare(str(value).lower(), wanted.lower())
    return value is not None and compare(str(value), wanted)
