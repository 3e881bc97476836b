"""Every optimizer and scheduler of torch, ready to be made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import optim
from torch.optim import lr_scheduler as lr
from torch.optim.optimizer import Optimizer
from torch.optim.swa_utils import SWALR

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda params: optim.Adam(params, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=torch.tensor(0.01)),
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "Adadelta": optim.Adadelta,
    "Adagrad": optim.Adagrad,
    "Adafactor": optim.Adafactor,
    "ASGD": optim.ASGD,
    "RMSprop": lambda params: optim.RMSprop(params, momentum=0.9, centered=True),
    "Rprop": optim.Rprop,
    "LBFGS": lambda params: optim.LBFGS(params, lr=0.1, max_iter=3),
    "Muon": lambda params: optim.Muon([param for param in params if param.dim() == 2]),
    "SparseAdam": optim.SparseAdam,
}

SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: lr.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: lr.StepLR(o, 2),
    "MultiStepLR": lambda o: lr.MultiStepLR(o, [2, 4, 4, 6]),
    "ConstantLR": lambda o: lr.ConstantLR(o, total_iters=4),
    "LinearLR": lambda o: lr.LinearLR(o),
    "ExponentialLR": lambda o: lr.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr.PolynomialLR(o),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.1, step_size_up=3, scale_fn=lambda x: 0.5, scale_mode="cycle"),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.1, total_steps=20),
    "ReduceLROnPlateau": lambda o: lr.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.MultiStepLR(o, [3, 5])], [2]),
    "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.ConstantLR(o), lr.ExponentialLR(o, 0.9)], o),
    "SWALR": lambda o: SWALR(o, 0.05),
}
