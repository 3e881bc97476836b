"""``plan``, ``check`` and ``draw``: what a run will do, from sizes that are typed or from the user's own module."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from attrs import evolve, field, frozen
from cyclopts import Parameter

from fsmtrain.cli.import_target import guards_of, model_of
from fsmtrain.cli.option_flags import INPUT, flags_in, with_flags
from fsmtrain.cli.typed_values import hparams_of, sizes_of
from fsmtrain.core.checking.check import quick_findings
from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import UsageError
from fsmtrain.loop import Loop
from fsmtrain.machine import build
from fsmtrain.options import Options

Batches = Annotated[
    tuple[str, ...] | None,
    Parameter(converter=lambda _, tokens: sizes_of([token.value for token in tokens]), n_tokens=1, metavar="INT", negative=()),
]
Count = Annotated[int | None, Parameter(negative=())]


@frozen(kw_only=True)
class Run:
    """What is planned.

    Args:
        train: Batches of the train loader, or stream for a loader without a length. It stands in for the module's own, where
            there is one.
        val: Batches of a val loader; once for each, or all with commas between them.
        test: The same for the test loaders.
        optimizers: Optimizers that take turns at each batch (default: the module's, or 1).
        splits: Splits of each batch under truncated_bptt_steps (default: 1).
        guards: MODULE:NAME of a Guards(...), or of a function that returns one.
        hparams: What MODULE:CLASS is made with, as in lr=0.1,hidden=32.
    """

    train: Batches = None
    val: Batches = None
    test: Batches = None
    optimizers: Count = None
    splits: Count = None
    guards: Annotated[str | None, Parameter(metavar="MODULE:NAME")] = None
    hparams: Annotated[list[str], Parameter(metavar="NAME=VALUE", negative=(), show_default=False)] = field(factory=list)

    def loop(self, target: str | None, flags: Mapping[str, Any]) -> Loop:
        """The loop that these, and the module's own loaders, make with the flags.

        Raises:
            FsmtrainError: Nothing says how many batches there are, or no loop can be made so.
        """
        options, guards = Options(**flags), guards_of(self.guards)
        if target is None:
            if self.train is None:
                raise UsageError(
                    "how many batches are there? Type them, as in --train 45 --val 12, or MODULE:CLASS, whose loaders say it."
                )
            if self.hparams:
                raise UsageError("--hparams are what MODULE:CLASS is made with, and there is none.")
            return Loop(options, self._over(Sizes()), guards=guards)
        model = model_of(target, hparams_of(self.hparams) if self.hparams else None)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loop = build(options, model, guards=guards).loop
        findings = {f"{finding.about}: {finding.text}" for finding in quick_findings(loop.spec)}  # `check` tells these
        for warning in said:
            if str(warning.message) not in findings:
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        return Loop(options, self._over(loop.sizes), guards=guards, hook=loop.spec.hook)

    def _over(self, sizes: Sizes) -> Sizes:
        """Sizes with those that were typed in their place."""
        if self.train is not None and len(self.train) != 1:
            raise UsageError(f"--train: there is one train loader, and {len(self.train)} numbers were typed.")
        typed = {
            "train": self.train[0] if self.train is not None else None,
            **{name: getattr(self, name) for name in ("val", "test", "optimizers", "splits")},
        }
        given = {name: value for name, value in typed.items() if getattr(self, name) is not None}
        return evolve(sizes, **given)


Target = Annotated[str | None, Parameter(name="MODULE:CLASS", group=INPUT)]
What = Annotated[Run, Parameter(name="*", group=INPUT)]
Json = Annotated[bool, Parameter(group=INPUT, negative=(), show_default=False)]


@with_flags
def plan(
    target: Target = None,
    /,
    *,
    run: What = Run(),
    against: Annotated[str | None, Parameter(group=INPUT, metavar="FLAGS", allow_leading_hyphen=True)] = None,
    json: Json = False,
    flags: Mapping[str, Any],
) -> int:
    """Print the exact schedule of a run: epochs, windows, steps, checks, and where it may end.

    Nothing is trained. Sizes are typed, or MODULE:CLASS is made and its loaders are asked.

    For example:

        fsmtrain plan --train 45 --val 12 --max_nb_epochs 3 --accumulate_grad_batches 4

        fsmtrain plan train.py:Model --val_check_interval 0.25

        fsmtrain plan train.py:Model --against "--accumulate_grad_batches 4"

    Args:
        target: A module that has loaders: train.py:Model, or package.models:Model.
        against: Print what other flags would change, a line for each difference, as in "--max_nb_epochs 5".
        json: Print JSON.
    """
    if against is not None and json:
        raise UsageError("--against and --json: a difference is told in text alone. For a program plan twice.")
    loop = run.loop(target, flags)
    if against is None:
        print(loop.plan().to_json() if json else loop.plan())
        return 0
    try:
        words = shlex.split(against)
    except ValueError as error:
        raise UsageError(f"--against {against}: {error}.") from error
    other = Loop(Options(**{**flags, **flags_in(words)}), loop.sizes, guards=loop.guards)
    print(loop.plan().diff(other.plan()) or "no difference")
    return 0


@with_flags
def check(
    target: Target = None,
    /,
    *,
    run: What = Run(),
    strict: Annotated[bool, Parameter(group=INPUT, negative=(), show_default=False)] = False,
    json: Json = False,
    flags: Mapping[str, Any],
) -> int:
    """Say what is wrong with a run, or probably not meant, before it runs.

    Exits with 1 where an error was found, or with --strict a warning; else with 0.

    For example:

        fsmtrain check --train 45 --val 12 --max_nb_epochs 2 --early_stop_callback

        fsmtrain check train.py:Model --strict --quiet && fsmtrain fit train.py:Model

    Args:
        target: A module that has loaders: train.py:Model, or package.models:Model.
        strict: Count warnings as errors in the exit code.
        json: Print JSON.
    """
    report = run.loop(target, flags).check()
    if not flags.get("quiet", False):  # else the exit code says it
        print(report.to_json() if json else report)
    return int(bool(report.findings if strict else report.errors))


@with_flags
def draw(
    path: Annotated[Path, Parameter(group=INPUT, metavar="PATH")],
    target: Target = None,
    /,
    *,
    run: What = Run(),
    flags: Mapping[str, Any],
) -> int:
    """Draw the state diagram of a run into a file, with its numbers on the edges.

    For example:

        fsmtrain draw loop.svg --train 45 --val 12 --accumulate_grad_batches 4

        fsmtrain draw loop.dot train.py:Model

    Args:
        path: The file. Its suffix says what is drawn: .svg and .png (the extra `draw`), .mmd for Mermaid, .dot for Graphviz.
        target: A module that has loaders: train.py:Model, or package.models:Model.
    """
    loop = run.loop(target, flags)
    try:
        loop.draw(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error
    return 0
