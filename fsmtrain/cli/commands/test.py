"""The command ``test``: run the test loaders through a model with saved weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from fsmtrain.cli.flag_parameters import INPUT, with_flags
from fsmtrain.cli.parse_values import parse_hparams
from fsmtrain.cli.run_machine import HParamsArguments, Switch, Target, build_model_with_weights, print_outcome, run_machine
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.build import Loaders


@with_flags
def evaluate(
    target: Target,
    /,
    *,
    weights: Annotated[Path, Parameter(group=INPUT, metavar="PATH")],
    hparams: HParamsArguments = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Test a model with saved weights, and print the metrics.

    For example:

        fsmtrain test train.py:Model --weights weights.pt

    Args:
        target: The model: a class, or a function that returns a module, as in train.py:Model or package.models:Model.
        weights: A file written by fit --save or trainer.save_checkpoint, or a checkpoint. No code in it is executed.
        hparams: Hyperparameters to build the model with, in place of those in the file.
        json: Print the result as JSON.
    """
    options = Options(**flags)
    model = build_model_with_weights(target, weights, parse_hparams(hparams) if hparams else None)
    return print_outcome(run_machine(Machine(options, model, Loaders(), runs="test")), as_json=json, quiet=options.quiet)
