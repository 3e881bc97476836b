"""The header that a run prints when it begins: the model, the device, what will be done, and where it is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsmtrain.core.limits import Limits
from fsmtrain.model_name import model_name
from fsmtrain.plurals import plural
from fsmtrain.views.console.cheap_plan import cheap_plan
from fsmtrain.views.console.in_notebook import print_about_run
from fsmtrain.views.run_view import RunView


class RunHeader:
    """A callback that prints the header of a run that trains to standard error."""

    def on_run_start(self, machine: RunView) -> None:
        """Print the header."""
        if machine.spec.limits.epochs:
            print_about_run("\n".join(header_lines(machine)))


def header_lines(run: RunView) -> list[str]:
    """Return the lines of the header."""
    loop = run.spec
    lines = [_model(run), planned_work(loop.limits)]
    plan = cheap_plan(loop)
    if plan is not None:
        several = loop.limits.optimizers > 1
        parts = [plural(n, "step") + (f" of optimizer {i}" if several else "") for i, n in enumerate(plan.optimizer_steps)]
        if loop.limits.manual_optimization:
            parts = ["steps decided by training_step"]
        parts += [plural(plan.validations, "validation")] if loop.limits.validates else []
        lines.append(", ".join(parts))
    rule = loop.options.early_stopping
    if loop.limits.stops_early and rule is not None:
        lines[-1] += f", fewer if {rule.monitor} does not improve in {plural(max(1, rule.patience), 'validation')}"
    if run.run_dir is not None:
        cwd, path = Path.cwd(), run.run_dir
        lines.append(f"recorded in {path.relative_to(cwd) if path.is_relative_to(cwd) else path}")
    return lines


def _model(run: RunView) -> str:
    size = parameter_count(**model_size(run.model))
    optimizers = " and ".join(type(optimizer).__name__ for optimizer in run.optimizers)
    name = model_name(run.model).rpartition(".")[2]
    return f"{name}: {size}; {optimizers} on {run.device}, precision {run.spec.options.precision}"


def model_size(model: Any) -> dict[str, int]:
    """Return the number of parameters, and of those that require a gradient. Uninitialized (lazy) parameters do not count."""
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        try:
            sizes[bool(parameter.requires_grad)] += parameter.numel()
        except ValueError:  # gets its shape from the first batch
            continue
    return {"parameters": sum(sizes.values()), "trainable": sizes[True]}


def parameter_count(parameters: int, trainable: int) -> str:
    """Return how many parameters a model has, and how many of them are frozen if any are."""
    frozen = parameters - trainable
    return plural(parameters, "parameter") + (f", {frozen:,} of them frozen" if frozen else "")


def planned_work(limits: Limits) -> str:
    """Return what a run will do.

    >>> from fsmtrain.core.limits import resolve
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.options import Options
    >>> planned_work(resolve(Options(max_nb_epochs=20), Sizes(train=45, val=[12], test=[1])))
    'training: 20 epochs of 45 batches, validations of 12 batches, then a test of 1 batch'
    """
    parts = []
    if limits.epochs:
        epochs = plural(limits.epochs, "epoch") if limits.has_max_epochs else "epochs"
        steps = f", at most {plural(limits.max_steps, 'step')}" if limits.max_steps else ""
        parts.append(f"training: {epochs} of {_batches(limits.train_batches)}{steps}")
    if limits.validates:
        parts.append(f"validations of {_batches(limits.val_batches)}")
    if limits.tests:
        parts.append(f"{'then a test' if limits.fits else 'an evaluation'} of {_batches(limits.test_batches)}")
    return ", ".join(parts) or "no epoch to train"


def _batches(number: int) -> str:
    return plural(number, "batch") if number else "a stream"
