"""Law 9: a run trains the same bits as a loop written by hand. Each test has that loop written out.

Compared are parameters, buffers, gradients, the optimizers' states and the state of torch's generator, all bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau, StepLR

from fsmtrain import Guards, every_n_batches
from tests.models import (
    Adversaries,
    Linear,
    Perceptron,
    Recurrent,
    Stream,
    Validated,
    batches,
    same_bits,
    sequences,
    stream,
    trained,
    twins,
)


def left_by(model: nn.Module, *optimizers: Optimizer) -> list[Any]:
    """Return everything that a run leaves behind; restores the random state that it began with."""
    left = [
        [p.detach() for p in model.parameters()],
        [p.grad for p in model.parameters()],
        list(model.buffers()),
        [optimizer.state_dict() for optimizer in optimizers],
        torch.get_rng_state(),
    ]
    torch.manual_seed(0)
    return left


# ---- one optimizer


@pytest.mark.parametrize(
    "configure",
    [
        functools.partial(SGD, lr=0.1),
        functools.partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        functools.partial(Adam, lr=0.02),
        functools.partial(AdamW, lr=0.02, weight_decay=0.1),
    ],
    ids=["sgd", "momentum", "adam", "adamw"],
)
def test_a_plain_run(configure: Callable[[Any], Optimizer]) -> None:
    model, ours = twins(lambda: Linear(configure))
    loader = batches(10)

    optimizer = configure(model.parameters())
    for _ in range(3):
        for batch in loader:
            loss = model.loss(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=3)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


@pytest.mark.parametrize("configure", [functools.partial(SGD, lr=0.1), functools.partial(Adam, lr=0.02)], ids=["sgd", "adam"])
def test_nine_batches_in_windows_of_four_and_a_last_one_of_weight_one(configure: Callable[[Any], Optimizer]) -> None:
    model, ours = twins(lambda: Linear(configure))
    loader = batches(18)

    optimizer = configure(model.parameters())
    for _ in range(2):
        for batch_nb, batch in enumerate(loader):
            length = 4 if batch_nb < 8 else 1
            loss = model.loss(batch) / length
            loss.backward()
            if batch_nb in (3, 7, 8):
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, accumulate_grad_batches=4)
    assert machine.counters.optimizer_steps == [6]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


@pytest.mark.parametrize("length", [3, 5, 6, 7])
def test_windows_of_lengths_that_no_power_of_two_divides(length: int) -> None:
    model, ours = twins(Linear)
    loader = batches(2 * length)

    optimizer = slow_sgd(model)
    for batch in loader:
        (model.loss(batch) / length).backward()
    optimizer.step()
    optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=1, accumulate_grad_batches=length)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_windows_whose_length_changes_with_the_epoch() -> None:
    model, ours = twins(Linear)
    loader = batches(12)

    optimizer = slow_sgd(model)
    for epoch in range(4):
        length = (1, 3, 3, 2)[epoch]
        for batch_nb, batch in enumerate(loader):
            (model.loss(batch) / length).backward()
            if (batch_nb + 1) % length == 0:
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=4, accumulate_grad_batches={1: 3, 3: 2})
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


@pytest.mark.parametrize("length", [1, 4])
def test_clipping(length: int) -> None:
    model, ours = twins(Linear)
    loader = batches(16)

    optimizer = slow_sgd(model)
    for _ in range(2):
        for batch_nb, batch in enumerate(loader):
            (model.loss(batch) / length).backward()
            if (batch_nb + 1) % length == 0:
                assert clip_grad_norm_(model.parameters(), 0.1) > 0.1
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, accumulate_grad_batches=length, gradient_clip_val=0.1)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_a_ragged_last_batch() -> None:
    model, ours = twins(Linear)
    loader = batches(7, size=3)

    optimizer = slow_sgd(model)
    for _ in range(2):
        for batch in loader:
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_a_part_of_the_batches() -> None:
    model, ours = twins(Linear)
    loader = batches(20, shuffle=True)

    optimizer = slow_sgd(model)
    for _ in range(3):
        for batch_nb, batch in enumerate(loader):
            if batch_nb == 7:
                break
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=3, train_percent_check=0.7)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


@pytest.mark.parametrize("loader", [batches(20, shuffle=False), stream(20)], ids=["sized", "stream"])
def test_sparse_gradients(loader: Any) -> None:
    """Windows of 4, 4, 2; a stream's last one is rescaled at its step."""

    class Sparse(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3, sparse=True)

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return super().loss((x + self.embedding((x[:, 0] > 0).long()), y))

    model, ours = twins(Sparse)
    is_stream = isinstance(loader.dataset, Stream)

    optimizer = slow_sgd(model)
    for batch_nb, batch in enumerate(loader):
        (model.loss(batch) / (4 if is_stream or batch_nb < 8 else 2)).backward()
        if batch_nb == 9 and is_stream:
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(2.0)
        if batch_nb in (3, 7, 9):
            optimizer.step()
            optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=1, accumulate_grad_batches=4)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def slow_sgd(model: nn.Module) -> Optimizer:
    """What `Linear` is trained with."""
    return SGD(model.parameters(), lr=0.1)


