"""What the monitors log in a real run, compared with what a loop by hand computes; samples change no bit of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from fsmtrain.callbacks import DeviceStatsMonitor, GradientNormMonitor, LearningRateMonitor, PrintSamples
from fsmtrain.errors import OptionsError
from tests.models import Adversaries, Perceptron, Smooth, batches, machine_of, same_bits, weights


class Logged:
    """A machine's `log`, recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[tuple[str, Any]] = []
        monkeypatch.setattr("fsmtrain.machine.Machine.log", lambda machine, name, value: self.rows.append((name, value)))

    def values(self, name: str) -> list[float]:
        return [float(value) for own, value in self.rows if own == name]


def test_gradient_norms_are_those_before_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    torch.manual_seed(0)
    monitor = GradientNormMonitor(by_parameter=True)
    machine_of(Smooth(), batches(6), max_nb_epochs=1, gradient_clip_val=1e-2, callbacks=[monitor]).run()
    torch.manual_seed(0)
    model, expected, of_weight = Smooth(), [], []
    optimizer = SGD(model.parameters(), lr=0.1)
    for batch in batches(6):
        optimizer.zero_grad()
        model.loss(batch).backward()
        of_weight.append(float(model.get_parameter("layer.0.weight").grad.norm()))  # type: ignore[union-attr]
        expected.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-2)))
        optimizer.step()
    assert logged.values("grad_norm") == pytest.approx(expected, rel=1e-6)
    assert logged.values("grad_norm/layer.0.weight") == pytest.approx(of_weight, rel=1e-6)


def test_gradient_norms_of_several_optimizers_have_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    machine_of(Adversaries(), batches(4), max_nb_epochs=1, callbacks=[GradientNormMonitor(float("inf"))]).run()
    assert [name for name, _ in logged.rows] == ["grad_norm/0", "grad_norm/1"] * 2


def test_learning_rates_are_those_of_the_step_or_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=1.0, momentum=0.5)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"}]

    logged = Logged(monkeypatch)
    machine_of(Smooth(configure), batches(6), max_nb_epochs=1, callbacks=[LearningRateMonitor(log_momentum=True)]).run()
    assert logged.values("lr-SGD") == [1.0, 0.5, 0.25]
    assert logged.values("lr-SGD-momentum") == [0.5] * 3
    logged = Logged(monkeypatch)
    machine_of(Smooth(configure), batches(6), max_nb_epochs=2, callbacks=[LearningRateMonitor("epoch")]).run()
    assert logged.values("lr-SGD") == [1.0, 0.125]


def test_learning_rates_of_several_groups_and_optimizers_of_one_class_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def configure(parameters: Any) -> Any:
        first, second, third, fourth = parameters
        groups: list[Any] = [{"params": [first]}, {"params": [second], "lr": 2.0}]
        return [Adam(groups, lr=1.0), Adam([third], lr=3.0), SGD([fourth], lr=4.0)]

    class Three(Smooth):
        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

    logged = Logged(monkeypatch)
    machine_of(Three(configure), batches(2), max_nb_epochs=1, callbacks=[LearningRateMonitor()]).run()
    assert logged.rows == [("lr-Adam/pg1", 1.0), ("lr-Adam/pg2", 2.0), ("lr-Adam-1", 3.0), ("lr-SGD", 4.0)]


def test_memory_is_logged_at_every_nth_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(monkeypatch)
    machine_of(Smooth(), batches(10), max_nb_epochs=1, device="cpu", callbacks=[DeviceStatsMonitor(2)]).run()
    assert len(logged.values("process/memory_peak")) == 2
    assert all(value > 10**7 for value in logged.values("process/memory_peak"))


@pytest.mark.parametrize("every_n_steps", [None, 2])
def test_samples_are_printed_in_eval_mode_and_change_no_bit(
    every_n_steps: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(model: Any) -> str:
        assert not model.layer[3].training
        assert not torch.is_grad_enabled()
        torch.rand(3)
        return f"made {len(list(model.parameters()))}"

    models = []
    for callbacks in ([], [PrintSamples(sample, every_n_steps=every_n_steps)]):
        torch.manual_seed(0)
        models.append(Perceptron())
        given: dict[str, Any] = {"max_nb_epochs": 2, "accumulate_grad_batches": 2, "seed": 0, "val_percent_check": 0}
        machine_of(models[-1], batches(12, shuffle=True), callbacks=callbacks, **given).run()
    assert same_bits(*map(weights, models))
    whens = ["epoch 0", "epoch 1"] if every_n_steps is None else ["step 2", "step 4", "step 6"]
    assert capsys.readouterr().out == "".join(f"--- sample, {when} ---\nmade 6\n" for when in whens)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GradientNormMonitor(0),
        lambda: LearningRateMonitor("batch"),  # type: ignore[arg-type]
        lambda: DeviceStatsMonitor(0),
        lambda: PrintSamples("text"),  # type: ignore[arg-type]
        lambda: PrintSamples(print, every_n_steps=0),
    ],
)
def test_arguments_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(OptionsError, match=r"\(\w+="):
        make()
