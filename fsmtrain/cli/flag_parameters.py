"""The flags of `Options` as cyclopts parameters of a command.

Names, types, defaults, groups and help texts come from its fields. A flag that is added to `Options` is on the command line by
that alone. A command's own parameter with parts, such as ``--checkpoint`` and ``--checkpoint.every_n_steps``, comes from its
class, `ModelCheckpoint`, in the same way.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import attrs
from cyclopts import App, Group, Parameter
from docstring_parser import parse

from fsmtrain.cli.config_file import CHECKPOINT, PYTHON_ONLY, ConfigFile, flag_value
from fsmtrain.cli.parse_values import allows_mapping, is_path, union_members, value_parser
from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.errors import UsageError
from fsmtrain.flags.metadata import HelpGroup, flag_info
from fsmtrain.flags.unknown_flags import no_such_flag
from fsmtrain.options import Options

R = TypeVar("R")

INPUT, SAVING = Group("Input and output", sort_key=0), Group("Saving and resuming", sort_key=1)
_GROUPS = {group: Group(group.value, sort_key=2 + place) for place, group in enumerate(HelpGroup)}

Switch = Annotated[bool, Parameter(group=INPUT, negative=(), show_default=False)]

PART_SEPARATOR = "__"  # in the name of a Python parameter, in place of the dot in --early_stop_callback.patience


def with_flags(command: Callable[..., R], *, only: str | None = None) -> Callable[..., R]:
    """Decorate a command: replace its parameter `flags` by a parameter for each flag of `Options`.

    As `flags` the command gets those that were typed, and no others, by their names in `Options`. Other parameters of the
    command whose class has fields, such as a `ModelCheckpoint`, get a parameter for each field, too.

    Args:
        command: The command.
        only: If it only tests or predicts: its help then lists the flags that change that; it accepts the others all the same.
    """
    signature = inspect.signature(command)
    hints = typing.get_type_hints(command, include_extras=True)
    types = typing.get_type_hints(command)
    with_parts = [name for name, hint in types.items() if bool in union_members(hint) and _part_classes(hint)]
    texts = _argument_texts(command)
    parts = (
        _parameters_for(name, types[name], signature.parameters[name].default, texts.get(name, ""), SAVING)
        for name in with_parts
    )
    added = [*itertools.chain(*parts), *_parameters_of(Options, only=only)]

    @functools.wraps(command)
    def run(*args: Any, **arguments: Any) -> R:
        typed = {parameter.name: arguments.pop(parameter.name) for parameter in added if parameter.name in arguments}
        all_hints = {**typing.get_type_hints(Options), CHECKPOINT: ModelCheckpoint | bool | None, **types}
        config: ConfigFile | None = arguments.get("config")
        flags = _join_parts(_below(_flags_of(config, all_hints), typed) if config else typed, all_hints)
        if config and CHECKPOINT not in with_parts:
            rule = flags.pop(CHECKPOINT, None)
            arguments["config"] = attrs.evolve(config, checkpoint=ModelCheckpoint() if rule is True else rule or None)
        return command(*args, flags=flags, **{name: flags.pop(name) for name in with_parts if name in flags}, **arguments)

    own = [p.replace(annotation=hints[name]) for name, p in signature.parameters.items() if name not in ("flags", *with_parts)]
    vars(run)["__signature__"] = signature.replace(parameters=[*own, *added])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return run


def parse_flags(tokens: Sequence[str]) -> Mapping[str, Any]:
    """Parse flags without a command; returns those that were typed, by their names in `Options`."""

    @with_flags
    def command(*, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        return flags

    app = App(name="--against", default_command=command, help_flags=(), version_flags=(), result_action="return_value")
    flags: Mapping[str, Any] = app(list(tokens), exit_on_error=False, print_error=False)
    return flags


def _parameters_of(
    cls: type[Any], prefix: str = "", group: Group | None = None, *, listed: bool = True, only: str | None = None
) -> Iterator[inspect.Parameter]:
    """Yield the parameters for the fields of an attrs class, in `group` or in the group of each flag."""
    hints, texts = typing.get_type_hints(cls), _argument_texts(cls)
    for field in attrs.fields(cls):
        if field.name not in PYTHON_ONLY:
            place = group or _GROUPS[flag_info(field).group]
            shown = listed and (only is None or only in flag_info(field).acts_in)
            text = texts.get(field.name, "")
            yield from _parameters_for(prefix + field.name, hints[field.name], field.default, text, place, listed=shown)


def _parameters_for(
    name: str, hint: Any, default: object, text: str, group: Group, *, listed: bool = True
) -> Iterator[inspect.Parameter]:
    """Yield a flag's parameter, and those of its parts."""
    kind: Any = bool if bool in union_members(hint) else str
    parameter = _cyclopts_parameter(hint, name, default, text, group)
    annotation = Annotated[kind, parameter if listed else attrs.evolve(parameter, show=False)]
    yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for part in _part_classes(hint):
        yield from _parameters_of(part, f"{name}{PART_SEPARATOR}", group, listed=listed)