# ---- chance


@pytest.mark.parametrize("length", [1, 3])
def test_dropout_and_shuffling_draw_the_same_random_numbers(length: int) -> None:
    model, ours = twins(Perceptron)
    loader = batches(18, size=3, shuffle=True)

    optimizer = slow_sgd(model)
    for _ in range(3):
        for batch_nb, batch in enumerate(loader):
            (model.loss(batch) / length).backward()
            if (batch_nb + 1) % length == 0:
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=3, accumulate_grad_batches=length)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_loaders_with_generators_of_their_own_draw_the_same_orders() -> None:
    """A ``for`` loop exhausts the sampler too, which may draw once more."""
    model, ours = twins(Perceptron)

    of_train, of_val = torch.Generator().manual_seed(2), torch.Generator().manual_seed(3)
    train, val = whole_batches_by(of_train), whole_batches_by(of_val)
    optimizer = slow_sgd(model)
    for _ in range(3):
        for batch in train:
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for batch in val:
                model.loss(batch)
        model.train()
    by_hand = left_by(model, optimizer)

    of_ours, of_our_val = torch.Generator().manual_seed(2), torch.Generator().manual_seed(3)
    machine = trained(ours, whole_batches_by(of_ours), whole_batches_by(of_our_val), max_nb_epochs=3, val_check_interval=1.0)
    assert same_bits(of_ours.get_state(), of_train.get_state())
    assert same_bits(of_our_val.get_state(), of_val.get_state())
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def whole_batches_by(generator: torch.Generator) -> Any:
    """A shuffled loader whose last batch is as large as the others."""
    return batches(12, size=3, shuffle=True, generator=generator)


def test_a_seed_makes_a_run_repeat() -> None:
    first, second = twins(Perceptron)
    loader = batches(12, shuffle=True)
    trained(first, loader, max_nb_epochs=2, seed=3)
    expected = left_by(first)
    torch.rand(1)
    trained(second, loader, max_nb_epochs=2, seed=3)
    assert same_bits(left_by(second), expected)


# ---- validation in between


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("shuffled", [False, True])
def test_validation_in_mid_window_and_at_the_end(sanity: int, shuffled: bool) -> None:
    model, ours = twins(Perceptron)
    train, val = batches(16, shuffle=True), batches(6, shuffle=shuffled)

    optimizer = slow_sgd(model)
    values = []
    for _ in range(2):
        for batch_nb, batch in enumerate(train):
            (model.loss(batch) / 4).backward()
            if (batch_nb + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
            if batch_nb in (2, 5):
                model.eval()
                with torch.no_grad():
                    values.append(sum(model.loss(b) for b in val) / len(val))
                model.train()
    by_hand = left_by(model, optimizer)

    options = {"accumulate_grad_batches": 4, "val_check_interval": 3, "nb_sanity_val_steps": sanity}
    machine = trained(ours, train, val, max_nb_epochs=2, **options)
    assert machine.counters.validations_done == len(values) == 4
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)
    assert float(machine.metrics["val_loss"]) == pytest.approx(float(values[-1]), rel=1e-6)  # ours is a mean in float64


def test_a_run_with_the_sanity_pass_and_one_without_it_are_the_same() -> None:
    first, second = twins(Perceptron)
    train, val = batches(16, shuffle=True), batches(6, shuffle=True)
    machine = trained(first, train, val, max_nb_epochs=2, nb_sanity_val_steps=0)
    without = left_by(first, *machine.optimizers)
    machine = trained(second, train, val, max_nb_epochs=2, nb_sanity_val_steps=5)
    assert same_bits(left_by(second, *machine.optimizers), without)


