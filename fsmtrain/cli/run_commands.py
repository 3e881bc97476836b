"""``fit``, and ``test``, which is `evaluate` here: a user's module, run from the shell."""

from __future__ import annotations

import json as js
import math
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from cyclopts import Parameter
from torch import nn

from fsmtrain.cli.exit_codes import failed, unread
from fsmtrain.cli.import_target import guards_of, model_of
from fsmtrain.cli.option_flags import INPUT, SAVING, with_flags
from fsmtrain.cli.typed_values import hparams_of
from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.core.states import State
from fsmtrain.core.trace import where
from fsmtrain.errors import CheckpointError, FsmtrainError, ResumeError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.build import Loaders
from fsmtrain.runtime.checkpointing.compatibility import with_way_out
from fsmtrain.runtime.engine import Result
from fsmtrain.runtime.model_files.hparams import HParams
from fsmtrain.runtime.model_files.weights import load_weights, put_weights, save_weights
from fsmtrain.runtime.rng import seed_all
from fsmtrain.signal_handlers import ReceivedSignal, stop_on_signals
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.number_format import metric

Target = Annotated[str, Parameter(name="MODULE:CLASS", group=INPUT)]
HParamsTyped = Annotated[list[str] | None, Parameter(group=INPUT, metavar="NAME=VALUE", negative=())]
Switch = Annotated[bool, Parameter(group=INPUT, negative=(), show_default=False)]
Saving = Annotated[bool, Parameter(group=SAVING, negative=(), show_default=False)]


