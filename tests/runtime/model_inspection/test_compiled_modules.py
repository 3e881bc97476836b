"""A model that is compiled, as a whole or in parts, trains, saves and resumes as the plain one does."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from fsmtrain import Machine, ModelCheckpoint, Options, Trainer, TrainingModule, build
from fsmtrain.runtime.model_inspection.compiled_modules import plain_module
from tests.models import batches, same_bits

graphs: list[int] = []  # one entry for each graph that has been compiled


def compiled(part: Any, backend: Any = None) -> Any:
    """``torch.compile``, whose type for a module depends on how it is called."""
    return torch.compile(part, backend=backend)


def backend(graph: Any, inputs: Any) -> Any:
    graphs.append(1)
    return graph.forward


class Model(TrainingModule):
    """Two parts, batch statistics and a buffer that is not saved by torch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head: nn.Module = nn.Linear(4, 1)
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.epochs: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.net(x))
        return out

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        self.epochs.append(self.current_epoch)
        loss: Tensor = self(batch[0]).pow(2).mean()
        self.log("logged", loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_nb: int) -> dict[str, Tensor]:
        return {"val_loss": self(batch[0]).pow(2).mean()}

    def on_epoch_end(self) -> None:
        self.epochs.append(-1)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)


class Unused(Model):
    """Its steps do not call ``self(...)``."""

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        return self.forward(batch[0]).pow(2).mean()


def in_place(model: Model) -> Model:
    model.compile(backend=backend)
    return model


def in_parts(model: Model) -> Model:
    model.net = compiled(model.net, backend=backend)
    model.head = compiled(model.head, backend=backend)
    return model


def inner_part(model: Model) -> Model:
    model.net = nn.Sequential(compiled(model.net[0], backend=backend), model.net[1])  # type: ignore[index]
    return model


def a_step(model: Model) -> Model:
    model.training_step = compiled(model.training_step, backend=backend)  # type: ignore[method-assign]
    return model


WAYS: dict[str, Callable[[Model], Any]] = {
    "plain": lambda model: model,
    "whole": lambda model: compiled(model, backend=backend),
    "twice": lambda model: compiled(in_parts(model), backend=backend),
    "in place": in_place,
    "parts": in_parts,
    "inner part": inner_part,
}
pytestmark = pytest.mark.filterwarnings("ignore")


def machine_of(model: Any, folder: Path | None = None, **flags: Any) -> Machine:
    defaults: dict[str, Any] = {"max_nb_epochs": 2, "runs_dir": None, "quiet": True, "progress_bar": False, "device": "cpu"}
    callbacks = [] if folder is None else [ModelCheckpoint(dirpath=folder, every_n_batches=2)]
    options = Options(**(defaults | flags))
    return build(options, model, train_dataloader=batches(8), val_dataloaders=batches(4), callbacks=callbacks)


def plain_weights(model: Any) -> dict[str, Tensor]:
    return {name.replace("_orig_mod.", ""): value for name, value in plain_module(model).state_dict().items()}


@pytest.mark.parametrize("way", WAYS)
def test_attributes_hooks_log_and_the_epoch_work_and_it_trains_the_same_bits(way: str) -> None:
    plain, model = Model(), Model()
    given = WAYS[way](model)
    machine_of(plain).run()
    graphs.clear()
    torch._dynamo.reset()
    machine = machine_of(given)
    assert machine.model is model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = machine.run()
    assert not [str(w.message) for w in caught if "torch.compile" in str(w.message)]
    assert model.epochs == plain.epochs == [0] * 4 + [-1] + [1] * 4 + [-1]
    assert "logged" in result.metrics
    assert bool(graphs) == (way != "plain"), "what is compiled is used"
    assert same_bits(plain_weights(model), plain.state_dict())
    assert (model._compiled_call_impl is None) == (way != "in place"), "as it was before"


@pytest.mark.parametrize(("saving", "loading"), itertools.product(WAYS, WAYS))
def test_files_and_checkpoints_have_plain_keys_and_load_either_way(tmp_path: Path, saving: str, loading: str) -> None:
    trained = WAYS[saving](Model())
    trainer = Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False, device="cpu")
    trainer.fit(trained, batches(4), batches(2))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert list(saved) == list(Model().state_dict())
    assert saved._metadata.keys() == getattr(Model().state_dict(), "_metadata").keys()  # noqa: B009

    class Built(Model):
        def __init__(self) -> None:
            super().__init__()
            WAYS[loading](self) if loading in ("parts", "inner part", "in place") else None

    assert same_bits(plain_weights(Built.load_from_checkpoint(tmp_path / "model.ckpt")), plain_weights(trained))


@pytest.mark.parametrize(
    ("saving", "loading"), [("plain", "parts"), ("parts", "plain"), ("whole", "inner part"), ("twice", "whole")]
)
@pytest.mark.parametrize("stop_at", [3, 9, 17, 21, 30])
def test_a_run_is_resumed_with_a_model_compiled_otherwise(tmp_path: Path, saving: str, loading: str, stop_at: int) -> None:
    whole = Model()
    machine_of(whole, accumulate_grad_batches=3).run()
    first = machine_of(WAYS[saving](Model()), tmp_path, accumulate_grad_batches=3)
    for number, _ in enumerate(first):
        if number == stop_at:
            first.stop()
    second = machine_of(WAYS[loading](Model()), tmp_path, accumulate_grad_batches=3)
    second.resume(tmp_path)
    second.run()
    assert same_bits(plain_weights(second.model), whole.state_dict())


def test_weights_of_another_program_with_the_wrapper_s_keys_load(tmp_path: Path) -> None:
    model = Model()
    torch.save({"state_dict": compiled(model, backend=backend).state_dict()}, tmp_path / "other.pt")
    assert same_bits(Model.load_from_checkpoint(tmp_path / "other.pt").state_dict(), model.state_dict())


@pytest.mark.parametrize("way", ["whole", "in place"])
def test_a_compiled_forward_that_no_step_uses_is_reported_once(way: str) -> None:
    with pytest.warns(UserWarning, match=r"training_step of Unused does not call self\(\.\.\.\)") as caught:
        machine_of(WAYS[way](Unused())).run()
    assert len([w for w in caught if "torch.compile" in str(w.message)]) == 1


def test_testing_the_fitted_model_uses_its_compiled_forward() -> None:
    class Tested(Model):
        def test_step(self, batch: Any, batch_nb: int) -> dict[str, Tensor]:
            return {"out": self(batch[0]).mean()}

    model = Tested()
    trainer = Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False, device="cpu")
    trainer.fit(compiled(model, backend=backend), batches(2), [])
    graphs.clear()
    torch._dynamo.reset()
    trainer.test(test_dataloaders=batches(3, 3))
    assert graphs


def test_a_copy_of_a_compiled_model_calls_itself_and_can_be_pickled() -> None:
    model = in_place(Model()).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head.weight.zero_()  # type: ignore[operator]
        assert not torch.equal(twin(torch.ones(2, 3)), model(torch.ones(2, 3)))
    assert pickle.loads(pickle.dumps(model))._compiled_call_impl is None


def test_a_compiled_training_step_logs() -> None:
    model = a_step(Model())
    assert "logged" in machine_of(model).run().metrics
