"""Parts are frozen until their epoch, also in a run that was stopped in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Adam

from fsmtrain import Callback, Machine, ModelCheckpoint
from fsmtrain.callbacks import GradualUnfreezing
from fsmtrain.errors import OptionsError
from tests.models import Perceptron, batches, machine_of, same_bits, weights

UNFREEZE_AT = {"layer": 1, "layer.4": 0, "layer.1": None, "layer.0.bias": 2}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Watch(Callback):
    """Notes at each epoch's end which parameters require gradients, which changed, and which modules are in train mode."""

    def __init__(self, n: int | None = None) -> None:
        self.n, self.transitions = n, 0
        self.required: list[list[str]] = []
        self.changed: list[list[str]] = []
        self.training: list[list[str]] = []
        self.before: dict[str, Any] = {}

    def on_epoch_start(self, machine: Machine) -> None:
        self.before = {name: parameter.detach().clone() for name, parameter in machine.model.named_parameters()}

    def on_epoch_end(self, machine: Machine) -> None:
        named = dict(machine.model.named_parameters())
        self.required.append([name for name, parameter in named.items() if parameter.requires_grad])
        self.changed.append([name for name in named if not torch.equal(named[name], self.before[name])] if self.before else [])
        self.training.append([name for name, module in machine.model.named_modules() if name and module.training])

    def on_transition(self, machine: Machine, transition: Any) -> None:
        self.transitions += 1
        if self.transitions == self.n:
            machine.stop()


def run_of(n: int | None = None) -> tuple[Machine, Watch]:
    torch.manual_seed(0)
    watch = Watch(n)
    callbacks = [GradualUnfreezing(UNFREEZE_AT), watch, ModelCheckpoint(every_n_batches=1)]
    given: dict[str, Any] = {"max_nb_epochs": 3, "seed": 1, "val_check_interval": 1}
    model = Perceptron(lambda parameters: Adam(parameters, lr=0.1))
    return machine_of(model, batches(4), batches(2), callbacks=callbacks, **given), watch


def test_each_part_is_trained_from_its_epoch_on() -> None:
    machine, watch = run_of()
    machine.run()
    assert watch.required == [
        ["layer.4.weight", "layer.4.bias"],
        ["layer.0.weight", "layer.4.weight", "layer.4.bias"],
        ["layer.0.weight", "layer.0.bias", "layer.4.weight", "layer.4.bias"],
    ]
    assert watch.changed == watch.required
    of_layer = [f"layer.{i}" for i in (0, 2, 3, 4)]
    assert watch.training == [["layer.4"], ["layer", *of_layer], ["layer", *of_layer]]


def test_a_run_that_is_stopped_anywhere_resumes_to_the_same_bits() -> None:
    whole, watch = run_of()
    whole.run()
    for n in range(1, watch.transitions, 4):
        run_of(n)[0].run()
        resumed, again = run_of()
        resumed.resume()
        resumed.run()
        assert same_bits(weights(resumed.model), weights(whole.model)), n
        assert again.required == watch.required[len(watch.required) - len(again.required) :]
        assert again.training == watch.training[len(watch.training) - len(again.training) :]


def test_a_part_that_no_optimizer_has_is_told() -> None:
    model = Perceptron(lambda parameters: Adam(list(parameters)[2:], lr=0.1))
    machine = machine_of(model, batches(4), max_nb_epochs=1, val_percent_check=0, callbacks=[GradualUnfreezing({"layer.0": 1})])
    with pytest.warns(UserWarning, match=r"no optimizer has layer\.0\.weight, layer\.0\.bias, so unfreezing"):
        machine.run()


def test_an_unknown_part_and_an_epoch_that_is_none_are_refused() -> None:
    with pytest.raises(OptionsError, match=r"no part 'body'\. Its first parts are: layer"):
        machine_of(Perceptron(), batches(4), callbacks=[GradualUnfreezing({"body": 1})])
    with pytest.raises(OptionsError, match=r"the epoch of 'layer' is -1"):
        GradualUnfreezing({"layer": -1})
