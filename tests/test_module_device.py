"""``self.device`` of a model: that of its parameters; and the error of a plain ``nn.Module`` that has none."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from fsmtrain import Trainer, TrainingModule, build
from tests.models import batches, flags


class Model(TrainingModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.seen: list[torch.device] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(batch) + torch.zeros(1, device=self.device)
        return made

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen.append(self.device)
        return self(batch[0]).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_the_device_of_a_model_is_that_of_its_parameters() -> None:
    model = Model()
    assert model.device == torch.device("cpu")
    assert model.to("meta").device == torch.device("meta")


def test_a_model_without_parameters_has_the_device_of_its_buffers_or_the_cpu() -> None:
    model = TrainingModule()
    assert model.device == torch.device("cpu")
    model.register_buffer("mean", torch.zeros(1, device="meta"))
    assert model.device == torch.device("meta")


def test_steps_use_self_device() -> None:
    model = Model()
    build(flags(max_nb_epochs=1), model, train_dataloader=batches(2)).run()
    assert model.seen == [torch.device("cpu")]


def test_a_device_that_the_model_sets_itself_stays_its_own() -> None:
    class Own(Model):
        def __init__(self) -> None:
            super().__init__()
            self.device = torch.device("meta")

    class Property(Model):
        @property
        def device(self) -> torch.device:
            return torch.device("meta")

    assert Own().device == Property().device == torch.device("meta")
    assert copy.deepcopy(Own()).device == torch.device("meta")
    assert pickle.loads(pickle.dumps(Model())).device == torch.device("cpu")
    assert "device" not in Model().state_dict()


def test_a_compiled_forward_may_use_self_device() -> None:
    compiled = torch.compile(Model(), fullgraph=True, backend="eager")
    assert compiled(torch.ones(2, 3)).shape == (2, 1)


@pytest.mark.parametrize("name", ["device", "log", "save_hyperparameters", "current_epoch"])
@pytest.mark.parametrize("at", ["training_step", "configure_optimizers"])
def test_a_plain_module_that_uses_what_only_ours_has_is_an_error_with_the_way_out(name: str, at: str) -> None:
    class Plain(nn.Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return getattr(self, name if at == "training_step" else "weight").sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(getattr(self, name if at == "configure_optimizers" else "parameters")(), 0.1)

    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu")
    with pytest.raises(AttributeError, match=f"no attribute '{name}'") as raised:
        trainer.fit(Plain(4, 1), batches(2))
    notes = "\n".join(raised.value.__notes__)
    assert notes.count(f"self.{name} is an attribute of fsmtrain.TrainingModule, and Plain is another nn.Module. Inherit") == 1
    assert "class Plain(fsmtrain.TrainingModule)" in notes


def test_another_missing_attribute_has_no_such_note() -> None:
    class Plain(nn.Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.nothing  # an error of the user's

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu")
    with pytest.raises(AttributeError) as raised:
        trainer.fit(Plain(4, 1), batches(2))
    assert "TrainingModule" not in "\n".join(raised.value.__notes__)
