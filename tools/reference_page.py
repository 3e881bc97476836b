"""Renew the tables of docs/reference.md from the code: flags, steps, guards, counters, signals, limits, states, stop reasons.

    python -m tools.reference_page

What a table says is written once, in the docstring or the comment beside the code. The text between tables is the page's own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from attrs import NOTHING, Attribute, fields
from docstring_parser import parse

import fsmtrain
from fsmtrain import Guards, Options, State, Trainer, TrainingModule
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.flags.metadata import HelpGroup, OnResume, flag_info
from fsmtrain.machine import Machine

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"

_ON_RESUME = {
    OnResume.REFUSE: "an error",
    OnResume.WARN: "a warning",
    OnResume.IGNORE: "nothing",
    OnResume.DISPLAY_ONLY: "nothing",
}


def render(page: str) -> str:
    """Return the page with its tables renewed.

    >>> render("<!-- stop reasons -->\\n<!-- end -->").count("MAX_STEPS")
    1
    """

    def renewed(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- ((?!end)[\w ]+) -->\n.*?<!-- end -->", renewed, page, flags=re.DOTALL)


# ---- the tables


def _flags() -> str:
    texts = _arguments(Options)
    parts = []
    for group in HelpGroup:
        members = [field for field in fields(Options) if flag_info(field).group is group]
        rows = [(f"`{f.name}`", f"`{_default(f)}`", texts[f.name], _ON_RESUME[flag_info(f).on_resume]) for f in members]
        parts.append(f"**{group.value}**\n\n{_table(('flag', 'default', 'meaning', 'another value on resume'), rows)}")
    return "\n\n".join(parts)


def _trainer_arguments() -> str:
    texts = _arguments(Trainer)
    own = [f for f in fields(Trainer) if f.init and f.name not in {flag.name for flag in fields(Options)}]
    return _table(("argument", "meaning"), [(f"`{f.name}`", texts[f.name]) for f in own])


def _steps() -> str:
    section = inspect.cleandoc(TrainingModule.__doc__ or "").partition("Methods:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+)\((.*?)\): (.*(?:\n        .*)*)", section, re.MULTILINE)
    rows = [(f"`{name}`", _quoted(gets), " ".join(text.split())) for name, gets, text in entries]
    return _table(("method", "gets", "returns"), rows)


def _guards() -> str:
    texts = _arguments(Guards)
    return _table(("decision", "meaning"), [(f"`{f.name}`", texts[f.name]) for f in fields(Guards)])


def _ready_made_guards() -> str:
    public = [getattr(fsmtrain, name) for name in fsmtrain.__all__]
    made = [f for f in public if inspect.isfunction(f) and inspect.unwrap(f).__module__ == "fsmtrain.core.interval_guards"]
    rows = [(f"`{f.__name__}({', '.join(inspect.signature(f).parameters)})`", _first_line(f)) for f in made]
    return _table(("guard", "what it does"), rows)


def _counters() -> str:
    return _table(("counter", "meaning"), [(f"`{name}`", text) for name, text in _commented(Counters)])


def _signals() -> str:
    return _table(("signal", "meaning"), [(f"`{name}`", text) for name, text in _commented(Signals)])


def _limits() -> str:
    return _table(("limit", "meaning"), [(f"`{name}`", text) for name, text in _commented(Limits)])


def _states() -> str:
    texts = dict(_commented(State))
    return _table(("state", "one visit is"), [(f"`{state}`", texts[state.name]) for state in State])


def _stop_reasons() -> str:
    return _table(("`result.stop_reason`", "it reads"), [(f"`StopReason.{reason.name}`", str(reason)) for reason in StopReason])


def _methods_of(cls: type[Any]) -> str:
    own = {name: value for name, value in vars(cls).items() if not name.startswith("_") and getattr(value, "__doc__", None)}
    own = {name: value for name, value in own.items() if not _first_line(value).startswith("Raise")}  # other trainers' names
    rows = []
    for name, value in own.items():
        if inspect.isfunction(value):
            rows.append((f"`{name}({', '.join([*inspect.signature(value).parameters][1:])})`", _first_line(value)))
        elif isinstance(value, property) or hasattr(value, "func"):
            rows.append((f"`{name}`", _first_line(value)))
    return _table(("of the " + cls.__name__.lower(), "what it is or does"), sorted(rows, key=lambda row: "(" in row[0]))


TABLES: Mapping[str, Callable[[], str]] = {
    "steps": _steps,
    "flags": _flags,
    "trainer arguments": _trainer_arguments,
    "guards": _guards,
    "ready made guards": _ready_made_guards,
    "counters": _counters,
    "signals": _signals,
    "limits": _limits,
    "states": _states,
    "stop reasons": _stop_reasons,
    "trainer": lambda: _methods_of(Trainer),
    "machine": lambda: _methods_of(Machine),
}


# ---- reading the code


def _arguments(documented: Any) -> dict[str, str]:
    """Return what a docstring says about each argument, on one line."""
    return {param.arg_name: " ".join((param.description or "").split()) for param in parse(documented.__doc__ or "").params}


def _first_line(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _default(field: Attribute[Any]) -> str:
    return repr(field.default) if field.default is not NOTHING else "required"


def _commented(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield each field or member of a class with the comment beside it, or above it."""
    names = [member.name for member in cls] if issubclass(cls, Enum) else [field.name for field in fields(cls)]
    above: list[str] = []
    is_comment = False
    for line in inspect.getsource(cls).splitlines():
        was_comment, is_comment = is_comment, line.startswith("    # ")
        if is_comment:
            above = [*above, line[6:]] if was_comment else [line[6:]]
        elif not line.strip():
            above = []
        elif (member := re.match(r"    (\w+)\b", line)) is not None and member[1] in names:
            yield member[1], line.partition("  # ")[2] or " ".join(above)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_as_markdown(cell) for cell in line) + " |" for line in lines)


def _as_markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _quoted(names: str) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names.split(",") if name.strip())


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
