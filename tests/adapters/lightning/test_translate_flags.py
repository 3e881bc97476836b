"""One flag at a time, and combinations: the same bits and metrics as by Lightning's trainer."""

from __future__ import annotations

from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

from tests.adapters.lightning import programs as p  # noqa: E402
from tests.adapters.lightning.compare import compare  # noqa: E402

FLAGS: list[dict[str, Any]] = [
    {"max_epochs": 1},
    {"max_epochs": 3, "min_epochs": 2},
    {"max_steps": 7, "max_epochs": -1},
    {"max_steps": 7},
    {"max_steps": 4, "accumulate_grad_batches": 2},
    {"limit_train_batches": 0.3},
    {"limit_train_batches": 0.7},
    {"limit_train_batches": 4},
    {"limit_val_batches": 1},
    {"limit_val_batches": 0},
    {"limit_val_batches": 0.0},
    {"limit_val_batches": 0.5},
    {"accumulate_grad_batches": 2},
    {"accumulate_grad_batches": 4},
    {"accumulate_grad_batches": 7},
    {"accumulate_grad_batches": 4, "limit_train_batches": 5, "max_epochs": 3},
    {"gradient_clip_val": 0.1},
    {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
    {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2, "val_check_interval": 0.5},
    {"precision": "bf16-mixed"},
    {"precision": "bf16-mixed", "gradient_clip_val": 0.1, "accumulate_grad_batches": 2},
    {"precision": "64-true"},
    {"precision": "bf16-true"},
    {"precision": "16-mixed"},
    {"val_check_interval": 0.25},
    {"val_check_interval": 0.5},
    {"val_check_interval": 3},
    {"val_check_interval": 1},
    {"val_check_interval": 0.25, "max_steps": 8},
    {"check_val_every_n_epoch": 2, "max_epochs": 4},
    {"check_val_every_n_epoch": 2, "val_check_interval": 0.5, "max_epochs": 3},
    {"check_val_every_n_epoch": None, "val_check_interval": 4, "max_epochs": 4},
    {"check_val_every_n_epoch": None, "val_check_interval": 8, "max_epochs": 4},
    {"num_sanity_val_steps": 0},
    {"num_sanity_val_steps": 1},
    {"num_sanity_val_steps": -1},
    {"log_every_n_steps": 3},
    {"log_every_n_steps": 2, "accumulate_grad_batches": 2},
    {"fast_dev_run": True},
    {"fast_dev_run": 3},
    {"overfit_batches": 2},
    {"overfit_batches": 0.5},
    {"deterministic": True},
    {"detect_anomaly": True},
    {"inference_mode": False},
    {"benchmark": True},
    {"devices": 1},
    {"min_steps": 3},
    {"max_time": "00:01:00:00"},
    {"use_distributed_sampler": False},
    {"enable_autolog_hparams": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: ",".join(f"{k}={v}" for k, v in flags.items()))
@pytest.mark.parametrize("bare", [False, True], ids=["may stop", "bare"])
def test_flag_as_lightning_has_it(flags: dict[str, Any], bare: bool) -> None:
    compare(p.plain, bare=bare, **flags)


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        (p.Classifier, {"val_check_interval": 0.5, "max_epochs": 4}),
        (p.Warmup, {"accumulate_grad_batches": 2, "max_epochs": 3}),
        (p.Warmup, {"max_steps": 9}),
        (p.Hooks, {"accumulate_grad_batches": 2, "val_check_interval": 0.5}),
        (p.Epochs, {"val_check_interval": 0.5, "max_steps": 10, "max_epochs": 5}),
        (p.Sometimes, {"accumulate_grad_batches": 2}),
        (p.Stops, {"min_epochs": 3, "max_epochs": 5}),
        (p.Stops, {"min_steps": 11, "max_epochs": 5}),
        (p.GAN, {"max_steps": 9}),
        (p.Hidden, {"log_every_n_steps": 3, "val_check_interval": 2}),
        (p.SecondOrder, {"gradient_clip_val": 0.5}),
    ],
)
def test_combination_as_lightning_has_it(module: Any, flags: dict[str, Any]) -> None:
    compare(lambda: (module(), p.plain()[1]), **flags)
