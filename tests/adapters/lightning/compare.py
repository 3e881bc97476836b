"""Run one program by Lightning's trainer and by ours from the same seed, and compare all that it leaves behind."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field

L: Any = pytest.importorskip("lightning.pytorch")

from fsmtrain.adapters import lightning as ours  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

# Hooks of a callback that are recorded, all with the global step and the epoch at which they are called.
_HOOKS = [name for name in dir(L.Callback) if name.startswith("on_") and "checkpoint" not in name]


class RecordingCallback(L.Callback):
    """Record each call of a hook, with what the trainer says then."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def note(self, name: str, trainer: Any, *args: Any) -> None:
        """Record a call."""
        indices = tuple(value for value in args if isinstance(value, int))
        lr = tuple(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
        where = (trainer.global_step, trainer.current_epoch, str(trainer.state.stage), trainer.is_last_batch)
        self.calls.append((name, *where, trainer.should_stop, lr, indices))


def _recorder(name: str) -> Callable[..., None]:
    def hook(self: RecordingCallback, trainer: Any, module: Any, *args: Any) -> None:
        self.note(name, trainer, *args)

    return hook


for _name in _HOOKS:
    setattr(RecordingCallback, _name, _recorder(_name))


class RecordingLogger(L.loggers.Logger):
    """Keep what is logged, with its step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.hparams: list[Any] = []

    name = "recording"
    version = 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep the metrics."""
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **options: Any) -> None:
        """Keep the hyperparameters."""
        self.hparams.append(dict(params))


@define
class Outcome:
    """What a run left behind."""

    trainer: Any
    module: Any
    seen: dict[str, Any]
    results: list[Any] = field(factory=list)


Program = Callable[[], tuple[Any, dict[str, Any]]]


def run(trainer_class: Any, program: Program, flags: dict[str, Any], then: Callable[[Any, Any], Any] | None = None) -> Outcome:
    """Run a program: what it returns is a module, and the arguments of ``fit``.

    With the flag ``bare`` there is no callback that records hooks, so that none is called that the module does not have.
    """
    L.seed_everything(7, verbose=False)
    module, fit_arguments = program()
    recording, logger = RecordingCallback(), RecordingLogger()
    own: Any = flags.get("callbacks")
    extra = own() if callable(own) else []
    first = [] if flags.get("bare") else [recording]
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
            "logger": logger, "default_root_dir": folder, "log_every_n_steps": 1, "max_epochs": 2,
        } | {name: value for name, value in flags.items() if name not in ("callbacks", "bare")}  # fmt: skip
        trainer = trainer_class(callbacks=[*first, *extra], **given)
        trainer.fit(module, **fit_arguments)
        callback_metrics = dict(trainer.callback_metrics)
        results = [] if then is None else [then(trainer, module)]
        best = [
            (Path(c.best_model_path).name, c.best_model_score, sorted(p.name for p in Path(c.dirpath).iterdir()))
            for c in trainer.checkpoint_callbacks
            if c.dirpath is not None and Path(c.dirpath).exists()
        ]
    seen = {
        "weights": module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "global_step": trainer.global_step,
        "current_epoch": trainer.current_epoch,
        "callback_metrics": callback_metrics,
        "progress_bar_metrics": dict(trainer.progress_bar_metrics),
        "logged": logger.rows,
        "hparams": logger.hparams,
        "calls": recording.calls,
        "best": best,
        "callback_states": [
            c.state_dict() for c in extra if not isinstance(c, (L.callbacks.ModelCheckpoint, L.callbacks.Timer))
        ],
        "own": getattr(module, "seen", None),
        "random": torch.get_rng_state(),
        "results": results,
    }
    return Outcome(trainer, module, seen, results)


def compare(program: Program, then: Callable[[Any, Any], Any] | None = None, **flags: Any) -> Outcome:
    """Run a program by both trainers, and check that all they leave behind is equal; return ours."""
    theirs = run(L.Trainer, program, flags, then)
    mine = run(ours.Trainer, program, {"remainder": "lightning", **flags}, then)
    for name, value in theirs.seen.items():
        difference = first_difference(value, mine.seen[name])
        assert difference is None, f"{name}{difference}"
    return mine


def first_difference(theirs: Any, mine: Any) -> str | None:
    """Return where two values differ first, bit by bit; None if they are equal."""
    if isinstance(theirs, torch.Tensor):
        same_kind = isinstance(mine, torch.Tensor) and theirs.dtype == mine.dtype and theirs.shape == mine.shape
        is_same = same_kind and torch.allclose(theirs, mine, rtol=0, atol=0, equal_nan=True)
        return None if is_same else f": {theirs} and {mine}"
    if isinstance(theirs, dict) and isinstance(mine, dict):
        if theirs.keys() != mine.keys():
            return f": {list(theirs)} and {list(mine)}"
        pairs = [(key, theirs[key], mine[key]) for key in theirs]
    elif isinstance(theirs, (list, tuple)) and isinstance(mine, (list, tuple)):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(theirs, mine, strict=False))]
        pairs += [("length", len(theirs), len(mine))]
    else:
        is_nan = isinstance(theirs, float) and isinstance(mine, float) and math.isnan(theirs) and math.isnan(mine)
        return None if is_nan or theirs == mine else f": {theirs!r} and {mine!r}"
    for key, a, b in pairs:
        found = first_difference(a, b)
        if found is not None:
            return f"[{key!r}]{found}"
    return None
