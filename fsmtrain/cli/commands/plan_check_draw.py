"""The commands ``plan``, ``check`` and ``draw``, from typed sizes or from the loaders of a model."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from attrs import evolve, field, frozen
from cyclopts import Parameter
from torch import nn

from fsmtrain.adapters.lightning.command_line import is_lightning_module, machine_of
from fsmtrain.cli.config_file import ConfigFile, ConfigOption, data_module_of, hparams_of
from fsmtrain.cli.flag_parameters import INPUT, Switch, parse_flags, with_flags
from fsmtrain.cli.import_target import build_target, import_guards
from fsmtrain.cli.parse_values import parse_sizes
from fsmtrain.core.checking.check import quick_findings
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.model_checkpoint import save_guard
from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import UsageError
from fsmtrain.loop import Loop
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.user_warnings import warn

Batches = Annotated[
    tuple[str, ...] | None,
    Parameter(converter=lambda _, texts: parse_sizes([t.value for t in texts]), n_tokens=1, metavar="INT|stream", negative=()),
]
Count = Annotated[int | None, Parameter(negative=())]


@frozen(kw_only=True)
class LoopArguments:
    """The arguments that make a loop, besides the flags of `Options`.

    Args:
        train: Batches of the train loader; stream for a loader without a length. If it is typed no loader is asked for, and
            what is not typed is none (default: those of the loaders of the model or the data module).
        val: Batches of the val loader. Several loaders: repeat the flag, or separate the numbers by commas.
        test: Batches of the test loader, or of several, as for --val.
        optimizers: Number of optimizers, which take turns on each batch (default: as many as the model has, or 1).
        splits: Splits of each batch under --truncated_bptt_steps (default: 1).
        guards: When to step, validate, save and stop: an object Guards(...), or a function that returns one.
        hparams: Hyperparameters to build MODULE:CLASS with, as in lr=0.1,hidden=32.
        data: The data module with the loaders: a class, or a function that returns one, as in data.py:Data.
        data_hparams: Hyperparameters to build the data module with.
    """

    train: Batches = None
    val: Batches = None
    test: Batches = None
    optimizers: Count = None
    splits: Count = None
    guards: Annotated[str | None, Parameter(metavar="MODULE:NAME")] = None
    hparams: Annotated[list[str], Parameter(metavar="NAME=VALUE", negative=(), show_default=False)] = field(factory=list)
    data: Annotated[str | None, Parameter(metavar="MODULE:CLASS")] = None
    data_hparams: Annotated[
        list[str], Parameter(name="--data_hparams", metavar="NAME=VALUE", negative=(), show_default=False)
    ] = field(factory=list)

    def loop(self, target: str | None, flags: Mapping[str, Any], config: ConfigFile | None) -> Loop:
        """Build the loop from these arguments, the flags, and the loaders of the model if there is one.

        Raises:
            FsmtrainError: The number of train batches is not known, or the arguments make no loop.
        """
        options, guards = Options(**flags), import_guards(self.guards or (config.guards if config else None))
        if self.train is not None and len(self.train) != 1:
            raise UsageError(f"--train: there is one train loader, but {len(self.train)} numbers were passed.")
        if config is not None and (rules := (config.checkpoint,) if config.checkpoint else config.checkpoints):
            guards = evolve(guards, save=save_guard([rule.guard(guards) for rule in rules]))
        if target is None:
            if self.train is None:
                raise UsageError(
                    "the number of train batches is missing. Pass sizes, as in --train 45 --val 12, or MODULE:CLASS, a model "
                    "with loaders."
                )
            for flag, typed in (("hparams", self.hparams), ("data", self.data), ("data_hparams", self.data_hparams)):
                if typed:
                    raise UsageError(f"--{flag}: there is no MODULE:CLASS to build with it. Pass one, or leave --{flag} out.")
            if config is not None and config.hparams:
                listed = ", ".join(config.hparams)
                warn(f"--config {config.path}: its hyperparameters {listed} are not used: there is no MODULE:CLASS to build.")
            return Loop(options, self._replace_typed(Sizes()), guards=guards, has_model=True)
        model = build_target(target, hparams_of(config, self.hparams))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = self._build(options, model, guards, config).loop
        findings = {f"{finding.about}: {finding.text}" for finding in quick_findings(loop.spec)}  # `check` reports these
        for warning in caught:
            if str(warning.message) not in findings:
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        if is_lightning_module(model):  # with its own counts of batches, and its guards
            return loop
        return Loop(options, self._replace_typed(loop.sizes), guards=guards, hook=loop.spec.hook, has_model=True)

    def _build(self, options: Options, model: nn.Module, guards: Guards, config: ConfigFile | None) -> Machine:
        """Build a run with stand-ins for the loaders whose sizes were typed. With ``--train`` typed no loader is asked for."""
        stand_ins = {kind: sizes if sizes is None else [*map(_stand_in, sizes)] for kind, sizes in self._typed_sizes.items()}
        if is_lightning_module(model):
            data = data_module_of(config, self.data, self.data_hparams) if self.train is None else None
            given = {kind: found or (None if self.train is None else ()) for kind, found in stand_ins.items()}
            loaders = Loaders(train=given["train"] and given["train"][0], val=given["val"], test=(), data_module=data)
            return machine_of(evolve(options, quiet=True, runs_dir=None), model, loaders, guards=guards)
        if self.train is None:
            data = data_module_of(config, self.data, self.data_hparams)
            return Machine(options, model, Loaders(**stand_ins, data_module=data), guards=guards)
        if self.val is None and callable(getattr(model, "validation_step", None)):
            warn("--train is typed, so no loader is asked for. There is no --val, so there is no validation.")
        return Machine(options, model, Loaders(**{kind: found or () for kind, found in stand_ins.items()}), guards=guards)

    @property
    def _typed_sizes(self) -> dict[str, Any]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def _replace_typed(self, sizes: Sizes) -> Sizes:
        """Return the sizes with those that were typed in their place."""
        values = {
            "train": self.train[0] if self.train is not None else None,
            **{name: getattr(self, name) for name in ("val", "test", "optimizers", "splits")},
        }
        return evolve(sizes, **{name: value for name, value in values.items() if getattr(self, name) is not None})


class _OfUnknownLength:
    """Stands for a loader whose batches nobody asks for."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@frozen
