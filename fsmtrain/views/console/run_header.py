"""What a person is told when a run begins: the model, where it trains, what will be done, and where it is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.views.console.cheap_plan import cheap_plan
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.wording import plural


class Opened(Protocol):
    """What is read of a run that begins."""

    @property
    def spec(self) -> LoopSpec:
        """The loop that is run."""
        ...

    @property
    def model(self) -> Any:
        """The model that is trained."""
        ...

    @property
    def device(self) -> Any:
        """Where the run happens."""
        ...

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of their turns."""
        ...

    @property
    def run_dir(self) -> Path | None:
        """The folder in which the run is recorded."""
        ...


class RunHeader:
    """A callback that says in a few lines what begins, on standard error."""

    def on_run_start(self, machine: Opened) -> None:
        """Say it, of a run that trains."""
        if machine.spec.limits.epochs:
            print_stderr("\n".join(opening(machine)))


def opening(run: Opened) -> list[str]:
    """The lines."""
    loop = run.spec
    lines = [_model(run), planned_work(loop.limits)]
    plan = cheap_plan(loop)
    if plan is not None:
        several = loop.limits.optimizers > 1
        parts = [plural(n, "step") + (f" of optimizer {i}" if several else "") for i, n in enumerate(plan.optimizer_steps)]
        parts += [plural(plan.validations, "validation")] if loop.limits.validates else []
        lines.append(", ".join(parts))
    if loop.limits.stops_early and loop.options.early_stopping is not None:
        rule = loop.options.early_stopping
        lines[-1] += f", fewer if {rule.monitor} does not improve in {plural(max(1, rule.patience), 'validation')}"
    if run.run_dir is not None:
        here, at = Path.cwd(), run.run_dir
        lines.append(f"recorded in {at.relative_to(here) if at.is_relative_to(here) else at}")
    return lines


def _model(run: Opened) -> str:
    sizes = model_size(run.model)
    frozen = sizes["parameters"] - sizes["trainable"]
    size = plural(sizes["parameters"], "parameter") + (f", {frozen:,} of them frozen" if frozen else "")
    optimizers = " and ".join(type(optimizer).__name__ for optimizer in run.optimizers)
    return f"{type(run.model).__name__}: {size}; {optimizers} on {run.device}, precision {run.spec.options.precision}"


def model_size(model: Any) -> dict[str, int]:
    """How many parameters a model has, and how many of them require a gradient. Those without a size yet are none."""
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        try:
            sizes[bool(parameter.requires_grad)] += parameter.numel()
        except ValueError:  # one that gets its shape from the first batch
            continue
    return {"parameters": sum(sizes.values()), "trainable": sizes[True]}


def planned_work(limits: Limits) -> str:
    """What a run is going to do.

    >>> from fsmtrain.core.limits import resolve
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.options import Options
    >>> outlook(resolve(Options(max_nb_epochs=20), Sizes(train=45, val=[12], test=[1])))
    'training: 20 epochs of 45 batches, checks of 12 batches, then a test of 1 batch'
    """
    parts = []
    if limits.epochs:
        parts.append(f"training: {plural(limits.epochs, 'epoch')} of {_batches(limits.train_batches)}")
    if limits.validates:
        parts.append(f"checks of {_batches(limits.val_batches)}")
    if limits.tests:
        parts.append(f"{'then a test' if limits.fits else 'an evaluation'} of {_batches(limits.test_batches)}")
    return ", ".join(parts) or "no epoch to train"


def _batches(number: int) -> str:
    return plural(number, "batch") if number else "a stream"
