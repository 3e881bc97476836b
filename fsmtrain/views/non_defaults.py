"""How a loop differs from one with default settings, in flags, sizes and guards: the title of diagrams and run folders."""

from __future__ import annotations

import inspect

import attrs

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.plurals import plural


def non_defaults(loop: LoopSpec) -> tuple[str, ...]:
    """Return the flags that differ from their defaults, then the sizes, then the guards that are replaced.

    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.options import Options
    >>> non_defaults(LoopSpec(Options(accumulate_grad_batches=4, val_check_interval=5), Sizes(train=45, val=[12])))
    ('accumulate_grad_batches=4', 'val_check_interval=5', '45 train batches', '12 val batches')
    """
    return (*_changed_arguments(loop.options), *_sizes(loop), *_own_guards(loop))


def _sizes(loop: LoopSpec) -> list[str]:
    limits = loop.limits
    passes = (
        ("train", limits.epochs > 0, limits.train_batches),
        ("val", limits.val_loaders != (), limits.val_batches),
        ("test", limits.tests, limits.test_batches),
    )
    sizes = [plural(n, f"{name} batch") if n else f"a {name} stream" for name, is_run, n in passes if is_run]
    several = [f"{limits.optimizers} optimizers"] if limits.optimizers > 1 else []
    manual = ["automatic_optimization=False"] if limits.manual_optimization else []
    return [*sizes, *several, *manual]


def _own_guards(loop: LoopSpec) -> list[str]:
    guards = loop.guards
    own = [f"step[{index}]" for index in sorted(guards.step)]
    own += [name for name in ("validate", "save", "stop") if getattr(guards, name) is not None]
    return [f"own guards: {', '.join(own)}"] if own else []


def _changed_arguments(value: object) -> list[str]:
    """Return the arguments of a value that are not their defaults, as one would write them in a call."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(value)).parameters.items()}
    arguments = {name: getattr(value, name) for name in defaults}
    return [f"{name}={_written(arguments[name])}" for name in defaults if arguments[name] != defaults[name]]


def _written(value: object) -> str:
    if attrs.has(type(value)):
        return f"{type(value).__name__}({', '.join(_changed_arguments(value))})"
    return repr(value)