@with_flags
def fit(
    target: Target,
    /,
    *,
    hparams: HParamsTyped = None,
    guards: Annotated[str | None, Parameter(group=INPUT, metavar="MODULE:NAME")] = None,
    weights: Annotated[Path | None, Parameter(group=INPUT, metavar="PATH")] = None,
    test: Switch = False,
    save: Annotated[Path | None, Parameter(group=INPUT, metavar="PATH")] = None,
    checkpoint: ModelCheckpoint | bool | None = None,
    resume: Saving = False,
    resume_from: Annotated[Path | None, Parameter(name="--resume_from", group=SAVING, metavar="PATH")] = None,
    resume_strict: Annotated[bool, Parameter(name="--resume-strict", group=SAVING, show_default=False)] = True,
    requeue_code: Annotated[int | None, Parameter(name="--requeue_code", group=SAVING, metavar="CODE")] = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Train a module. Its loaders are those of its own methods.

    Ctrl-C stops at the end of the batch that is under way, says where, and exits with 130; a second one stops at once. SIGTERM
    stops with 143, SIGUSR1 with 138. Where the run saves checkpoints, it is saved there.

    For example:

        fsmtrain fit train.py:Model --max_nb_epochs 20 --early_stop_callback.patience 5 --test

        fsmtrain fit train.py:Model --checkpoint.every_n_steps 500 --resume

        fsmtrain fit package.models:Model --hparams lr=0.1,hidden=32 --save weights.pt

    Args:
        target: What is trained: train.py:Model, or package.models:Model. A class, or a function that returns a module.
        hparams: What it is made with, as in lr=0.1,hidden=32: whole where it has a parameter hparams, else by name.
        guards: MODULE:NAME of a Guards(...), or of a function that returns one.
        weights: Begin with these: of a file, or of a checkpoint. Its hyperparameters are taken where none are typed.
        test: Go on to the test when the training has ended.
        save: Write the weights and hyperparameters here at the end, also after Ctrl-C.
        checkpoint: Save checkpoints: at the end of each epoch, or as its parts say.
        resume: Go on with the newest run that this command began, from its newest checkpoint; begin one where there is none.
        resume_from: Go on with the run of this folder; or begin a run at this checkpoint, or at the newest in this folder.
        resume_strict: If no, resume even if flags, guards or sizes differ from those saved; the differences are a warning.
        requeue_code: Exit with this code after SIGTERM or SIGUSR1: the one that asks a scheduler for another turn.
        json: Print the result as JSON.
    """
    options = Options(**flags)
    if save is not None and save.is_dir():
        raise UsageError(f"--save {save}: that is a folder, and the file's name is needed.")
    own = guards_of(guards)
    if options.seed is not None:
        seed_all(options.seed)  # for the weights with which the model begins; the run seeds anew for itself
    typed = hparams_of(hparams) if hparams else None
    model = model_of(target, typed) if weights is None else _loaded(target, weights, typed)
    rule = ModelCheckpoint() if checkpoint is True else checkpoint
    machine = Machine(options, model, Loaders(test=None if test else ()), guards=own, callbacks=[rule] if rule else [])
    if resume or resume_from is not None:
        try:
            machine.resume_from("auto" if resume_from is None else resume_from, strict=resume_strict)
        except ResumeError as error:
            raise with_way_out(error, "--no-resume-strict") from None
    ended = _run(machine, requeue_code)
    if save is not None and ended.result is not None:
        if typed is not None and getattr(model, "hparams", None) is None:
            model.hparams = typed  # type: ignore[assignment]
        try:
            save_weights(save, model, {"epoch": machine.current_epoch, "global_step": machine.global_step})
        except OSError as error:
            raise UsageError(f"--save {save}: it cannot be written: {error.strerror or error}.") from error
    return _tell(ended, json=json, quiet=options.quiet)


@with_flags
def evaluate(
    target: Target,
    /,
    *,
    weights: Annotated[Path, Parameter(group=INPUT, metavar="PATH")],
    hparams: HParamsTyped = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Run the test set through a module with saved weights, and print the metrics.

    For example:

        fsmtrain test train.py:Model --weights weights.pt

    Args:
        target: What is tested: train.py:Model, or package.models:Model. A class, or a function that returns a module.
        weights: A file that fit --save or trainer.save_checkpoint wrote, or a checkpoint. Nothing in it is executed.
        hparams: What the module is made with, in place of the hyperparameters in the file.
        json: Print the result as JSON.
    """
    options = Options(**flags)
    model = _loaded(target, weights, hparams_of(hparams) if hparams else None)
    return _tell(_run(Machine(options, model, Loaders(), runs="test")), json=json, quiet=options.quiet)


def _loaded(target: str, weights: Path, typed: HParams | None) -> nn.Module:
    """The module with these weights; where no hyperparameters are typed, made with those that are saved with them."""
    try:
        content = load_weights(weights, "cpu")
    except CheckpointError:
        raise
    except OSError as error:
        raise UsageError(f"--weights {weights}: {error.strerror or error}.") from error
    saved = content.get("hparams")
    model = model_of(target, typed or (HParams(**saved) if saved else None))
    put_weights(model, content["state_dict"])
    return model


@frozen(kw_only=True)
class _Ended:
    """How a run ended. `result` is None where it failed; `stopped` says where a signal stopped it."""

    result: Result | None
    exit_code: int
    stopped: str = ""


def _run(machine: Machine, requeue_code: int | None = None) -> _Ended:
    """Run to the end, or to where a signal stops it."""
    with stop_on_signals(machine.stop) as interrupt:
        try:
            result = machine.run()
        except Exception as error:
            if interrupt:  # a loader's worker, say, that the signal has ended
                told = (f"stopped by {type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
                return _Ended(result=None, exit_code=_exit_code(interrupt, requeue_code), stopped="\n".join(told))
            if not isinstance(error, FsmtrainError):
                raise
            return _Ended(result=None, exit_code=failed(error))
    if machine.state is not State.STOPPED or not interrupt:
        return _Ended(result=result, exit_code=0)
    place = f"stopped after {machine.last_state} ({where(machine.counters)}), at global_step {machine.counters.global_step}"
    return _Ended(result=result, exit_code=_exit_code(interrupt, requeue_code), stopped=place)


def _exit_code(interrupt: ReceivedSignal, requeue_code: int | None) -> int:
    asks = requeue_code is not None and interrupt.signal != signal.SIGINT
    return requeue_code if requeue_code is not None and asks else interrupt.exit_code


def _tell(ended: _Ended, *, json: bool, quiet: bool) -> int:
    """Print the result; returns the exit code."""
    if ended.stopped:
        print_stderr(ended.stopped)
    if ended.result is None:
        return ended.exit_code
    try:
        if json:
            print(js.dumps(_plain(ended.result), indent=2))
        elif not quiet:
            for name, value in ended.result.metrics.items():
                print(metric(name, value))
        sys.stdout.flush()
    except BrokenPipeError:
        gone = unread()
        return ended.exit_code or gone
    return ended.exit_code


def _plain(result: Result) -> dict[str, Any]:
    """A result as numbers, strings and dicts. A metric that is no finite number is None: JSON knows no other."""
    return {
        "state": result.state.value,
        "stop_reason": result.stop_reason.name.lower(),
        "because": result.stop_reason.value,
        "epochs_done": result.counters.epochs_done,
        "current_epoch": result.counters.current_epoch,
        "global_step": result.counters.global_step,
        "metrics": {name: value if math.isfinite(value) else None for name, value in result.metrics.items()},
    }