def test_stopping_early() -> None:
    model, ours = twins(Perceptron)
    train, val = batches(12, shuffle=True), batches(6)

    optimizer = slow_sgd(model)
    best, waited, epochs = float("inf"), 0, 0
    for _ in range(40):
        for batch in train:
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            value = float(sum(model.loss(b) for b in val) / len(val))
        model.train()
        epochs += 1
        if value < best:
            best, waited = value, 0
        else:
            waited += 1
        if waited == 3:
            break
    by_hand = left_by(model, optimizer)

    machine = trained(ours, train, val, max_nb_epochs=40, early_stop_callback=True, val_check_interval=1.0)
    assert 3 < epochs < 40
    assert machine.counters.epochs_done == epochs
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


# ---- learning rates


def test_a_scheduler_for_each_epoch() -> None:
    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        return [optimizer], [StepLR(optimizer, step_size=2, gamma=0.5)]

    model, ours = twins(lambda: Linear(configure))
    loader = batches(8)

    [optimizer], [scheduler] = configure(model.parameters())
    rates = []
    for _ in range(5):
        for batch in loader:
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=5)
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.025]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)
    assert machine.lr_schedulers[0].state_dict() == scheduler.state_dict()


def test_a_scheduler_for_each_step() -> None:
    def configure(parameters: Any) -> Any:
        optimizer = Adam(parameters, lr=0.1)
        return [optimizer], [{"scheduler": ExponentialLR(optimizer, gamma=0.9), "interval": "step"}]

    model, ours = twins(lambda: Linear(configure))
    loader = batches(8)

    [optimizer], [options] = configure(model.parameters())
    for _ in range(2):
        for batch in loader:
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            options["scheduler"].step()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_a_scheduler_for_every_second_step_of_48_batches_in_windows_of_four_acts_six_times() -> None:
    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        return [optimizer], [{"scheduler": ExponentialLR(optimizer, gamma=0.5), "interval": "step", "frequency": 2}]

    model, ours = twins(lambda: Linear(configure))
    loader = batches(48, size=1)

    [optimizer], [options] = configure(model.parameters())
    acted = 0
    for batch_nb, batch in enumerate(loader):
        (model.loss(batch) / 4).backward()
        if (batch_nb + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        if (batch_nb + 1) % 8 == 0:
            options["scheduler"].step()
            acted += 1
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=1, accumulate_grad_batches=4)
    assert acted == 6
    assert machine.lr_schedulers[0].last_epoch == 6
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_a_plateau_scheduler_gets_the_metric_of_the_epoch_s_last_validation() -> None:
    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=1.0)
        return [optimizer], [ReduceLROnPlateau(optimizer, patience=0)]

    model, ours = twins(lambda: Validated(configure))
    train, val = batches(8), batches(6)

    [optimizer], [scheduler] = configure(model.parameters())
    for epoch in range(6):
        for batch_nb, batch in enumerate(train):
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            if epoch in (1, 3, 5) and batch_nb in (1, 3):
                with torch.no_grad():
                    value = float(sum(model.loss(b) for b in val) / len(val))
        if epoch in (1, 3, 5):
            scheduler.step(value)
    by_hand = left_by(model, optimizer)

    machine = trained(ours, train, val, max_nb_epochs=6, check_val_every_n_epoch=2, val_check_interval=0.5)
    assert optimizer.param_groups[0]["lr"] < 1.0
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)
    best = {"best": pytest.approx(scheduler.best, rel=1e-6)}  # of a mean in float64
    assert machine.lr_schedulers[0].state_dict() == scheduler.state_dict() | best


