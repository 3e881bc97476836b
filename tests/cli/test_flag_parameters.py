"""Every flag of `Options` is on the command line, under its documented name, and means there what it means in Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from cyclopts import App
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import EarlyStopping, ModelCheckpoint, Options
from fsmtrain.cli import flag_parameters
from fsmtrain.cli.app import app
from fsmtrain.cli.config_file import PYTHON_ONLY
from fsmtrain.cli.flag_parameters import PART_SEPARATOR, parse_flags, with_flags
from fsmtrain.flags.metadata import HelpGroup, OnResume, flag, flag_info
from fsmtrain.flags.unknown_flags import OTHER_NAMES
from tests.cli.conftest import Run
from tests.strategies import compatible
from tests.test_options import FLAGS, LEGAL

COMMANDS = ("plan", "check", "draw", "fit", "test")

# None is no value of a switch: it is what the default is.
TYPED = {
    name: [v for v in values if v is not None or name != "early_stop_callback"]
    for name, values in LEGAL.items()
    if name not in PYTHON_ONLY
}


def spelled(name: str, value: Any) -> list[str]:
    """A flag as a person types it."""
    if isinstance(value, EarlyStopping):
        parts = attrs.asdict(value).items()
        return [word for part, it in parts for word in spelled(f"{name}.{part}", it)]
    if isinstance(value, bool):
        return [f"--{name}={str(value).lower()}"]
    if isinstance(value, Mapping):
        return [f"--{name}", ",".join(f"{key}:{item}" for key, item in value.items()) or "{}"]
    return [f"--{name}", "none" if value is None else str(value)]


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in TYPED.items()}))
def test_flags_that_are_typed_are_the_flags_that_are_meant(flags: dict[str, Any]) -> None:
    flags = compatible(flags)
    typed = parse_flags([word for name, value in flags.items() for word in spelled(name, value)])
    assert set(typed) == set(flags)
    assert repr(Options(**typed)) == repr(Options(**flags))  # 1 is not 1.0 here


@given(st.builds(EarlyStopping, monitor=st.sampled_from(["3", "true", "a b"]), mode=st.sampled_from(["min", "max"])))
def test_the_name_of_a_metric_stays_a_string_also_if_it_looks_like_a_number(rule: EarlyStopping) -> None:
    words = ["--early_stop_callback.monitor", rule.monitor, "--early_stop_callback.mode", rule.mode]
    assert parse_flags(words)["early_stop_callback"] == rule


IDLE = {kind: {f.name for f in attrs.fields(Options) if kind not in flag_info(f).acts_in} for kind in ("test", "predict")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_its_documented_name_and_default_in_every_command(command: str) -> None:
    function = app[command].default_command
    assert function is not None
    offered = inspect.signature(function).parameters
    for field in attrs.fields(Options):
        if field.name in PYTHON_ONLY:
            continue
        assert offered[field.name].default == field.default
        assert any(f"--{field.name}" in argument.names for argument in app[command].assemble_argument_collection())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_explains_every_flag(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(f"{command} --help")
    assert shown.code == 0
    for name in set(FLAGS) - PYTHON_ONLY - IDLE.get(command, set()):
        assert re.search(rf"--{name}\b.* \w+ \w+", shown.out), name
    assert "--config." not in shown.out, "a file's fields are no flags"


@pytest.mark.parametrize(("command", "own"), [("test", "test_percent_check"), ("predict", "limit_predict_batches")])
def test_the_help_of_test_and_predict_lists_only_flags_that_change_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, own: str
) -> None:
    """The others are accepted, so that the flags of a fit can be typed again."""
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(f"{command} --help").out
    assert not [name for name in IDLE[command] if re.search(rf"--{name}\b", shown)]
    assert f"--{own}" in shown
    typed = ["m.py:M", "--weights", "w", "--out", "o", "--max_nb_epochs", "3"]
    tokens = [word for word in typed if command == "predict" or word not in ("--out", "o")]
    assert app[command].parse_args(tokens, exit_on_error=False)[1].kwargs["max_nb_epochs"] == 3


def test_a_flag_that_is_added_to_options_is_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.frozen(kw_only=True)
    class More(Options):
        """More flags.

        Args:
            extra: What is more.
        """

        extra: int | None = attrs.field(default=None, metadata=flag(HelpGroup.DATA, OnResume.IGNORE))

    docs = f"{Options.__doc__}".replace("    Raises:", "        extra: What is more.\n\n    Raises:")
    monkeypatch.setattr(More, "__doc__", docs)
    monkeypatch.setattr(flag_parameters, "Options", More)

    @with_flags
    def command(*, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        return flags

    assert "extra" in inspect.signature(command).parameters
    assert parse_flags(["--extra", "3"]) == {"extra": 3}


def test_a_switch_of_a_command_s_own_has_the_parts_of_its_class() -> None:
    @with_flags
    def command(*, flags: Mapping[str, Any], checkpoint: ModelCheckpoint | bool | None = None) -> Any:
        """Something.

        Args:
            checkpoint: Whether to save.
        """
        return flags, checkpoint

    offered = inspect.signature(command).parameters
    for field in attrs.fields(ModelCheckpoint):
        assert offered[f"checkpoint{PART_SEPARATOR}{field.name}"].default == field.default
    one = App(default_command=command, result_action="return_value")
    assert one([]) == ({}, None)
    assert one(["--checkpoint", "--max_nb_epochs", "3"]) == ({"max_nb_epochs": 3}, True)
    typed = "--checkpoint.every_n_steps 5 --checkpoint.dirpath 7 --checkpoint.monitor 3 --checkpoint.every_n_seconds 0.5"
    meant = ModelCheckpoint(every_n_steps=5, dirpath="7", monitor="3", every_n_seconds=0.5)
    assert one(typed.split()) == ({}, meant)


def test_no_flag_contains_the_replacement_of_a_dot() -> None:
    assert not any(PART_SEPARATOR in name for name in (*FLAGS, *(f.name for f in attrs.fields(EarlyStopping))))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--max-nb-epochs 3", {"max_nb_epochs": 3}),
        ("--max_nb_epochs=3", {"max_nb_epochs": 3}),
        ("--val_check_interval 1", {"val_check_interval": 1}),
        ("--val_check_interval 1.0", {"val_check_interval": 1.0}),
        ("--accumulate_grad_batches 0:1,4:2", {"accumulate_grad_batches": {0: 1, 4: 2}}),
        ("--accumulate_grad_batches {0:1,4:2}", {"accumulate_grad_batches": {0: 1, 4: 2}}),
        ("--early_stop_callback", {"early_stop_callback": True}),
        ("--early_stop_callback.patience 5", {"early_stop_callback": EarlyStopping(patience=5)}),
        ("--early_stop_callback --early_stop_callback.patience 5", {"early_stop_callback": EarlyStopping(patience=5)}),
        ("--no-progress_bar", {"progress_bar": False}),
        ("--no_progress_bar", {"progress_bar": False}),
        ("--nb_sanity_val_steps -1", {"nb_sanity_val_steps": -1}),
        ("--gradient_clip_val none", {"gradient_clip_val": None}),
        ("--precision 16", {"precision": 16}),
        ("--runs_dir 3", {"runs_dir": "3"}),
        ("--runs_dir none", {"runs_dir": None}),
    ],
)
def test_a_flag_can_be_spelled_so(typed: str, meant: dict[str, Any]) -> None:
    found = parse_flags(typed.split())
    assert found == meant
    assert repr(found) == repr(meant)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--val_check_interval 1.5", "val_check_interval=1.5: a float is a fraction"),
        (
            "--val_check_interval soon",
            "val_check_interval='soon': pass a float, a fraction of an epoch in (0.0, 1.0], or an int",
        ),
        ("--max_nb_epochs 2.5", "max_nb_epochs=2.5: a number of epochs, so it must be an int >= 0"),
        ("--max_nb_epochs", "--max_nb_epochs requires an argument"),
        ("--max_nb_epochs 1 --max_nb_epochs 2", "--max_nb_epochs specified multiple times"),
        ("--accumulate_grad_batches 0:1,4:x", "the value 'x' of epoch 4 is not a number of batches"),
        ("--accumulate_grad_batches 0:1,0:2", "the key 0 occurs twice"),
        ("--early_stop_callback.patience x", "EarlyStopping(patience='x'): a number of validations"),
        (
            "--early_stop_callback=false --early_stop_callback.patience 5",
            "--early_stop_callback=False contradicts --early_stop",
        ),
        ("--progress_bar=maybe", "--progress_bar"),
        ("--min_nb_epochs 3 --max_nb_epochs 2", "min_nb_epochs=3, max_nb_epochs=2"),
    ],
)
def test_a_wrong_flag_is_one_message_and_exit_code_2(run: Run, typed: str, says: str) -> None:
    result = run(f"plan --train 9 {typed}")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_name_from_elsewhere_is_answered_in_the_spelling_of_the_command_line(run: Run, name: str) -> None:
    for typed in (f"--{name} 3", f"--{name.replace('_', '-')}=3"):
        result = run(f"plan --train 9 {typed}")
        option = typed.replace("=", " ").split()[0]
        here = f"error: {option}: there is no such flag. Its name here is --{OTHER_NAMES[name]}.\n"
        assert (result.code, result.err) == (2, here)


def test_resume_anyway_is_answered_with_no_resume_strict(run: Run) -> None:
    for typed in ("--resume_anyway", "--resume-anyway", "--resume_anyway=true"):
        result = run(f"fit mine.py:Model {typed}")
        assert result.code == 2
        assert result.err.endswith(": there is no such flag. Its name here is --no-resume-strict.\n")


def test_a_slip_of_the_pen_is_answered_with_the_nearest_flag(run: Run) -> None:
    assert "Did you mean --max_nb_epochs?" in run("plan --train 9 --max_nb_epoch 3").err
    assert "Did you mean --train?" in run("plan --trian 9").err
    assert "See fsmtrain plan --help." in run("plan --trian 9").err


def test_a_number_of_steps_takes_the_place_of_the_epochs(run: Run) -> None:
    printed = run("plan --train 9 --max_steps 10000").out
    assert re.search(r"epochs +1,112\n", printed)
    assert re.search(r"global_step at the end +10,000\n", printed)
    assert re.search(r"epochs +2\n", run("plan --train 9 --max_steps 10000 --max_nb_epochs 2").out)
    assert "8:00:00 may end the training before" in run("plan --train 9 --max_nb_epochs 2 --max_time 8:00:00").out


@pytest.mark.parametrize("typed", ["--progress_bar False", "--progress_bar false", "--progress_bar=false"])
def test_a_boolean_flag_may_have_a_value(run: Run, typed: str) -> None:
    assert run(f"plan {typed} --train 9 --max_nb_epochs 1").code == 0
