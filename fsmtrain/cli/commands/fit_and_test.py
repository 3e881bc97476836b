"""The commands ``fit`` and ``test``: train a user's model from the shell, or test one with saved weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from fsmtrain.adapters.lightning.command_line import is_lightning_module, machine_of
from fsmtrain.ckpt_path import TestsBestWeights
from fsmtrain.cli.config_file import ConfigFile, ConfigOption, RecordConfig, data_module_of, hparams_of
from fsmtrain.cli.flag_parameters import INPUT, SAVING, Switch, with_flags
from fsmtrain.cli.import_target import build_target, import_guards, target_folder
from fsmtrain.cli.run_machine import build_model_with_weights, find_weights, print_outcome, run_machine
from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.errors import ResumeError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.checkpointing.compatibility import with_way_out
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.runtime.model_files.weights import save_weights
from fsmtrain.runtime.rng import seed_all
from fsmtrain.views.recording.program_folder import program_in

Target = Annotated[str, Parameter(name="MODULE:CLASS", group=INPUT)]
HParamsArguments = Annotated[list[str] | None, Parameter(group=INPUT, metavar="NAME=VALUE", negative=())]
DataTarget = Annotated[str | None, Parameter(group=INPUT, metavar="MODULE:CLASS")]
DataHParams = Annotated[list[str] | None, Parameter(name="--data_hparams", group=INPUT, metavar="NAME=VALUE", negative=())]
SavingSwitch = Annotated[bool, Parameter(group=SAVING, negative=(), show_default=False)]


@with_flags
def fit(
    target: Target,
    /,
    *,
    config: ConfigOption = None,
    hparams: HParamsArguments = None,
    data: DataTarget = None,
    data_hparams: DataHParams = None,
    guards: Annotated[str | None, Parameter(group=INPUT, metavar="MODULE:NAME")] = None,
    weights: Annotated[Path | None, Parameter(group=INPUT, metavar="PATH")] = None,
    test: Switch = False,
    save: Annotated[Path | None, Parameter(group=INPUT, metavar="PATH")] = None,
    checkpoint: ModelCheckpoint | bool | None = None,
    resume: SavingSwitch = False,
    resume_from: Annotated[Path | None, Parameter(name="--resume_from", group=SAVING, metavar="PATH")] = None,
    resume_strict: Annotated[bool, Parameter(name="--resume-strict", group=SAVING, show_default=False)] = True,
    resume_new_settings: Annotated[
        bool, Parameter(name="--resume_new_settings", group=SAVING, negative="", show_default=False)
    ] = False,
    requeue_code: Annotated[int | None, Parameter(name="--requeue_code", group=SAVING, metavar="CODE")] = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Train a model on the loaders that its own methods return, or those of a data module.

    Ctrl-C stops after the current batch, prints where, and exits with 130; a second Ctrl-C stops at once. SIGTERM stops with
    exit code 143, SIGUSR1 with 138. If the run saves checkpoints, it saves one where it stops.

    For example:

        fsmtrain fit train.py:Model --max_nb_epochs 20 --early_stop_callback --test

        fsmtrain fit train.py:Model --checkpoint.every_n_steps 500 --resume

        fsmtrain fit package.models:Model --hparams lr=0.1,hidden=32 --save weights.pt

        fsmtrain fit train.py:Model --config run.yaml --max_nb_epochs 3

        fsmtrain fit train.py:Model --data train.py:Data --data_hparams batch_size=64

    Args:
        target: The model: a class, or a function that returns a module, as in train.py:Model or package.models:Model.
        hparams: Hyperparameters to build the model with, as in lr=0.1,hidden=32. They are passed as one argument if it has a
            parameter hparams, else each by its name.
        data: The data module with the loaders: a class, or a function that returns one, as in data.py:Data.
        data_hparams: Hyperparameters to build the data module with, as for --hparams.
        guards: When to step, validate, save and stop: an object Guards(...), or a function that returns one.
        weights: Start with these weights: a file written by --save, or a checkpoint. Without --hparams the
            hyperparameters saved there are used.
        test: Test the model at the end: with --checkpoint.monitor its best weights, else those with which training ended.
        save: Write the weights and hyperparameters to this file at the end, also after Ctrl-C.
        checkpoint: Save checkpoints, by default at the end of each epoch.
        resume: Continue the newest run that this same command began, from its newest checkpoint; if there is none, begin a
            new run.
        resume_from: Continue the run in this run folder. Or begin a new run from this checkpoint, or from the newest valid one
            in this folder of checkpoints.
        resume_strict: Refuse to resume (the default) if options, guards or loader sizes differ from those of the checkpoint.
            With --no-resume-strict, print the differences as a warning and resume.
        resume_new_settings: Resume with the settings of optimizers and schedulers (lr, weight_decay, gamma, ...) that the
            model has now, at the step that they have reached, in place of those of the checkpoint.
        requeue_code: Exit code after SIGTERM or SIGUSR1, in place of 143 or 138: the one for which your job scheduler queues
            the job again.
        json: Print the result as JSON.
    """
    options = Options(**flags)
    if save is not None and save.is_dir():
        raise UsageError(f"--save {save}: is a folder. Pass the path of a file.")
    own_guards = import_guards(guards or (config.guards if config else None))
    if options.seed is not None:
        seed_all(options.seed)  # for the model's initial weights; the run sets the seed again when it begins
    typed = hparams_of(config, hparams)
    model = build_target(target, typed) if weights is None else build_model_with_weights(target, weights, typed)
    rules = _rules(checkpoint, config)
    tests_best = [TestsBestWeights()] if test and any(rule.monitor is not None for rule in rules) else []
    callbacks = [*rules, *tests_best, *([RecordConfig(config)] if config else [])]
    loaders = Loaders(test=None if test else (), data_module=data_module_of(config, data, data_hparams))
    make = machine_of if is_lightning_module(model) else Machine
    machine = make(options, model, loaders, guards=own_guards, callbacks=callbacks)
    if resume or resume_from is not None:
        try:
            where = "auto" if resume_from is None else resume_from
            with program_in(target_folder(target)):
                machine.resume_from(where, strict=resume_strict, new_settings=resume_new_settings)
        except ResumeError as error:
            raise with_way_out(error, "--no-resume-strict") from None
    outcome = run_machine(machine, target, requeue_code)
    if save is not None and outcome.result is not None:
        if typed is not None and getattr(model, "hparams", None) is None:
            model.hparams = typed  # type: ignore[assignment]
        try:
            save_weights(save, model, {"epoch": machine.current_epoch, "global_step": machine.global_step})
        except OSError as error:
            raise UsageError(f"--save {save}: cannot be written: {error.strerror or error}.") from error
    return print_outcome(outcome, as_json=json, quiet=options.quiet)


