"""The trainer and the machine of a Lightning program: both packages, the plan, the remainder, errors and stops."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402
from lightning.pytorch.demos import boring_classes, lstm, transformer  # noqa: E402

from fsmtrain.adapters import lightning as pl  # noqa: E402
from fsmtrain.core.states import State  # noqa: E402
from tests.adapters.lightning import programs as p  # noqa: E402
from tests.adapters.lightning.compare import compare, first_difference  # noqa: E402
from tests.adapters.lightning.test_refused_flags import QUIET  # noqa: E402


def test_other_names_are_those_of_lightning() -> None:
    assert pl.LightningModule is L.LightningModule
    assert issubclass(pl.Trainer, L.Trainer)
    assert pl.callbacks.EarlyStopping is L.callbacks.EarlyStopping


def test_signature_shows_all_flags() -> None:
    shown = inspect.signature(pl.Trainer).parameters
    assert [*inspect.signature(L.Trainer).parameters, "remainder"] == list(shown)


def test_lightning_cli_takes_our_trainer() -> None:
    pytest.importorskip("jsonargparse")
    lightning_cli = importlib.import_module("lightning.pytorch.cli").LightningCLI
    flags = ["accelerator=cpu", "max_epochs=3", "callbacks=EarlyStopping", "callbacks.monitor=train_loss_epoch"]
    off = [f"{name}=false" for name in ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")]
    arguments = ["fit", "--data.batch_size=5", *(f"--trainer.{flag}" for flag in [*flags, *off, "remainder=lightning"])]
    cli = lightning_cli(p.OfTwoLoaders, p.Data, trainer_class=pl.Trainer, args=arguments, save_config_callback=None)
    assert cli.trainer.machine.counters.global_step == cli.trainer.global_step > 0
    assert cli.trainer.remainder == "lightning"


def test_machine_is_planned_and_stepped() -> None:
    machine = pl.build(p.Plain(), p.data(), p.data(9, 4), accumulate_grad_batches=2, remainder="lightning", **QUIET)
    assert "3 steps" in str(machine.plan())
    assert not machine.check().errors
    taken = [transition.source for transition in machine]
    assert taken.count(State.STEP) == 3 == machine.global_step


def test_nothing_that_may_stop_leaves_the_plan_exact() -> None:
    assert pl.build(p.Plain(), p.data(), **QUIET).spec.guards.stop is None
    assert pl.build(p.Stops(), p.data(), **QUIET).spec.guards.stop is not None


def test_short_last_window_is_a_mean_of_its_own_batches_and_reported() -> None:
    class Linear(p.Plain):
        def __init__(self) -> None:
            super().__init__(lr=0.1, momentum=0.0)
            self.net = torch.nn.Linear(3, 1)  # type: ignore[assignment]

    L.seed_everything(1, verbose=False)
    module, by_hand = Linear(), torch.nn.Linear(3, 1)
    by_hand.load_state_dict(module.net.state_dict())
    sgd = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    batches = list(p.data(20, 4))
    for window in (batches[:4], batches[4:]):
        sgd.zero_grad()
        for x, y in window:
            (torch.nn.functional.mse_loss(by_hand(x), y) / len(window)).backward()  # type: ignore[no-untyped-call]
        sgd.step()
    with pytest.warns(UserWarning, match="remainder='lightning'"):
        pl.Trainer(accumulate_grad_batches=4, **QUIET).fit(module, p.data(20, 4))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(module.net.parameters(), by_hand.parameters(), strict=True))


def test_modules_of_both_packages_run_in_one_process() -> None:
    other: Any = pytest.importorskip("pytorch_lightning")

    class Other(other.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch[0]).square().mean()
            self.log("train_loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    left: list[Any] = []
    for trainer_class in (other.Trainer, pl.Trainer):
        other.seed_everything(1, verbose=False)
        module = Other()
        stopping = other.callbacks.EarlyStopping("train_loss", mode="max", patience=0)
        trainer = trainer_class(**{**QUIET, "max_epochs": 4}, callbacks=[stopping])
        trainer.fit(module, p.data())
        left.append([module.state_dict(), trainer.global_step])
    assert first_difference(*left) is None
    trainer = pl.Trainer(**QUIET)
    trainer.fit(Other(), p.data())
    assert isinstance(trainer, other.Trainer)


def test_error_in_a_hook_is_reported_to_callbacks_and_raised_with_its_place() -> None:
    class Fails(p.Plain):
        def on_after_backward(self) -> None:
            if self.global_step == 3:
                raise ZeroDivisionError

    class Notes(L.Callback):
        seen: Any = None

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.seen = type(exception)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            raise AssertionError("training has not ended")

    notes = Notes()
    trainer = pl.Trainer(callbacks=[notes], **QUIET)
    with pytest.raises(ZeroDivisionError) as caught:
        trainer.fit(Fails(), p.data())
    assert notes.seen is ZeroDivisionError
    assert "backward" in caught.value.__notes__[0]
    assert trainer.interrupted


@pytest.mark.parametrize("name", ["BoringModel", "ManualOptimBoringModel"])
def test_boring_demo(name: str) -> None:
    compare(lambda: (getattr(boring_classes, name)(), {}), limit_train_batches=7, limit_val_batches=3)


def test_boring_demo_with_a_data_module() -> None:
    compare(lambda: (boring_classes.BoringModel(), {"datamodule": boring_classes.BoringDataModule()}), limit_train_batches=5)


@pytest.mark.parametrize("name", ["LightningLSTM", "LightningTransformer"])
def test_language_model_demo(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    words = torch.randint(0, 50, (1500,), generator=torch.Generator().manual_seed(1)).tolist()
    (folder / "wikitext-2.txt").write_text(" ".join(f"w{n}" for n in words), encoding="utf-8")
    module_class = getattr(lstm, name, None) or getattr(transformer, name)
    compare(lambda: (module_class(vocab_size=60), {}), limit_train_batches=3, max_epochs=1)
