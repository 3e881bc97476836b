"""The flags of `Options` as parameters of a command: names, types, defaults and help come from there, and from nowhere else.

A flag that is added to `Options` is on the command line by that alone. A command's own parameter with parts, such as
``--checkpoint`` and ``--checkpoint.every_n_steps``, comes from its class, `ModelCheckpoint`, in the same way.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import attrs
from cyclopts import App, Group, Parameter
from docstring_parser import parse

from fsmtrain.cli.typed_values import is_path, members, reader_of, takes_mapping
from fsmtrain.errors import UsageError
from fsmtrain.flags.metadata import HelpGroup, flag_info
from fsmtrain.options import Options

R = TypeVar("R")

INPUT, SAVING = Group("Input and output", sort_key=0), Group("Saving and resuming", sort_key=1)
GROUPS = {group: Group(group.value, sort_key=2 + place) for place, group in enumerate(HelpGroup)}

UNTYPED = frozenset({"logger"})  # objects, which only Python can make

APART = "__"  # in a parameter's name, what stands for the dot in --early_stop_callback.patience


def as_documented(name: str) -> str:
    """A parameter's name on the command line. Dashes in place of underscores are understood as well."""
    return name.replace(APART, ".")


def with_flags(command: Callable[..., R]) -> Callable[..., R]:
    """The command with every flag of `Options` as a parameter, in place of its own parameter `flags`.

    The command gets in `flags` those that were typed, by their names in `Options`, and no others. A parameter of its own that
    may hold a value of a class with parts has these parts as parameters, too.
    """
    own = inspect.signature(command)
    hints = typing.get_type_hints(command, include_extras=True)
    plain = typing.get_type_hints(command)
    whole = [name for name in own.parameters if name != "flags" and bool in members(plain[name]) and _parts(plain[name])]
    texts = _texts(command)
    switches = [
        one for name in whole for one in _flag(name, plain[name], own.parameters[name].default, texts[name], group=SAVING)
    ]
    offered = [*switches, *_parameters(Options)]

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> R:
        typed = {parameter.name: given.pop(parameter.name) for parameter in offered if parameter.name in given}
        flags = _assembled(typed, {**typing.get_type_hints(Options), **plain})
        return command(*args, flags=flags, **{name: flags.pop(name) for name in whole if name in flags}, **given)

    kept = [p.replace(annotation=hints[name]) for name, p in own.parameters.items() if name not in ("flags", *whole)]
    vars(run)["__signature__"] = own.replace(parameters=[*kept, *offered])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *offered)}
    return run


def flags_in(tokens: Sequence[str]) -> Mapping[str, Any]:
    """The flags alone, as they would stand behind a command."""

    @with_flags
    def command(*, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        return flags

    app = App(name="--against", default_command=command, help_flags=(), version_flags=(), result_action="return_value")
    found: Mapping[str, Any] = app(list(tokens), exit_on_error=False, print_error=False)
    return found


def _parameters(cls: type[Any], prefix: str = "", group: Group | None = None) -> Iterator[inspect.Parameter]:
    """A parameter for each field of an attrs class; for a field that may hold another such class, that one's besides."""
    hints, texts = typing.get_type_hints(cls), _texts(cls)
    for field in attrs.fields(cls):
        if field.name not in UNTYPED:
            place = group or GROUPS[flag_info(field).group]
            yield from _flag(prefix + field.name, hints[field.name], field.default, texts[field.name], place)


def _flag(name: str, hint: Any, default: object, text: str, group: Group) -> Iterator[inspect.Parameter]:
    """A parameter, and those of its parts."""
    yield inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[_kind(hint), _how(hint, name, default, text, group)],
    )
    for part in _parts(hint):
        yield from _parameters(part, f"{name}{APART}", group)


def _parts(hint: Any) -> list[Any]:
    """The classes with parts that a type hint allows."""
    return list(filter(attrs.has, members(hint)))


def _texts(documented: Any) -> dict[str, str]:
    """What a docstring says of each argument."""
    return {param.arg_name: param.description or "" for param in parse(documented.__doc__ or "").params}


def _kind(hint: Any) -> Any:
    return bool if bool in members(hint) else str


def _how(hint: Any, name: str, default: object, text: str, group: Group) -> Parameter:
    """How one flag is typed, and shown."""
    shown = as_documented(name)
    if bool in members(hint):
        text += " Each of its parts, below, switches it on as well." * bool(_parts(hint))
        off = f"--no-{shown}" if default is True else ()
        return Parameter(name=f"--{shown}", negative=off, group=group, help=text, show_default=_plainly)
    if takes_mapping(hint):
        text += " Typed as 4, or as 0:1,4:2."
    read = reader_of(hint)
    return Parameter(
        name=f"--{shown}",
        group=group,
        help=text,
        converter=lambda _, tokens: read(tokens[0].value),
        n_tokens=1,
        negative=(),
        metavar=_metavar(hint),
        show_default=_plainly,
        allow_leading_hyphen=True,
    )


def _metavar(hint: Any) -> str:
    """What stands for the value; ``none`` is one where a flag has it, and needs no word of its own."""
    names = {int: "INT", float: "NUMBER", str: "TEXT"}
    shown: list[str] = []
    for member in members(hint):
        if member is NoneType:
            continue
        if get_origin(member) is Literal:
            shown += map(str, get_args(member))
        elif is_path(member):
            shown = ["PATH"]
        else:
            shown.append(names.get(member, "EPOCH:INT,..."))
    return "|".join(shown)


def _plainly(default: object) -> str:
    if default is None or isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def _assembled(typed: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The flags by their names, with the parts of one, ``--flag.part``, put together."""
    flags = {name: value for name, value in typed.items() if APART not in name}
    for whole in dict.fromkeys(name.split(APART)[0] for name in typed if APART in name):
        parts = {name.split(APART)[1]: value for name, value in typed.items() if name.startswith(whole + APART)}
        if not flags.get(whole, True):
            others = ", ".join(f"--{whole}.{part}" for part in parts)
            raise UsageError(f"--{whole}={flags[whole]} together with {others}: leave one out.")
        (cls,) = _parts(hints[whole])
        flags[whole] = cls(**parts)
    return flags
