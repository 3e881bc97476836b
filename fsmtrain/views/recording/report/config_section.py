"""What was run: model, options, data, versions, machine."""

from __future__ import annotations

import json
import shlex
from typing import Any

from fsmtrain.views.recording.report.html import Content, Markup, joined, tag
from fsmtrain.views.recording.report.read_run_folder import Recorded
from fsmtrain.wording import plural


def config_section(run: Recorded) -> Markup:
    """The section."""
    facts = run.run
    model, options = _dict(facts.get("model")), _dict(facts.get("options"))
    told: list[tuple[str, Content]] = [
        ("model", _model(model)),
        ("optimizers", ", ".join(map(str, facts.get("optimizers") or ()))),
        ("differs from the defaults", _chips(facts.get("summary") or ())),
        ("own guards", _guards(_dict(facts.get("guards")))),
        ("device", f"{facts.get('device', '?')}, precision {options.get('precision', '?')}"),
        ("seed", str(options["seed"]) if options.get("seed") is not None else "none"),
        ("command", _code(_command(facts.get("command")))),
        ("in the folder", _code(facts.get("folder"))),
        ("git commit", _code(facts.get("commit")) or "none"),
        ("versions", ", ".join(f"{name} {version}" for name, version in _dict(facts.get("versions")).items())),
        ("system", f"Python {facts.get('python', '?')} on {facts.get('platform', '?')}, host {facts.get('host', '?')}"),
        ("began", str(facts.get("started", "?"))),
        ("resumed", joined(tag("div", _resumed(one)) for one in map(_dict, _list(facts.get("resumed"))))),
    ]
    items = [tag("div", tag("dt", name), tag("dd", value)) for name, value in told if value]
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", tag("code", _json(value)))) for name, value in options.items())
    every = tag("details", tag("summary", "all options"), tag("div", tag("table", tag("tbody", joined(rows))), class_="wide"))
    return tag("section", tag("h2", "What was run"), tag("dl", joined(items), class_="given"), every)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _resumed(one: dict[str, Any]) -> str:
    """When, and from where.

    >>> _resumed({"resumed": "2026-01-02T03:04:05", "checkpoint": "checkpoints/000004", "epoch": 2, "batch": 39, "step": 140})
    '2026-01-02T03:04:05 from checkpoints/000004, epoch 2, batch 39, step 140'
    """
    places = (f"{name} {one[name]}" for name in ("epoch", "batch", "step") if name in one)
    return ", ".join([f"{one.get('resumed', '?')} from {one.get('checkpoint', '?')}", *places])


def _code(value: Any) -> Content:
    return tag("code", str(value)) if value else ""


def _model(model: dict[str, Any]) -> str:
    name, parameters = str(model.get("class", "?")), model.get("parameters")
    if not isinstance(parameters, int):
        return name
    frozen = parameters - model.get("trainable", parameters)
    return f"{name}, {plural(parameters, 'parameter')}" + (f", {frozen:,} of them frozen" if frozen else "")


def _chips(summary: Any) -> Markup:
    return joined((tag("code", str(part), class_="chip") for part in summary), " ")


def _guards(guards: dict[str, Any]) -> str:
    steps = (f"step of optimizer {index}: {name}" for index, name in _dict(guards.get("step")).items())
    return ", ".join([*steps, *(f"{which}: {name}" for which, name in guards.items() if which != "step")])


def _command(command: Any) -> str:
    return shlex.join(map(str, command)) if isinstance(command, list) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