class _OfLength(_OfUnknownLength):
    batches: int

    def __len__(self) -> int:
        return self.batches


def _stand_in(size: int | None) -> Iterable[Any]:
    return _OfUnknownLength() if size is None else _OfLength(size)


Target = Annotated[str | None, Parameter(name="MODULE:CLASS", group=INPUT)]
Arguments = Annotated[LoopArguments, Parameter(name="*", group=INPUT)]


@with_flags
def plan(
    target: Target = None,
    /,
    *,
    arguments: Arguments = LoopArguments(),
    config: ConfigOption = None,
    against: Annotated[str | None, Parameter(group=INPUT, metavar="FLAGS", allow_leading_hyphen=True)] = None,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Print the exact schedule of a run: epochs, steps, validations, and where it may end early.

    Nothing is trained. Pass the sizes of the loaders, or MODULE:CLASS, whose loaders are built and measured; or both: a loader
    whose size is typed is not built, and with --train none is.

    For example:

        fsmtrain plan --train 45 --val 12 --max_nb_epochs 3

        fsmtrain plan train.py:Model --val_check_interval 0.25

        fsmtrain plan train.py:Model --against "--accumulate_grad_batches 4"

    Args:
        target: A model with loaders: train.py:Model, or package.models:Model.
        against: Print how the schedule would change with these flags, in quotes as in "--max_nb_epochs 5".
        json: Print JSON.
    """
    if against is not None and json:
        raise UsageError("--against and --json: differences can only be printed as text. Leave --json out.")
    loop = arguments.loop(target, flags, config)
    if against is None:
        print(loop.plan().to_json() if json else loop.plan())
        return 0
    try:
        words = shlex.split(against)
    except ValueError as error:
        raise UsageError(f"--against {against}: {error}.") from error
    other = Loop(Options(**{**flags, **parse_flags(words)}), loop.sizes, guards=loop.guards)
    print(loop.plan().diff(other.plan()) or "no difference")
    return 0


@with_flags
def check(
    target: Target = None,
    /,
    *,
    arguments: Arguments = LoopArguments(),
    config: ConfigOption = None,
    strict: Switch = False,
    json: Switch = False,
    flags: Mapping[str, Any],
) -> int:
    """Report mistakes in a run, and what is probably not intended, before it runs.

    Exits with 1 if there is an error, or with --strict a warning; else with 0.

    For example:

        fsmtrain check --train 45 --val 12 --max_nb_epochs 2 --early_stop_callback

        fsmtrain check train.py:Model --strict --quiet && fsmtrain fit train.py:Model

    Args:
        target: A model with loaders: train.py:Model, or package.models:Model.
        strict: Exit with 1 for warnings, too.
        json: Print JSON.
    """
    report = arguments.loop(target, flags, config).check()
    if not flags.get("quiet", False):
        print(report.to_json() if json else report)
    return int(bool(report.findings if strict else report.errors))


@with_flags
def draw(
    path: Annotated[Path, Parameter(group=INPUT, metavar="PATH")],
    target: Target = None,
    /,
    *,
    arguments: Arguments = LoopArguments(),
    config: ConfigOption = None,
    flags: Mapping[str, Any],
) -> int:
    """Draw the state diagram of a run to a file, with the run's own numbers on its edges.

    For example:

        fsmtrain draw loop.svg --train 45 --val 12 --accumulate_grad_batches 4

        fsmtrain draw loop.dot train.py:Model

    Args:
        path: The file to write. Its suffix is the format: .svg and .png (they need pip install 'fsmtrain[draw]'), .mmd for
            Mermaid, .dot for Graphviz.
        target: A model with loaders: train.py:Model, or package.models:Model.
    """
    loop = arguments.loop(target, flags, config)
    try:
        loop.draw(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}.") from error
    return 0