class WarmedUp(Linear):
    """The documented learning-rate warm-up, over 10 steps."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if self.trainer.global_step < 10:
            lr_scale = min(1.0, float(self.trainer.global_step + 1) / 10.0)
            for pg in optimizer.param_groups:
                pg["lr"] = lr_scale * 0.1
        optimizer.step()
        optimizer.zero_grad()


def test_the_documented_warm_up() -> None:
    model, ours = twins(WarmedUp)
    loader = batches(12)

    optimizer = slow_sgd(model)
    steps = 0
    for _ in range(3):
        for batch in loader:
            if steps < 10:
                optimizer.param_groups[0]["lr"] = (steps + 1) / 10 * 0.1
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=3)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


# ---- precision


@pytest.mark.parametrize("length", [1, 3])
def test_half_precision_without_a_scaler(length: int) -> None:
    model, ours = twins(Perceptron)
    loader = batches(18)

    optimizer = slow_sgd(model)
    for _ in range(2):
        for batch_nb, batch in enumerate(loader):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model.loss(batch)
            (loss / length).backward()
            if (batch_nb + 1) % length == 0:
                clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    options = {"max_nb_epochs": 2, "accumulate_grad_batches": length, "gradient_clip_val": 0.5}
    machine = trained(ours, loader, precision="bf16", **options)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


@pytest.mark.parametrize("length", [1, 4])
def test_half_precision_with_a_scaler_that_skips_its_first_steps(length: int) -> None:
    """A loss in the millions overflows until the scale has been lowered; a skipped step does not count."""
    model, ours = twins(Magnified)
    loader = batches(16)

    optimizer = slow_sgd(model)
    scaler = torch.amp.GradScaler("cpu")
    steps = 0
    for _ in range(4):
        for batch_nb, batch in enumerate(loader):
            with torch.autocast("cpu", dtype=torch.float16):
                loss = model.loss(batch)
            scaler.scale(loss / length).backward()
            if (batch_nb + 1) % length == 0:
                scaler.unscale_(optimizer)
                clip_grad_norm_(model.parameters(), 0.5)
                before = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                steps += scaler.get_scale() >= before
    by_hand = left_by(model, optimizer)

    options = {"max_nb_epochs": 4, "accumulate_grad_batches": length, "gradient_clip_val": 0.5}
    machine = trained(ours, loader, precision="16", **options)
    assert 0 < steps < 32 // length
    assert machine.counters.optimizer_steps == [steps]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


class Magnified(Linear):
    """Its gradients, in half precision, are too large for the scale that a scaler begins with."""

    def loss(self, batch: Any) -> Any:
        return super().loss(batch) * 50.0


# ---- several optimizers


def by_hand_adversaries(
    model: Adversaries, loader: Any, epochs: int, generator_steps: Any, discriminator_steps: Any
) -> list[Any]:
    """Train a generator and a discriminator in turns; the two functions say after which batches each is stepped."""
    of_generator, of_discriminator = model.configure_optimizers()
    for _ in range(epochs):
        for batch_nb, batch in enumerate(loader):
            model.discriminator.requires_grad_(False)
            divisor, steps = generator_steps(batch_nb)
            (model.generator_loss(batch) / divisor).backward()
            if steps:
                of_generator.step()
                of_generator.zero_grad()
            model.discriminator.requires_grad_(True)

            model.generator.requires_grad_(False)
            divisor, steps = discriminator_steps(batch_nb)
            (model.discriminator_loss(batch) / divisor).backward()
            if steps:
                of_discriminator.step()
                of_discriminator.zero_grad()
            model.generator.requires_grad_(True)
    return left_by(model, of_generator, of_discriminator)


def test_two_optimizers_in_turns() -> None:
    model, ours = twins(Adversaries)
    loader = batches(12)
    by_hand = by_hand_adversaries(model, loader, 3, lambda b: (1, True), lambda b: (1, True))
    machine = trained(ours, loader, max_nb_epochs=3)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_two_optimizers_with_windows_of_four() -> None:
    model, ours = twins(Adversaries)
    loader = batches(20)  # 10 batches: windows of 4, 4, 2

    def windows(batch_nb: int) -> tuple[int, bool]:
        return (4 if batch_nb < 8 else 2), batch_nb in (3, 7, 9)

    by_hand = by_hand_adversaries(model, loader, 2, windows, windows)
    machine = trained(ours, loader, max_nb_epochs=2, accumulate_grad_batches=4)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_two_optimizers_one_of_them_with_a_guard_of_its_own() -> None:
    """The guard's windows are 2, 2, 1, and their gradients are divided at the step; the other optimizer's windows are 5."""
    model, ours = twins(Adversaries)
    loader = batches(10)

    of_generator, of_discriminator = model.configure_optimizers()
    for _ in range(2):
        gathered = 0
        for batch_nb, batch in enumerate(loader):
            model.discriminator.requires_grad_(False)
            (model.generator_loss(batch) / 5).backward()
            if batch_nb == 4:
                of_generator.step()
                of_generator.zero_grad()
            model.discriminator.requires_grad_(True)

            model.generator.requires_grad_(False)
            model.discriminator_loss(batch).backward()
            gathered += 1
            if batch_nb in (1, 3, 4):
                for parameter in model.discriminator.parameters():
                    assert parameter.grad is not None
                    parameter.grad *= 1 / gathered
                of_discriminator.step()
                of_discriminator.zero_grad()
                gathered = 0
            model.generator.requires_grad_(True)
    by_hand = left_by(model, of_generator, of_discriminator)

    guards = Guards(step={1: every_n_batches(2)})
    machine = trained(ours, loader, max_nb_epochs=2, accumulate_grad_batches=5, guards=guards)
    assert machine.counters.optimizer_steps == [2, 6]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


class Alternating(Adversaries):
    """The documented schedule: one optimizer at every second batch, the other at every fourth."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if optimizer_i == 0 and batch_nb % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        if optimizer_i == 1 and batch_nb % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


