"""Runs with a progress display, and stand-ins for their parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from fsmtrain import Options, TrainingModule
from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.core.trace import Trace
from fsmtrain.machine import Machine
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.views.console.progress_callback import Progress


class UnsizedBatches:
    """So many batches, with or without a length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.ones(2, 3) for _ in range(self.n))


class SizedBatches(UnsizedBatches):
    def __len__(self) -> int:
        return self.n


class Model(TrainingModule):
    """A model that does something else besides, at each call."""

    def __init__(self, aside: Callable[[str, int], None] | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.aside = aside or (lambda step, batch_nb: None)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("train", batch_nb)
        loss = self.layer(batch).pow(2).mean()
        return {"loss": loss, "progress_bar": {"batch": float(batch_nb), "half": torch.tensor(0.5)}}

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("val", batch_nb)
        return {"val_loss": self.layer(batch).pow(2).mean()}

    def validation_end(self, outputs: Any) -> Any:
        return {"val_loss": 0.25, "progress_bar": {"val_loss": 0.25}}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("test", batch_nb)
        return {"test_loss": self.layer(batch).pow(2).mean()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def machine_with_progress(
    model: TrainingModule,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] = (),
    test: Iterable[Any] = (),
    *,
    progress: Progress | None = None,
    **flags: Any,
) -> Machine:
    """A run of a model of which nothing but its progress is shown."""
    alone = {"quiet": True, "runs_dir": None}
    options = Options(**{"max_nb_epochs": 2, "nb_sanity_val_steps": 0, "device": "cpu", **alone, **flags})
    loaders = Loaders(train=SizedBatches(4) if train is None else train, val=val, test=test)
    return Machine(options, model, loaders, callbacks=[progress or Progress()])


class LateMetrics:
    """Metrics that come when they are told to."""

    def __init__(self, values: dict[str, float], *, here: bool = False, failure: Exception | None = None) -> None:
        self._values, self.here, self.failure = values, here, failure

    @property
    def arrived(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.here

    def values(self) -> dict[str, float]:
        if self.failure is not None:
            raise self.failure
        return self._values if self.here else {}


class FrozenRun:
    """A run that stands where it is put."""

    def __init__(self, state: State = State.FETCH, counters: Counters | None = None, **sizes: Any) -> None:
        self.state, self.counters = state, counters or Counters()
        self.evaluates: Literal["val", "test", "predict"] = "test"
        self.spec = LoopSpec(
            Options(max_nb_epochs=20, val_check_interval=45), Sizes(**{"train": 45, "val": [12], "test": [7], **sizes})
        )
        self.times: dict[State, Timing] = {}
        self.stop_reason: StopReason | None = None
        self.metrics = LateMetrics({}, here=True)
        self.trace = Trace(self.spec.table, self.spec.limits, self.counters)
        self.rollbacks: tuple[object, ...] = ()
        self.device_times: dict[State, Timing] = {}
        self.data_wait, self.wall_seconds = Timing(0, 0.0), 0.0
        self.model = self.device = self.run_dir = self.metric_queue = None
        self.loaders: list[Any] = []
        self.optimizers: list[Any] = []
        self.best_checkpoint = self.last_checkpoint = self.tested = None
        self.is_running, self.was_resumed = True, False
        self.best_values: dict[str, float] = {}
        self.hparams: dict[str, Any] = {}

    def keep_losses(self) -> None:
        pass

    def line_metrics_async(self) -> LateMetrics:
        return self.metrics

    def progress_bar_metrics_async(self, *, with_loss: bool = False) -> LateMetrics:
        return self.metrics

    def checkpoint_folders(self, run_dir: Path) -> list[Path]:
        return []


class ManualClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drawing_threads() -> list[threading.Thread]:
    """The threads that draw, or are about to write."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fsmtrain progress")]