def _rules(checkpoint: ModelCheckpoint | bool | None, config: ConfigFile | None) -> tuple[ModelCheckpoint, ...]:
    """Return when to save: what was typed, or the list in the file."""
    listed = config.checkpoints if config else ()
    if config and listed and isinstance(checkpoint, ModelCheckpoint):
        raise UsageError(
            f"--checkpoint: {config.path} has a list of several, and which of them is meant is unknown. Change the file."
        )
    if isinstance(checkpoint, ModelCheckpoint):
        return (checkpoint,)
    return () if checkpoint is False else listed or ((ModelCheckpoint(),) if checkpoint else ())


@functools.partial(with_flags, only="test")
def evaluate(
    target: Target,
    /,
    *,
    weights: Annotated[str, Parameter(group=INPUT, metavar="PATH")],
    run: Annotated[str | None, Parameter(group=INPUT, metavar="FOLDER")] = None,
    config: ConfigOption = None,
    hparams: HParamsArguments = None,
    data: DataTarget = None,
    data_hparams: DataHParams = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Test a model with saved weights, and print the metrics.

    For example:

        fsmtrain test train.py:Model --weights weights.pt

        fsmtrain test train.py:Model --weights best

    The other flags of fit are accepted, too; they change nothing here.

    Args:
        target: The model: a class, or a function that returns a module, as in train.py:Model or package.models:Model.
        weights: A file written by fit --save or trainer.save_checkpoint, or a checkpoint. No code in it is executed. Or best,
            the checkpoint of the model's newest run with the best value of --checkpoint.monitor; or last, its newest one.
        run: The run of --weights best and last: its folder, or its name or number in --runs_dir.
        hparams: Hyperparameters to build the model with, in place of those in the file.
        data: The data module with the test loaders, as for fit.
        data_hparams: Hyperparameters to build the data module with.
        json: Print the result as JSON.
    """
    options = Options(**flags)
    found = find_weights(weights, run, target, Path(options.runs_dir or "runs"))
    model = build_model_with_weights(target, found, hparams_of(config, hparams))
    loaders = Loaders(data_module=data_module_of(config, data, data_hparams))
    outcome = run_machine(Machine(options, model, loaders, runs="test", tested=found), target)
    return print_outcome(outcome, as_json=json, quiet=options.quiet, weights=found)
