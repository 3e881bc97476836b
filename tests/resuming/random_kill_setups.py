"""The runs that are killed at random moments: what a user may combine, each trained for some hundred milliseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD
from torch.optim import lr_scheduler as lr
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Guards, ModelCheckpoint, after_steps, every_n_batches
from tests.models import Adversaries, Linear, Samples, sequences
from tests.resuming import random_kill_models as models
from tests.resuming.random_kill_models import FORKED, Trained, seeded, shuffled, streamed
from tests.resuming.resume_scenarios import (
    AutocastModule,
    GatheredOutputs,
    InfiniteLosses,
    LayerUnfrozenLater,
    LeftOutBatches,
    NoisySamples,
    ParameterOutsideTheModel,
    Scenario,
    ScheduledSteps,
    WeightAverage,
    WeightedLosses,
    WeightedMetrics,
    adam_of,
    epochs_of,
    scenario,
    sgd_with_momentum,
)
from tests.resuming.torch_optimizers_and_schedulers import OPTIMIZERS, SCHEDULERS

EPOCHS = 3
SAVE_INTERVAL = 5  # batches


def val_loader() -> Any:
    """Four batches, the last one smaller."""
    return DataLoader(Samples(14), batch_size=4)


def setup(
    model: Callable[[], Any] = Trained,
    train: Callable[[], Any] = shuffled,
    *,
    val: Callable[[], Any] = val_loader,
    test: Callable[[], Any] | None = None,
    checkpoint: Callable[[], ModelCheckpoint] | None = lambda: ModelCheckpoint(every_n_batches=SAVE_INTERVAL),
    callbacks: Callable[[], list[Any]] = list,
    **flags: Any,
) -> Scenario:
    """Return a run that is saved in the background every few batches, with four validations an epoch."""
    loaders = (train, val) if test is None else (train, val, test)
    given = {"max_nb_epochs": EPOCHS, "val_check_interval": 0.25, "guards": Guards(), **flags}
    saving = [] if checkpoint is None else [checkpoint]
    return scenario(model, *loaders, callbacks=lambda: [*callbacks(), *(make() for make in saving)], **given)


def _of_optimizer(name: str) -> Scenario:
    make = OPTIMIZERS[name]
    match name:
        case "Muon":
            return setup(lambda: models.MatricesOnly(lambda parameters: make(list(parameters))))
        case "SparseAdam":
            return setup(lambda: models.SparseGradients(lambda parameters: make(list(parameters))))
        case "LBFGS":
            return setup(lambda: Trained(lambda parameters: make(list(parameters))), max_nb_epochs=2)
        case _:
            return setup(lambda: Trained(lambda parameters: make(list(parameters))), accumulate_grad_batches=2)


def _of_scheduler(name: str) -> Scenario:
    interval = {} if name == "ReduceLROnPlateau" else {"interval": "step", "frequency": 7}

    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.05, momentum=0.9)
        return [optimizer], [{"scheduler": SCHEDULERS[name](optimizer), **interval}]

    return setup(lambda: Trained(configure))


def _one_cycle(parameters: Any) -> Any:
    optimizer = adam_of(parameters)
    schedule = lr.OneCycleLR(optimizer, max_lr=0.05, total_steps=EPOCHS * models.BATCHES // 4)
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _compiled() -> Any:
    model = Trained()
    model.layer.compile(backend="eager")
    return model


_windows_of_4 = functools.partial(setup, lambda: Trained(_one_cycle), accumulate_grad_batches=4)
_bptt = functools.partial(setup, train=lambda: sequences(80, 4, 7), val=lambda: sequences(8, 4, 7), truncated_bptt_steps=3)

SETUPS: dict[str, Scenario] = {
    **{f"optimizer {name}": _of_optimizer(name) for name in OPTIMIZERS},
    **{f"scheduler {name}": _of_scheduler(name) for name in SCHEDULERS},
    # ---- loaders
    "DataLoader": _windows_of_4(shuffled),
    "DataLoader, random augmentation": _windows_of_4(lambda: shuffled(NoisySamples)),
    "DataLoader, 2 workers": _windows_of_4(lambda: shuffled(**FORKED)),
    "DataLoader, 2 workers, random augmentation": _windows_of_4(lambda: shuffled(NoisySamples, **FORKED)),
    "DataLoader, persistent workers": setup(train=lambda: shuffled(**FORKED, persistent_workers=True)),
    "SeededDataLoader, 2 workers, random augmentation": _windows_of_4(lambda: seeded(**FORKED)),
    "SeededDataLoader": setup(train=seeded),
    "generator of its own": setup(train=models.own_generator),
    "sampler with replacement": setup(train=models.with_replacement),
    "sampler with weights": setup(train=models.weighted),
    "sampler of a part": setup(train=models.subset),
    "sampler with set_epoch": setup(train=lambda: models.sampled(models.EpochSampler())),
    "batch sampler": setup(train=lambda: DataLoader(Samples(models.N), batch_sampler=models.BucketSampler())),
    "sampler of batches": setup(train=models.nested_batch_sampler),
    "epochs of changing length": setup(train=epochs_of(35, 24, 40), accumulate_grad_batches=3),
    "loader with a state_dict": setup(train=models.StatefulLoader),
    "list of batches": setup(train=models.list_of_batches),
    "stream": setup(train=streamed, val_check_interval=7, accumulate_grad_batches=3),
    "stream, 2 workers, random augmentation": setup(train=lambda: streamed(NoisySamples, **FORKED), val_check_interval=7),
    # ---- models
    "tied weights": setup(models.TiedWeights),
    "weight norm": setup(models.weight_norm),
    "spectral norm": setup(models.spectral_norm),
    "frozen backbone": setup(models.frozen_backbone),
    "batch norm and outputs of several loaders": setup(GatheredOutputs, val=models.two_val_loaders),
    "channels last": setup(models.ChannelsLast),
    "complex weights": setup(models.ComplexWeights),
    "extra state": setup(models.ExtraState),
    "layer that is unfrozen": setup(LayerUnfrozenLater),
    "parameter outside the model": setup(ParameterOutsideTheModel),
    "compiled": setup(_compiled),
    "weights in bfloat16": setup(
        lambda: models.OtherLayers(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).bfloat16(),
        lambda: DataLoader(Samples(models.N, dtype=torch.bfloat16), batch_size=4, shuffle=True),
        val=lambda: DataLoader(Samples(14, dtype=torch.bfloat16), batch_size=4),
    ),
    # ---- training
    "windows with weights": setup(WeightedLosses, accumulate_grad_batches=5, gradient_clip_val=0.5),
    "windows that change": setup(accumulate_grad_batches={0: 3, 1: 1, 2: 4}),
    "forwards without a loss": setup(LeftOutBatches, accumulate_grad_batches=3),
    "truncated bptt": _bptt(models.DroppedRecurrence),
    "truncated bptt, windows of 2": _bptt(models.DroppedRecurrence, accumulate_grad_batches=2),
    "two optimizers": setup(Adversaries, accumulate_grad_batches=2, guards=Guards(step={1: every_n_batches(3)})),
    "two optimizers, steps of its own": setup(models.OwnSteps),
    "two groups": setup(lambda: Trained(models.two_groups)),
    "three schedulers": setup(ScheduledSteps, accumulate_grad_batches=5),
    "bf16": setup(AutocastModule, precision="bf16", accumulate_grad_batches=2),
    "fp16 with a scaler": setup(AutocastModule, precision="16", accumulate_grad_batches=2),
    "windows that are dropped": setup(lambda: InfiniteLosses(adam_of), accumulate_grad_batches=3, on_nonfinite="skip"),
    # ---- validation, ending
    "two val loaders": setup(val=models.two_val_loaders, model=lambda: WeightedMetrics()),
    "early stopping": setup(
        lambda: Trained(sgd_with_momentum),
        max_nb_epochs=9,
        min_nb_epochs=0,
        early_stop_callback=EarlyStopping(min_delta=0.01, patience=5),
    ),
    "validations of every second epoch": setup(check_val_every_n_epoch=2, max_nb_epochs=4),
    "metrics logged in hooks": setup(models.LoggedInHooks),
    "stop guard": setup(guards=Guards(stop=after_steps(70)), accumulate_grad_batches=3, max_nb_epochs=9),
    "test": setup(test=val_loader),
    # ---- saving, callbacks
    "callback that changes weights": setup(lambda: Trained(sgd_with_momentum), callbacks=lambda: [WeightAverage()]),
    "moving average in validations": setup(callbacks=lambda: [models.MovingAverage()]),
    "best three": setup(checkpoint=lambda: ModelCheckpoint(monitor="val_loss", save_top_k=3)),
    "every fourth step": setup(checkpoint=lambda: ModelCheckpoint(every_n_steps=4, save_top_k=2), accumulate_grad_batches=3),
    "save guard": setup(checkpoint=None, guards=Guards(save=every_n_batches(11))),
    "folder of its own": setup(checkpoint=lambda: ModelCheckpoint(every_n_batches=9, dirpath="saved")),
    "saved once an epoch": setup(lambda: Linear(adam_of), checkpoint=lambda: ModelCheckpoint()),
}
