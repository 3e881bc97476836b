"""Each program ends with the same bits, metrics, hook calls and checkpoints by both trainers."""

from __future__ import annotations

from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from fsmtrain.adapters.lightning.train_work import LightningWork, PlainWork  # noqa: E402
from tests.adapters.lightning import programs as p  # noqa: E402
from tests.adapters.lightning.compare import compare  # noqa: E402


def test_plain_program() -> None:
    machine = compare(p.plain).trainer.machine
    assert machine.counters.global_step == 12


def _with(module: Any, **loaders: Any) -> Any:
    return lambda: (module(), p.plain(**loaders)[1])


MODULES = [
    *(p.Without, p.Classifier, p.Hooks, p.Sometimes, p.SecondOrder, p.Warmup, p.Epochs, p.GAN, p.EverySecond, p.Frozen),
    *(p.Stops, p.Backward, p.Hidden),
]


@pytest.mark.parametrize("module", MODULES)
def test_program_of_a_module(module: Any) -> None:
    compare(_with(module), max_epochs=3)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "flags", [{}, {"logger": False, "val_check_interval": 0.5}, {"max_steps": 8, "log_every_n_steps": 2}], ids=str
)
def test_program_without_callbacks(module: Any, flags: dict[str, Any]) -> None:
    if module is p.Hidden and not flags.get("logger", True):
        pytest.skip("it logs to its logger")
    compare(_with(module), bare=True, **flags)


def test_plain_module_trains_without_calls_of_hooks() -> None:
    machine = compare(p.plain, bare=True).trainer.machine
    assert isinstance(machine.model.make_train_work(machine), PlainWork)
    machine = compare(_with(p.Backward), bare=True).trainer.machine
    assert isinstance(machine.model.make_train_work(machine), LightningWork)


def test_data_module_then_test_and_predict() -> None:
    def then(trainer: Any, module: Any) -> Any:
        return [trainer.test(module, datamodule=trainer.datamodule, verbose=False), trainer.datamodule.seen]

    compare(lambda: (p.OfTwoLoaders(), {"datamodule": p.Data()}), then)


def test_classifier_is_tested_validated_and_predicts() -> None:
    def then(trainer: Any, module: Any) -> Any:
        test, val, predict = p.data(7, 3, seed=8), p.data(9, 4, seed=5), p.data(5, 2, seed=9)
        return [
            trainer.test(module, test, verbose=False), dict(trainer.callback_metrics),
            trainer.validate(module, val, verbose=False), trainer.predict(module, predict),
        ]  # fmt: skip

    compare(_with(p.Classifier), then)


def test_stream() -> None:
    compare(_with(p.Plain, train_dataloaders=DataLoader(p.Stream(10), batch_size=4)))


def test_several_train_loaders() -> None:
    compare(_with(p.Several, train_dataloaders={"a": p.data(12), "b": p.data(20, seed=9)}))


def test_no_validation() -> None:
    compare(lambda: (p.Plain(), {"train_dataloaders": p.data()}))


def test_checkpoints_early_stopping_and_monitors() -> None:
    def callbacks() -> Any:
        return [
            L.callbacks.ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True),
            L.callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.05),
            L.callbacks.LearningRateMonitor("step"),
        ]

    def then(trainer: Any, module: Any) -> Any:
        best = type(module).load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
        trainer.validate(ckpt_path="best", dataloaders=p.data(9, 4, seed=5), verbose=False)
        content = torch.load(trainer.checkpoint_callback.last_model_path, weights_only=False)
        return [best.state_dict(), dict(trainer.callback_metrics), content["global_step"], content["epoch"], content["loops"]]

    compare(_with(p.Epochs), then, callbacks=callbacks, max_epochs=8, enable_checkpointing=True)
