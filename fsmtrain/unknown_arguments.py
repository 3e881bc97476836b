"""Errors for wrong arguments: names in other trainers with their names here, the way out, or the most similar name."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

from fsmtrain.errors import ArgumentError, FsmtrainError, RenamedError

F = TypeVar("F", bound=Callable[..., Any])

_SIZES = ("train", "val", "test", "optimizers", "splits")
_LOADERS = ("dataloader", "dataloaders", "loader", "loaders")

# Names of an argument in other trainers and in earlier versions of this one. Only those that a call has are named there.
_NAMES_ELSEWHERE = {
    "batch_size": ("bs",),
    "callbacks": ("callback",),
    "collate_fn": ("collate", "collate_function"),
    "datamodule": ("data", "data_module", "dm"),
    "dirpath": ("checkpoint_dir", "directory", "filepath", "save_dir"),
    "every_n_batches": ("every_n_train_batches",),
    "every_n_epochs": ("every_n_val_epochs", "period", "save_every_n_epochs"),
    "every_n_seconds": ("train_time_interval",),
    "every_n_steps": ("every_n_train_steps", "save_every_n_steps", "save_steps"),
    "min_delta": ("early_stopping_threshold",),
    "mode": ("greater_is_better",),
    "model": ("lightning_module", "module", "net", "network"),
    "monitor": ("metric", "metric_for_best_model"),
    "options": ("args", "flags"),
    "patience": ("early_stopping_patience", "n_patience"),
    "predict_dataloaders": (*_LOADERS, "predict_data", "predict_dataloader", "predict_loader", "predict_loaders"),
    "save_top_k": ("keep", "max_to_keep", "n_saved", "save_total_limit"),
    "splits": ("nb_splits", "num_splits"),
    "test": ("nb_test_batches", "num_test_batches", "test_batches"),
    "test_dataloaders": (*_LOADERS, "test_data", "test_dataloader", "test_loader", "test_loaders", "testloader"),
    "train": ("nb_train_batches", "num_training_batches", "train_batches"),
    "train_dataloader": (*_LOADERS, "train_data", "train_dataloaders", "train_loader", "train_loaders", "trainloader"),
    "val": ("nb_val_batches", "num_val_batches", "val_batches"),
    "val_dataloaders": (
        *(*_LOADERS, "eval_dataloader", "eval_dataloaders", "val_data", "val_dataloader", "val_loader", "val_loaders"),
        *("valid_dataloader", "valid_dataloaders", "valid_loader", "validation_data", "valloader"),
    ),
    "validate": ("check",),
}

_RESUME = "To continue a run pass Trainer(resume=PATH), or for a machine machine.resume(PATH) before run()."
_NEWEST_STAYS = "The newest checkpoint is always kept, beside the best ones."
_NAMED_BY_NUMBER = "Checkpoints are folders with a number, and machine.best_checkpoint is the best one."
_EACH_VALIDATION = "It acts on the metric of each validation, at once."
_OWN_STOP = "Pass Guards(stop=...) with a rule of your own."
_MISSING = "A monitored metric that is missing is an error, which lists the metrics there are."
_ORDER = "Its order follows from seed and epoch. With an order of your own use a DataLoader, which is resumed, too."

# What to do instead of an argument that has no counterpart, by the call.
_WAYS_OUT = {
    "Trainer.fit": {
        "ckpt_path": _RESUME,
        "resume_from_checkpoint": _RESUME,
        "test_dataloader": "fit does not test: call test(test_dataloaders=...) after it.",
        "test_dataloaders": "fit does not test: call test(test_dataloaders=...) after it.",
    },
    "Trainer.test": {"verbose": "It returns the metrics; Trainer(quiet=True) prints nothing."},
    "Trainer.validate": {"verbose": "It returns the metrics; Trainer(quiet=True) prints nothing."},
    "build": {"ckpt_path": _RESUME, "resume": _RESUME},
    "ModelCheckpoint": {
        "auto_insert_metric_name": _NAMED_BY_NUMBER,
        "enable_version_counter": _NAMED_BY_NUMBER,
        "filename": _NAMED_BY_NUMBER,
        "prefix": _NAMED_BY_NUMBER,
        "save_best_only": "Pass monitor='val_loss': the best checkpoint is kept, and the newest one for resuming.",
        "save_last": _NEWEST_STAYS,
        "save_on_exception": "A run that fails is resumed from its newest checkpoint; pass every_n_seconds or every_n_batches.",
        "save_on_train_epoch_end": "Without monitor and interval a checkpoint is saved at the end of each epoch.",
        "save_weights_only": "A checkpoint has the whole run; trainer.save_checkpoint(path) writes the weights alone.",
        "verbose": "machine.best_checkpoint and the run's folder tell what was saved.",
    },
    "EarlyStopping": {
        "baseline": _OWN_STOP,
        "check_finite": "NaN is never an improvement; on_nonfinite='raise' ends a run whose loss is not finite.",
        "check_on_train_epoch_end": _EACH_VALIDATION,
        "divergence_threshold": _OWN_STOP,
        "log_rank_zero_only": "Pass verbose=True to print a line, or leave it out.",
        "restore_best_weights": "Pass callbacks=[ModelCheckpoint(monitor=...)], and then test(ckpt_path='best').",
        "start_from_epoch": "Pass min_nb_epochs to the Trainer: no earlier stop.",
        "stopping_threshold": _OWN_STOP,
        "strict": _MISSING,
    },
    "Loop": {name: f"It is an argument of Sizes: Loop(options, Sizes({name}=...))." for name in _SIZES},
    "SeededDataLoader": dict.fromkeys(("batch_sampler", "generator", "in_order", "sampler"), _ORDER),
}


def explain_unknown_arguments(*, beside: Iterable[str] = (), hints: Mapping[str, str] | None = None) -> Callable[[F], F]:
    """Decorate a function or class: wrong arguments are an error of ours, unknown names one with the name here or the way out.

    Args:
        beside: Names that a parameter ``**keywords`` stands for.
        hints: What to answer for names that are arguments of something else.

    >>> @explain_unknown_arguments()
    ... def area(width, height): ...
    >>> area(2, heigth=3)
    Traceback (most recent call last):
    fsmtrain.errors.ArgumentError: area(heigth=...): there is no such argument. Did you mean height?
    """
    others = tuple(beside)

    def decorate(call: F) -> F:
        plain: Callable[..., Any] = vars(call)["__init__"] if isinstance(call, type) else call
        signature = inspect.signature(plain)
        parameters = signature.parameters.values()
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
        known = dict.fromkeys((*named, *others))

        @functools.wraps(plain)
        def explained(*args: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in known:
                    raise no_such_argument(call.__qualname__, name, known, hints)
            try:
                signature.bind(*args, **keywords)
            except TypeError as error:
                short = call.__qualname__.rpartition(".")[2]
                raise ArgumentError(f"{short}: {error}. Its arguments are {', '.join(known)}.") from None
            return plain(*args, **keywords)

        if not isinstance(call, type):
            return cast("F", explained)
        setattr(call, "__init__", explained)  # noqa: B010 - a type checker refuses an assignment by name
        return call

    return decorate


def no_such_argument(call: str, name: str, known: Collection[str], hints: Mapping[str, str] | None = None) -> FsmtrainError:
    """Return the error for a keyword that a call does not have.

    Args:
        call: The function or class, as in ``Trainer.fit``.
        name: The keyword.
        known: The arguments that it has.
        hints: What to answer for names that are arguments of something else.
    """
    short = call.rpartition(".")[2]
    beginning = f"{short}({name}=...): there is no such argument."
    if name in (ways_out := _WAYS_OUT.get(call, {})):
        return ArgumentError(f"{beginning} {ways_out[name]}")
    here = [argument for argument in known if name in _NAMES_ELSEWHERE.get(argument, ())]
    if here:
        return RenamedError(f"{beginning} Its name here is {_or(here)}: {short}({here[0]}=...).")
    if hints is not None and name in hints:
        return ArgumentError(f"{beginning} {hints[name]}")
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.65)
    if similar:
        return ArgumentError(f"{beginning} Did you mean {similar[0]}?")
    return ArgumentError(f"{beginning} Its arguments are {', '.join(known)}.")


def _or(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
