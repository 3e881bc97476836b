"""The command ``predict``: run a user's model with saved weights over its data, and write the outputs to a file or a folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from fsmtrain.callbacks.prediction_writer import PredictionWriter
from fsmtrain.cli.commands.fit_and_test import DataHParams, DataTarget, HParamsArguments, Target
from fsmtrain.cli.config_file import ConfigOption, data_module_of, hparams_of
from fsmtrain.cli.flag_parameters import INPUT, Switch, with_flags
from fsmtrain.cli.run_machine import build_model_with_weights, find_weights, run_machine
from fsmtrain.core.states import State
from fsmtrain.errors import ModelError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.plurals import plural
from fsmtrain.prediction_files import plain_output, save_predictions, validate_predictions_path
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.views.console.stderr import print_stderr


class _FirstOutput:
    """A callback that finds at the first batch, and not at the end of the run, what no file can hold."""

    def on_predict_batch_end(self, machine: Machine, outputs: Any, batch: Any, batch_nb: int) -> None:
        if batch_nb == 0:
            plain_output(outputs)


@functools.partial(with_flags, only="predict")
def predict(
    target: Target,
    /,
    *,
    weights: Annotated[str, Parameter(group=INPUT, metavar="PATH")],
    out: Annotated[Path, Parameter(group=INPUT, metavar="PATH")],
    run: Annotated[str | None, Parameter(group=INPUT, metavar="FOLDER")] = None,
    overwrite: Switch = False,
    config: ConfigOption = None,
    hparams: HParamsArguments = None,
    data: DataTarget = None,
    data_hparams: DataHParams = None,
    flags: Mapping[str, Any],
) -> int:
    """Predict with saved weights, and write the outputs to a file, or batch by batch to a folder.

    The model's predict_step is called with each batch of its predict_dataloader, or of a data module's; without a predict_step
    the model itself is.

    For example:

        fsmtrain predict train.py:Model --weights weights.pt --out predictions.npz

        fsmtrain predict train.py:Model --weights best --data data.py:Data --out predictions/

    Args:
        target: The model: a class, or a function that returns a module, as in train.py:Model or package.models:Model.
        weights: A file written by fit --save or trainer.save_checkpoint, or a checkpoint. No code in it is executed. Or best,
            or last: that checkpoint of the newest run that trained this model, or of --run.
        run: The run of --weights best and last: its folder, or its name or number in --runs_dir.
        out: The file: .pt (the output of each batch, for torch.load), .npz (an array for each tensor, of all batches) or .jsonl
            (a line for each sample). Without a suffix it is a folder, with a .pt file for each batch, for outputs that do not
            fit into memory; after a kill it has those of all batches before.
        overwrite: Replace a file or a folder of predictions that is there.
        hparams: Hyperparameters to build the model with, in place of those in the file.
        data: The data module with the loaders to predict on: a class, or a function that returns one, as in data.py:Data.
        data_hparams: Hyperparameters to build the data module with.
    """
    options = Options(**flags)
    is_folder = not out.suffix or out.is_dir()
    if not is_folder:
        validate_predictions_path(out)
        if out.exists() and not overwrite:
            raise UsageError(f"--out {out}: exists already. Pass another path, or --overwrite.")
        if not out.parent.is_dir():
            raise UsageError(f"--out {out}: there is no folder {out.parent}.")
    found = find_weights(weights, run, target, Path(options.runs_dir or "runs"))
    model = build_model_with_weights(target, found, hparams_of(config, hparams))
    loaders = Loaders(data_module=data_module_of(config, data, data_hparams))
    callbacks = [PredictionWriter(out, overwrite=overwrite) if is_folder else _FirstOutput()]
    machine = Machine(options, model, loaders, runs="predict", callbacks=callbacks, keeps_predictions=not is_folder)
    outcome = run_machine(machine, target)
    if outcome.stopped:
        print_stderr(outcome.stopped)
    batches = machine.data_wait.count if machine.state is State.DONE else 0
    if not is_folder and outcome.result is not None:
        outputs = machine.predictions_by_loader
        batches = sum(map(len, outputs))
        if machine.state is State.STOPPED:
            out = out.with_name(f"{out.stem}.partial{out.suffix}")
        try:
            save_predictions(out, outputs)
        except ModelError as error:  # of the format: nothing of the work is lost
            instead = out.with_name(f"{out.name}.pt")  # a file with the suffix alone may be that of the weights
            save_predictions(instead, outputs)
            raise ModelError(f"{error} They were written to {instead}.") from error
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}.") from error
    if batches and not options.quiet:
        print_stderr(f"predictions of {plural(batches, 'batch')}: {out}")
    return outcome.exit_code