def test_the_documented_alternating_override_lets_gradients_add_up() -> None:
    """Also over the end of an epoch: 6 batches leave gradients of batch 5 in both optimizers."""
    model, ours = twins(Alternating)
    loader = batches(12)
    by_hand = by_hand_adversaries(model, loader, 2, lambda b: (1, b % 2 == 0), lambda b: (1, b % 4 == 0))
    machine = trained(ours, loader, max_nb_epochs=2)
    assert all(p.grad is not None for p in ours.parameters())
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_two_optimizers_each_clipped_by_itself() -> None:
    """Also while gradients of the other wait for the rest of their window: the second one's are windows of 2."""
    model, ours = twins(Adversaries)
    loader = batches(12)

    of_generator, of_discriminator = model.configure_optimizers()
    for batch_nb, batch in enumerate(loader):
        model.discriminator.requires_grad_(False)
        model.generator_loss(batch).backward()
        clip_grad_norm_(model.generator.parameters(), 0.01)
        of_generator.step()
        of_generator.zero_grad()
        model.discriminator.requires_grad_(True)

        model.generator.requires_grad_(False)
        model.discriminator_loss(batch).backward()
        if batch_nb in (1, 3, 5):
            for parameter in model.discriminator.parameters():
                assert parameter.grad is not None
                parameter.grad *= 0.5
            clip_grad_norm_(model.discriminator.parameters(), 0.01)
            of_discriminator.step()
            of_discriminator.zero_grad()
        model.generator.requires_grad_(True)
    by_hand = left_by(model, of_generator, of_discriminator)

    guards = Guards(step={1: every_n_batches(2)})
    machine = trained(ours, loader, max_nb_epochs=1, gradient_clip_val=0.01, guards=guards)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_a_scheduler_for_one_of_two_optimizers() -> None:
    class Scheduled(Adversaries):
        def configure_optimizers(self) -> Any:
            first, second = super().configure_optimizers()
            return [first, second], [LambdaLR(second, lambda epoch: 1 / (1 + epoch))]

    model, ours = twins(Scheduled)
    loader = batches(8)

    [of_generator, of_discriminator], [scheduler] = model.configure_optimizers()
    for _ in range(3):
        for batch in loader:
            model.discriminator.requires_grad_(False)
            model.generator_loss(batch).backward()
            of_generator.step()
            of_generator.zero_grad()
            model.discriminator.requires_grad_(True)
            model.generator.requires_grad_(False)
            model.discriminator_loss(batch).backward()
            of_discriminator.step()
            of_discriminator.zero_grad()
            model.generator.requires_grad_(True)
        scheduler.step()
    by_hand = left_by(model, of_generator, of_discriminator)

    machine = trained(ours, loader, max_nb_epochs=3)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


# ---- truncated backpropagation through time


