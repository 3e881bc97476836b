"""Other trainers as contestants, where they are installed: `make bench` installs them for itself alone.

Each trains in the way that its documentation shows first, with the same model, and says what it is set to in its name.
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

from benchmarks import by_hand
from benchmarks.batches import val_batches
from benchmarks.models import RATE, Pair, Regression, layer
from benchmarks.turns import Contestant, Train

Peers = dict[str, list[Contestant]]  # by scenario

_SCENARIOS = ("plain", "by default", "accumulated", "two optimizers", "validated")
NONE: Peers = {name: [] for name in _SCENARIOS}
PACKAGES = ("lightning", "pytorch-ignite", "accelerate")


def peers() -> Peers:
    """The contestants of those that are installed."""
    found: Peers = {name: [] for name in _SCENARIOS}
    for make in (_ignite, _accelerate, _lightning):
        with suppress(ModuleNotFoundError):
            for name, contestants in make().items():
                found[name] += contestants
    return found


# ---- Ignite


def _ignite() -> Peers:
    from ignite.engine import (  # type: ignore[import-not-found]
        Engine,
        Events,
        create_supervised_evaluator,
        create_supervised_trainer,
    )
    from ignite.metrics import Loss  # type: ignore[import-not-found]

    def with_an_engine(loader: Any) -> nn.Module:
        model = Regression()
        optimizer = optim.SGD(model.parameters(), lr=RATE)

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

    def supervised(steps: int = 1, checks: Any = None) -> Train:
        def train(loader: Any) -> nn.Module:
            model = Regression()
            optimizer = optim.SGD(model.parameters(), lr=RATE)
            trainer = create_supervised_trainer(model.layer, optimizer, mse_loss, gradient_accumulation_steps=steps)
            if checks is not None:
                evaluator = create_supervised_evaluator(model.layer, metrics={"val_loss": Loss(mse_loss)})
                trainer.add_event_handler(Events.ITERATION_COMPLETED(every=by_hand.EVERY), lambda: evaluator.run(checks))
            trainer.run(loader, max_epochs=1)
            return model

        return train

    return {
        "plain": [
            Contestant("Ignite, an Engine", with_an_engine),
            Contestant("Ignite, create_supervised_trainer", supervised()),
        ],
        "accumulated": [Contestant("Ignite, create_supervised_trainer", supervised(by_hand.WINDOW))],
        "validated": [Contestant("Ignite, with an evaluator", supervised(checks=val_batches()))],
    }


# ---- Accelerate


def _accelerate() -> Peers:
    from accelerate import Accelerator  # type: ignore[import-not-found]

    def trains(steps: int = 1) -> Train:
        def train(loader: Any) -> nn.Module:
            accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
            model = Regression()
            prepared, optimizer, batches = accelerator.prepare(model.layer, optim.SGD(model.parameters(), lr=RATE), loader)
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

    return {
        "plain": [Contestant("Accelerate", trains())],
        "accumulated": [Contestant("Accelerate", trains(by_hand.WINDOW))],
    }


# ---- Lightning


def _lightning() -> Peers:
    import lightning  # type: ignore[import-not-found]
    from lightning.pytorch.callbacks import TQDMProgressBar  # type: ignore[import-not-found]

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
            return optim.SGD(self.parameters(), lr=RATE)

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
            layers = Pair()
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
            return [optim.SGD(self.first.parameters(), lr=RATE), optim.SGD(self.second.parameters(), lr=RATE)]

    def trains(model: Callable[[], Any], *, val: Any = None, callbacks: Callable[[], Any] = list, **flags: Any) -> Train:
        def train(loader: Any) -> nn.Module:
            trained: nn.Module = model()
            with tempfile.TemporaryDirectory() as folder, _silently():
                trainer = lightning.Trainer(
                    max_epochs=1, accelerator="cpu", default_root_dir=folder, callbacks=callbacks(), **flags
                )
                trainer.fit(trained, loader, val)
            return trained

        return train

    def with_tqdm() -> Any:  # the bar where rich is not installed; fsmtrain brings rich with it
        return [TQDMProgressBar()]

    checks: dict[str, Any] = {"val": val_batches(), "val_check_interval": by_hand.EVERY, "num_sanity_val_steps": 0}
    bare, name, with_rich = "Lightning, barebones", "Lightning, its defaults, self.log", "Lightning, the same, bar of rich"
    return {
        "plain": [
            Contestant(bare, trains(Plain, barebones=True)),
        ],
        "by default": [
            Contestant(name, trains(Logs, callbacks=with_tqdm), draws=True),
            Contestant(with_rich, trains(Logs), draws=True),
        ],
        "accumulated": [
            Contestant(bare, trains(Plain, barebones=True, accumulate_grad_batches=by_hand.WINDOW)),
        ],
        "two optimizers": [Contestant("Lightning, manual, barebones", trains(TwoOptimizers, barebones=True))],
        "validated": [
            Contestant("Lightning, quiet", trains(Validated, **checks, **_QUIET)),
        ],
    }


# barebones switches these off, and refuses checks besides
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
