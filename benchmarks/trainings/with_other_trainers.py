"""Training with Lightning, Ignite and Accelerate, if they are installed: `make bench` installs them only for itself.

Each trains the same model in the way that its documentation shows first. The name of a contestant says how it is configured.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn, optim
from torch.nn.functional import mse_loss

from benchmarks.harness.compare import Contestant, Train
from benchmarks.harness.timed_loaders import val_batches
from benchmarks.trainings import by_hand
from benchmarks.trainings.models import LEARNING_RATE, Regression, TwoLayers, layer

Peers = dict[str, list[Contestant]]  # by scenario

_SCENARIOS = ("plain", "by default", "accumulated", "two optimizers", "validated")
NONE: Peers = {name: [] for name in _SCENARIOS}
PACKAGES = ("lightning", "pytorch-ignite", "accelerate")


def peers() -> Peers:
    """Return the contestants of the trainers that are installed."""
    contestants: Peers = {name: [] for name in _SCENARIOS}
    for make in (_ignite, _accelerate, _lightning):
        with suppress(ModuleNotFoundError):
            for name, others in make().items():
                contestants[name] += others
    return contestants


# ---- Ignite


def _ignite() -> Peers:
    from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer  # type: ignore[import-not-found]
    from ignite.metrics import Loss  # type: ignore[import-not-found]

    def train_with_engine(loader: Any) -> nn.Module:
        model = Regression()
        optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)

        def update(_: Any, batch: Any) -> Any:
            x, y = batch
            loss = mse_loss(model.layer(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            return None

        model.train()
        Engine(update).run(loader, max_epochs=1)
        return model

    def supervised(steps: int = 1, val_loader: Any = None) -> Train:
        def train(loader: Any) -> nn.Module:
            model = Regression()
            optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
            trainer = create_supervised_trainer(model.layer, optimizer, mse_loss, gradient_accumulation_steps=steps)
            if val_loader is not None:
                evaluator = create_supervised_evaluator(model.layer, metrics={"val_loss": Loss(mse_loss)})
                trainer.add_event_handler(
                    Events.ITERATION_COMPLETED(every=by_hand.VALIDATION_INTERVAL), lambda: evaluator.run(val_loader)
                )
            trainer.run(loader, max_epochs=1)
            return model

        return train

    return {
        "plain": [
            Contestant("Ignite, an Engine", train_with_engine),
            Contestant("Ignite, create_supervised_trainer", supervised()),
        ],
        "accumulated": [Contestant("Ignite, create_supervised_trainer", supervised(by_hand.WINDOW))],
        "validated": [Contestant("Ignite, with an evaluator", supervised(val_loader=val_batches()))],
    }


# ---- Accelerate


def _accelerate() -> Peers:
    from accelerate import Accelerator  # type: ignore[import-not-found]

    def trains(steps: int = 1) -> Train:
        def train(loader: Any) -> nn.Module:
            accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
            model = Regression()
            prepared, optimizer, batches = accelerator.prepare(
                model.layer, optim.SGD(model.parameters(), lr=LEARNING_RATE), loader
            )
            model.train()
            if steps == 1:
                for x, y in batches:
                    loss = mse_loss(prepared(x), y)
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
            else:
                for x, y in batches:
                    with accelerator.accumulate(prepared):
                        loss = mse_loss(prepared(x), y)
                        accelerator.backward(loss)
                        optimizer.step()
                        optimizer.zero_grad()
            return model

        return train

    return {"plain": [Contestant("Accelerate", trains())], "accumulated": [Contestant("Accelerate", trains(by_hand.WINDOW))]}


# ---- Lightning


def _lightning() -> Peers:
    import lightning
    from lightning.pytorch.callbacks import TQDMProgressBar

    from fsmtrain.adapters import lightning as adapter

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)

    class Plain(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return mse_loss(self.layer(x), y)

        def configure_optimizers(self) -> Any:
            return optim.SGD(self.parameters(), lr=LEARNING_RATE)

    class Logs(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            loss = mse_loss(self.layer(x), y)
            self.log("loss", loss, prog_bar=True)
            return loss

    class Validated(Plain):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return mse_loss(self.layer(x), y)

    class TwoOptimizers(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            layers = TwoLayers()
            self.first, self.second = layers.first, layers.second

        def training_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            for optimizer in self.optimizers():
                self.toggle_optimizer(optimizer)
                loss = mse_loss(self.second(self.first(x)), y)
                self.manual_backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> Any:
            return [optim.SGD(self.first.parameters(), lr=LEARNING_RATE), optim.SGD(self.second.parameters(), lr=LEARNING_RATE)]

    class Counts(lightning.Callback):  # type: ignore[misc]
        batches = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.batches += 1

    def trains(
        model: Callable[[], Any], *, val: Any = None, callbacks: Callable[[], Any] = list, by: Any = lightning, **flags: Any
    ) -> Train:
        def train(loader: Any) -> nn.Module:
            trained: nn.Module = model()
            with tempfile.TemporaryDirectory() as folder, _silently():
                trainer = by.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, callbacks=callbacks(), **flags)
                trainer.fit(trained, loader, val)
            return trained

        return train

    def with_tqdm() -> Any:  # its bar if rich is not installed; fsmtrain installs rich
        return [TQDMProgressBar()]

    validation: dict[str, Any] = {
        "val": val_batches(),
        "val_check_interval": by_hand.VALIDATION_INTERVAL,
        "num_sanity_val_steps": 0,
    }
    bare, name, with_rich = "Lightning, barebones", "Lightning, defaults, self.log", "Lightning, defaults, rich bar"
    return {
        "plain": [
            Contestant(bare, trains(Plain, barebones=True)),
            Contestant("Lightning, quiet", trains(Plain, **_QUIET)),
            Contestant("Lightning's program, quiet, by fsmtrain", trains(Plain, by=adapter, **_QUIET)),
            Contestant("Lightning, self.log, a callback", trains(Logs, callbacks=lambda: [Counts()], **_QUIET)),
            Contestant("the same by fsmtrain", trains(Logs, callbacks=lambda: [Counts()], by=adapter, **_QUIET)),
        ],
        "by default": [
            Contestant(name, trains(Logs, callbacks=with_tqdm), draws=True),
            Contestant(with_rich, trains(Logs), draws=True),
        ],
        "accumulated": [Contestant(bare, trains(Plain, barebones=True, accumulate_grad_batches=by_hand.WINDOW))],
        "two optimizers": [Contestant("Lightning, manual, barebones", trains(TwoOptimizers, barebones=True))],
        "validated": [Contestant("Lightning, quiet", trains(Validated, **validation, **_QUIET))],
    }


# What barebones switches off; it also refuses to validate.
_QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@contextmanager
def _silently() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
