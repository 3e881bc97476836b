"""The average is that of torch's `AveragedModel`, validations run with it, and it is saved and resumed to the same bits."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fsmtrain import Callback, Machine, ModelCheckpoint, Trainer
from fsmtrain.callbacks import EMAWeightAveraging
from fsmtrain.errors import OptionsError
from tests.models import Adversaries, Perceptron, batches, machine_of, same_bits, weights


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Watch(Callback):
    """Notes the weights with which each validation runs, and those after it; stops after so many transitions."""

    def __init__(self, n: int | None = None) -> None:
        self.n, self.transitions = n, 0
        self.within: list[Any] = []
        self.after: list[Any] = []

    def on_validation_epoch_start(self, machine: Machine) -> None:
        if machine.state.value == "val_check":
            self.within.append(weights(machine.model))

    def on_epoch_end(self, machine: Machine) -> None:
        self.after.append(weights(machine.model))

    def on_transition(self, machine: Machine, transition: Any) -> None:
        self.transitions += 1
        if self.transitions == self.n:
            machine.stop()


def run_of(n: int | None = None, *, use_buffers: bool = False) -> tuple[Machine, EMAWeightAveraging, Watch]:
    torch.manual_seed(0)
    ema, watch = EMAWeightAveraging(0.8, use_buffers=use_buffers), Watch(n)
    given: dict[str, Any] = {"max_nb_epochs": 2, "seed": 1, "accumulate_grad_batches": 2, "val_check_interval": 1.0}
    callbacks = [ema, watch, ModelCheckpoint(every_n_batches=2)]
    return machine_of(Perceptron(), batches(12), batches(4), batches(2), callbacks=callbacks, **given), ema, watch


@pytest.mark.parametrize("use_buffers", [False, True])
def test_the_average_is_that_of_a_loop_by_hand(use_buffers: bool) -> None:
    machine, ema, watch = run_of(use_buffers=use_buffers)
    machine.run()

    torch.manual_seed(0)
    model = Perceptron()
    update: Any = get_ema_multi_avg_fn(0.8)  # type: ignore[no-untyped-call]
    average, optimizer = AveragedModel(model, multi_avg_fn=update, use_buffers=use_buffers), SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1)
    within, after = [], []
    for _ in range(2):
        for nb, batch in enumerate(batches(12)):
            (model.loss(batch) / 2).backward()
            if nb % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
        list(batches(4))  # the validation: an iterator of a loader draws a random number
        within.append(weights(average.module))
        after.append(weights(model))
    for mine, by_hand in ((watch.within, within), (watch.after, after)):
        assert all(same_bits(*map(of_floats, pair)) for pair in zip(mine, by_hand, strict=True))
    finished = weights(machine.model)
    assert same_bits(of_floats(finished), of_floats(within[-1])), "the finished model, which is tested, has the average"
    assert ema.average is not None
    assert ema.average.n_averaged == 6


def of_floats(tensors: list[Any]) -> list[Any]:
    """Leave out the number of batches that normalization has seen, of which torch takes the average, too."""
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def test_a_run_that_is_stopped_anywhere_resumes_to_the_same_bits() -> None:
    whole, ema, watch = run_of()
    whole.run()
    for n in range(2, watch.transitions, 5):
        run_of(n)[0].run()
        resumed, again, _ = run_of()
        resumed.resume()
        resumed.run()
        assert same_bits(weights(resumed.model), weights(whole.model)), n
        assert ema.average is not None
        assert again.average is not None
        assert same_bits(weights(again.average), weights(ema.average)), n


def test_the_best_weights_are_the_average_that_was_validated() -> None:
    torch.manual_seed(0)
    watch, rule = Watch(), ModelCheckpoint(monitor="val_loss", save_top_k=-1)
    trainer = Trainer(max_nb_epochs=3, val_check_interval=1.0, callbacks=[EMAWeightAveraging(0.8), watch, rule], quiet=True)
    model = Perceptron()
    trainer.fit(model, batches(6), batches(2))
    last, best = weights(model), trainer.machine.best_checkpoint
    assert best is not None
    assert best.epoch is not None
    trainer.test(None, batches(2), ckpt_path="best")
    assert same_bits(*map(of_floats, (weights(model), watch.within[best.epoch])))
    assert same_bits(*map(of_floats, (weights(Perceptron.load_from_checkpoint(best)), watch.within[best.epoch])))
    trainer.test(None, batches(2), ckpt_path="last")
    assert same_bits(weights(model), last)


def test_with_several_optimizers_the_steps_of_the_first_count() -> None:
    ema = EMAWeightAveraging()
    machine_of(Adversaries(), batches(4), max_nb_epochs=1, callbacks=[ema]).run()
    assert ema.average is not None
    assert ema.average.n_averaged == 2


def test_a_copy_has_not_run_anything_and_a_second_run_begins_anew() -> None:
    machine, ema, _ = run_of()
    machine.run()
    for other in (copy.deepcopy(ema), pickle.loads(pickle.dumps(ema))):
        assert other.average is None
        assert (other.decay, other.use_buffers) == (0.8, False)
    machine_of(Perceptron(), batches(2), max_nb_epochs=1, val_percent_check=0, callbacks=[ema]).run()
    assert ema.average is not None
    assert ema.average.n_averaged == 1


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan"), "0.9", True])
def test_a_decay_out_of_range_is_refused(decay: Any) -> None:
    with pytest.raises(OptionsError, match=r"EMAWeightAveraging\(decay="):
        EMAWeightAveraging(decay)
