"""Section "Configuration": model, flags, guards, device, command, git commit, versions, host."""

from __future__ import annotations

import json
import shlex
from typing import Any

from fsmtrain.views.console.run_header import parameter_count
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.read_run_folder import RunRecord, as_dict
from fsmtrain.views.recording.report.elements.html import Content, Markup, join, table_element, tag


def config_section(run: RunRecord) -> Markup:
    """Return the section."""
    content, options = run.run, run.options
    items: list[tuple[str, Content]] = [
        ("model", _model(run)),
        ("hyperparameters", _hparams(as_dict(content.get("hparams")))),
        ("optimizers", ", ".join(map(str, content.get("optimizers") or ()))),
        ("not default", join((tag("code", str(flag), class_="chip") for flag in content.get("non_defaults") or ()), " ")),
        ("own guards", _guards(as_dict(content.get("guards")))),
        ("device", f"{content.get('device', '?')}, precision {options.get('precision', '?')}"),
        ("seed", str(options["seed"]) if options.get("seed") is not None else "none"),
        ("command", _code(shlex.join(map(str, _list(content.get("command")))))),
        ("working directory", _code(content.get("cwd"))),
        ("git commit", _code(content.get("git_commit")) or "none"),
        ("versions", ", ".join(f"{name} {version}" for name, version in as_dict(content.get("versions")).items())),
        ("system", f"Python {content.get('python', '?')} on {content.get('platform', '?')}, host {content.get('host', '?')}"),
        ("started", str(content.get("started", "?"))),
        ("resumed", join(tag("div", _resume(resume)) for resume in map(as_dict, _list(content.get("resumed"))))),
    ]
    definitions = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items if value]
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", tag("code", _json(value)))) for name, value in options.items()]
    all_flags = tag("details", tag("summary", "all flags"), table_element((), rows))
    return tag("section", tag("h2", "Configuration"), tag("dl", join(definitions), class_="config"), all_flags)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _resume(resume: Row) -> str:
    """Return when and from where the run was resumed.

    >>> _resume({"started": "2026-01-02T03:04:05", "checkpoint": "checkpoints/000004", "epoch": 2, "batch": 39, "step": 140})
    '2026-01-02T03:04:05 from checkpoints/000004, epoch 2, batch 39, step 140'
    """
    position = (f"{name} {resume[name]}" for name in ("epoch", "batch", "step") if name in resume)
    return ", ".join([f"{resume.get('started', '?')} from {resume.get('checkpoint', '?')}", *position])


def _code(value: Any) -> Content:
    return tag("code", str(value)) if value else ""


def _model(run: RunRecord) -> str:
    sizes = as_dict(run.run.get("model"))
    parameters = sizes.get("parameters")
    if not isinstance(parameters, int):
        return run.model_class
    return f"{run.model_class}, {parameter_count(parameters, sizes.get('trainable', parameters))}"


def _guards(guards: Row) -> str:
    steps = (f"step of optimizer {index}: {name}" for index, name in as_dict(guards.get("step")).items())
    return ", ".join([*steps, *(f"{decision}: {name}" for decision, name in guards.items() if decision != "step")])


def _hparams(hparams: Row) -> Markup:
    return join((tag("code", f"{name}={_json(value)}", class_="chip") for name, value in hparams.items()), " ")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
