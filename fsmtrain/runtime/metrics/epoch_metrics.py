"""`EpochMetrics`: the metrics of training over the epoch under way, which are part of the run's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve
from torch import nn

from fsmtrain.runtime.metrics.averages import Averages
from fsmtrain.runtime.metrics.logged_metrics import LoggedMetrics, LogRule
from fsmtrain.runtime.metrics.metric_objects import MetricObjects, computed
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar

EPOCH = "_epoch"  # ends the name of a metric over an epoch if each batch has a metric of the name itself

_BATCHES_TOO = LogRule(on_step=True, on_epoch=True)  # of a metric whose mean is kept because it is monitored


class EpochMetrics:
    """Reduces what training logs with ``on_epoch=True``, and what is monitored, over the epoch.

    Nothing is kept of other metrics, so a run that asks for none pays nothing.

    Args:
        monitored: The names of the metrics that are monitored.
        objects: The metric objects of the model.
    """

    def __init__(self, monitored: Iterable[str], objects: MetricObjects) -> None:
        names = set(monitored)
        self.monitored = frozenset(names | {name.removesuffix(EPOCH) for name in names})
        self._objects = objects
        self._begin()

    def _begin(self) -> None:
        self._averages = Averages()
        self._rules: dict[str, LogRule] = {}  # of each metric here
        self._paths: dict[str, str] = {}  # of each metric object that was logged
        self._computed: Metrics = {}  # of metric objects, at the end of the epoch

    # ---- in training

    def add(self, name: str, value: Scalar, weight: Scalar, rule: LogRule) -> None:
        """Add the value of a batch to a metric."""
        self._rules.setdefault(name, rule)
        self._averages.add({name: value}, weight if rule.batch_size is None else rule.batch_size, reduce=rule.reduce)

    def add_monitored(self, metrics: Metrics, weight: Scalar) -> None:
        """Add those metrics of a batch that are monitored, and are not here by a rule of their own."""
        for name in self.monitored & metrics.keys():
            if self._rules.get(name, _BATCHES_TOO) is _BATCHES_TOO:
                self.add(name, metrics[name], weight, _BATCHES_TOO)

    def add_logged(self, logged: LoggedMetrics, weight: Scalar) -> None:
        """Add what a step has logged for the epoch."""
        for name, rule in logged.rules.items():
            if name in logged.values and name not in logged.objects and (rule.on_epoch or name in self.monitored):
                self.add(name, logged.values[name], weight, evolve(rule, on_epoch=True))
        for name, metric in logged.objects.items():
            self.add_object(name, metric, logged.rules.get(name, LogRule()))

    def add_object(self, name: str, metric: nn.Module, rule: LogRule) -> None:
        """Note a metric object: at the end of the epoch it is computed if it is logged for the epoch, and reset."""
        self._paths[name] = self._objects.path_of(name, metric)
        if rule.on_epoch or name in self.monitored:
            self._rules.setdefault(name, rule if rule.on_epoch else _BATCHES_TOO)

    def wants(self, logged: LoggedMetrics) -> bool:
        """Return whether any of what a step has logged is reduced over the epoch by a rule of its own."""
        return bool(logged.objects) or any(rule.on_epoch or name in self.monitored for name, rule in logged.rules.items())

    # ---- at the end of the epoch

    @property
    def names(self) -> set[str]:
        """The names under which metrics of this epoch can be monitored."""
        return {*self._rules, *(rule.epoch_name(name) for name, rule in self._rules.items())}

    def results(self) -> Metrics:
        """Return the metrics of the epoch so far. A metric object is computed once an epoch."""
        for name, path in self._paths.items():
            if name in self._rules and name not in self._computed:
                self._computed[name] = computed(name, self._objects.at(path))
        return {
            self._rules[name].epoch_name(name): value for name, value in (self._averages.results() | self._computed).items()
        }

    @property
    def bar_names(self) -> set[str]:
        """The names in `results` of those that the progress bar shows."""
        return {rule.epoch_name(name) for name, rule in self._rules.items() if rule.prog_bar}

    @property
    def unrecorded(self) -> set[str]:
        """The names in `results` of those that neither the run folder nor a logger gets."""
        return {rule.epoch_name(name) for name, rule in self._rules.items() if not rule.logger}

    def reset(self) -> None:
        """Begin the next epoch. The metric objects that were logged are reset, too."""
        for path in set(self._paths.values()):
            self._objects.at(path).reset()  # type: ignore[operator]
        self._begin()

    # ---- saving and resuming

    def state_dict(self) -> dict[str, Any]:
        """Return what the epoch has gathered so far."""
        rules = {
            name: {
                "prog_bar": rule.prog_bar,
                "logger": rule.logger,
                "on_step": rule.on_step,
                "batch_size": rule.batch_size,
                "reduce": rule.reduce,
                "is_monitored": rule is _BATCHES_TOO,
            }
            for name, rule in self._rules.items()
        }
        return {"averages": self._averages.state_dict(), "rules": rules, "objects": dict(self._paths)}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Continue an epoch. None, of an older checkpoint, begins with the batches that follow."""
        self._begin()
        if state is None:
            return
        self._averages = Averages.from_state_dict(state["averages"])
        self._paths = dict(state["objects"])
        for name, saved in state["rules"].items():
            options = {option: value for option, value in saved.items() if option != "is_monitored"}
            self._rules[name] = _BATCHES_TOO if saved["is_monitored"] else LogRule(**options, on_epoch=True)


def epoch_metric(metrics: Metrics, name: str) -> Scalar | None:
    """Return a metric of an epoch by the name by which it is monitored, ``acc`` or ``acc_epoch``; None if there is none."""
    return metrics.get(name, metrics.get(name + EPOCH))