def _part_classes(hint: Any) -> list[Any]:
    """Return the attrs classes that a type hint allows: each of their fields is a part of the flag."""
    return list(filter(attrs.has, union_members(hint)))


def _argument_texts(documented: Any) -> dict[str, str]:
    """Return what a docstring says about each argument; nothing under ``python -OO``, which has no docstrings."""
    return {param.arg_name: param.description or "" for param in parse(documented.__doc__ or "").params}


def _cyclopts_parameter(hint: Any, name: str, default: object, text: str, group: Group) -> Parameter:
    """Return how a flag is spelled, parsed and explained."""
    option = name.replace(PART_SEPARATOR, ".")  # cyclopts accepts dashes for underscores by itself
    if bool in union_members(hint):
        text += f" Any flag --{option}.* switches it on, too." * bool(_part_classes(hint))
        off = f"--no-{option}" if default is True else ()
        return Parameter(name=f"--{option}", negative=off, group=group, help=text, show_default=_format_switch)
    if allows_mapping(hint):
        text += " On the command line: 4, or 0:1,4:2."
    parse_value = value_parser(hint)
    return Parameter(
        name=f"--{option}",
        group=group,
        help=text,
        converter=lambda _, tokens: parse_value(tokens[0].value),
        n_tokens=1,
        negative=(),
        metavar=_metavar(hint),
        show_default=lambda value: "none" if value is None else str(value),
        allow_leading_hyphen=True,
    )


def _metavar(hint: Any) -> str:
    """Return the placeholder of a value, without ``none``, which the help text explains."""
    members = [member for member in union_members(hint) if member is not NoneType]
    if any(map(is_path, members)):
        return "PATH"
    names = {int: "INT", float: "NUMBER", str: "TEXT"}
    shown = (get_args(m) if get_origin(m) is Literal else (names.get(m, "EPOCH:INT,..."),) for m in members)
    return "|".join(map(str, itertools.chain.from_iterable(shown)))


def _format_switch(default: object) -> str:
    return "on" if default else "off"


def _flags_of(config: ConfigFile, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of a file as if they had been typed: each part of a flag by itself."""
    flags: dict[str, Any] = {}
    for name, value in config.flags.items():
        parts = _part_classes(hints[name])
        if parts and isinstance(value, Mapping):
            part_hints = {field.name: typing.get_type_hints(parts[0])[field.name] for field in attrs.fields(parts[0])}
            flags |= {} if value else {name: True}
            for part, item in value.items():
                if part not in part_hints:
                    message = no_such_flag(f"{part}", item, set(part_hints))
                    raise UsageError(f"--config {config.path}: {name}: {message}")
                flags[f"{name}{PART_SEPARATOR}{part}"] = flag_value(part_hints[part], item)
        else:
            flags[name] = flag_value(hints[name], value)
    return flags


def _below(flags: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of a file with those that were typed in their place, also where one is switched off."""
    below = dict(flags)
    for name, value in typed.items():
        whole = name.split(PART_SEPARATOR)[0]
        if name != whole:
            below.pop(whole, None)
        elif not value:
            below = {other: item for other, item in below.items() if not other.startswith(whole + PART_SEPARATOR)}
    return {**below, **typed}


def _join_parts(typed: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags by name, with the parts of a flag, ``--flag.part``, joined to one object."""
    flags = {name: value for name, value in typed.items() if PART_SEPARATOR not in name}
    for whole in dict.fromkeys(name.split(PART_SEPARATOR)[0] for name in typed if PART_SEPARATOR in name):
        prefix = whole + PART_SEPARATOR
        parts = {name.removeprefix(prefix): value for name, value in typed.items() if name.startswith(prefix)}
        if not flags.get(whole, True):
            others = ", ".join(f"--{whole}.{part}" for part in parts)
            raise UsageError(f"--{whole}={flags[whole]} contradicts {others}. Leave one of them out.")
        (cls,) = _part_classes(hints[whole])
        flags[whole] = cls(**parts)
    return flags