@pytest.mark.parametrize("configure", [functools.partial(SGD, lr=0.1), functools.partial(Adam, lr=0.02)], ids=["sgd", "adam"])
def test_an_lstm_steps_at_every_split(configure: Callable[[Any], Optimizer]) -> None:
    model, ours = twins(lambda: Recurrent(configure))
    loader = sequences(6, size=2, steps=7)

    optimizer = configure(model.parameters())
    for _ in range(2):
        for x, y in loader:
            hiddens: Any = None
            for start in (0, 3, 6):
                loss, hiddens = model.loss((x[:, start : start + 3], y[:, start : start + 3]), hiddens)
                hiddens = tuple(h.detach() for h in hiddens)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, truncated_bptt_steps=3)
    assert machine.counters.optimizer_steps == [18]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_an_lstm_steps_at_every_second_split_and_the_last_window_is_one() -> None:
    """3 batches of 3 splits are windows of 2, 2, 2, 2, 1; a window may hold splits of two batches."""
    model, ours = twins(Recurrent)
    loader = sequences(6, size=2, steps=7)

    optimizer = slow_sgd(model)
    for _ in range(2):
        backwards = 0
        for x, y in loader:
            hiddens: Any = None
            for start in (0, 3, 6):
                loss, hiddens = model.loss((x[:, start : start + 3], y[:, start : start + 3]), hiddens)
                hiddens = tuple(h.detach() for h in hiddens)
                backwards += 1
                (loss / (1 if backwards == 9 else 2)).backward()
                if backwards in (2, 4, 6, 8, 9):
                    optimizer.step()
                    optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, truncated_bptt_steps=3, accumulate_grad_batches=2)
    assert machine.counters.optimizer_steps == [10]
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


# ---- an optimizer with a closure


@pytest.mark.parametrize("clip", [None, 0.1])
def test_lbfgs(clip: float | None) -> None:
    configure = functools.partial(LBFGS, lr=0.5, max_iter=4)
    model, ours = twins(lambda: Linear(configure))
    loader = batches(8)

    optimizer: Any = configure(model.parameters())
    evaluations = 0
    for _ in range(2):
        for batch in loader:

            def closure(batch: Any = batch) -> Any:
                nonlocal evaluations
                evaluations += 1
                optimizer.zero_grad()
                loss = model.loss(batch)
                loss.backward()
                if clip is not None:
                    clip_grad_norm_(model.parameters(), clip)
                return loss

            optimizer.step(closure)
            optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, gradient_clip_val=clip)
    assert evaluations > 8
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)


def test_lbfgs_runs_no_forward_twice() -> None:
    calls = {"by hand": 0, "machine": 0}

    class Counted(Linear):
        def loss(self, batch: Any) -> Any:
            calls[self.who] += 1
            return super().loss(batch)

        who = "by hand"

    configure = functools.partial(LBFGS, lr=0.5, max_iter=4)
    model, ours = twins(lambda: Counted(configure))
    loader = batches(8)

    optimizer: Any = configure(model.parameters())
    for batch in loader:

        def closure(batch: Any = batch) -> Any:
            optimizer.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            return loss

        optimizer.step(closure)

    ours.who = "machine"
    trained(ours, loader, max_nb_epochs=1)
    assert calls["machine"] == calls["by hand"] > 4


def test_lbfgs_evaluates_each_split_with_the_hiddens_that_it_began_with() -> None:
    given: dict[tuple[int, float], list[Any]] = {}

    class Watched(Recurrent):
        def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
            split = batch_nb, float(batch[0].sum())
            given.setdefault(split, []).append(None if hiddens is None else hiddens[0].clone())
            return super().training_step(batch, batch_nb, hiddens)

    trained(
        Watched(functools.partial(LBFGS, lr=0.1, max_iter=3)),
        sequences(4, size=2, steps=6),
        max_nb_epochs=1,
        truncated_bptt_steps=2,
    )
    assert len(given) == 6
    for hiddens in given.values():
        assert len(hiddens) == 3
        assert same_bits(hiddens, [hiddens[0]] * 3)


# ---- streams


@pytest.mark.parametrize(("n", "last"), [(16, 4), (18, 1), (20, 2), (22, 3)])
def test_a_stream_in_windows_of_four_and_a_last_one_that_may_be_shorter(n: int, last: int) -> None:
    """A loop by hand cannot know the last window's length before its end either: it rescales the gradients at the step."""
    model, ours = twins(Linear)
    loader = stream(n)
    total = n // 2

    optimizer = slow_sgd(model)
    for _ in range(2):
        for batch_nb, batch in enumerate(loader):
            (model.loss(batch) / 4).backward()
            if batch_nb + 1 == total and last < 4:
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.grad *= 4 / last
            if (batch_nb + 1) % 4 == 0 or batch_nb + 1 == total:
                optimizer.step()
                optimizer.zero_grad()
    by_hand = left_by(model, optimizer)

    machine = trained(ours, loader, max_nb_epochs=2, accumulate_grad_batches=4)
    assert same_bits(left_by(ours, *machine.optimizers), by_hand)
