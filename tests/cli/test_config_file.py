"""``--config FILE``: YAML and TOML mean what the same flags mean when they are typed, and what is typed wins."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import EarlyStopping, Options
from fsmtrain.cli.config_file import ConfigOption, flag_value, read_config
from fsmtrain.cli.flag_parameters import PART_SEPARATOR, _below, with_flags
from fsmtrain.cli.value_reader import read_value
from fsmtrain.errors import FsmtrainError, MissingExtraError, UsageError
from tests.bounded import bounded
from tests.cli.conftest import Run
from tests.cli.test_flag_parameters import TYPED
from tests.strange_files import SAYS, STRANGE_FILES, make_strange_file
from tests.strategies import compatible

yaml = pytest.mark.skipif(importlib.util.find_spec("yaml") is None, reason="PyYAML is an extra")
KINDS = [pytest.param("yaml", marks=yaml), "toml"]


@with_flags
def command(*, config: ConfigOption = None, flags: Any) -> Any:
    return flags


def as_toml(value: Any) -> str:
    """Write a value as TOML; None as the text that stands for it."""
    if value is None:
        return '"none"'
    if isinstance(value, EarlyStopping):
        value = attrs.asdict(value)
    if isinstance(value, dict) or hasattr(value, "items"):
        return "{" + ", ".join(f'"{key}" = {as_toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return json.dumps(value if isinstance(value, (bool, int, float, str)) else str(value))


def as_yaml(value: Any) -> str:
    """Write a value as YAML of one line."""
    if isinstance(value, EarlyStopping):
        value = attrs.asdict(value)
    if hasattr(value, "items"):
        return "{" + ", ".join(f"{key}: {as_yaml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value) if isinstance(value, (bool, int, float, str, type(None))) else json.dumps(str(value))


@pytest.mark.parametrize("kind", KINDS)
@given(flags=st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in TYPED.items()}))
def test_flags_of_a_file_are_the_flags_that_are_meant(
    kind: str, flags: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = compatible(flags)
    lines = [f"{name} = {as_toml(value)}" if kind == "toml" else f"{name}: {as_yaml(value)}" for name, value in flags.items()]
    path = tmp_path_factory.mktemp("config") / f"run.{kind}"
    path.write_text("\n".join(lines))
    read = command(config=read_config(path))
    assert repr(Options(**read)) == repr(Options(**flags))


@pytest.mark.parametrize(
    ("file", "typed", "merged"),
    [
        ({"seed": 3, "quiet": True}, {"seed": 4}, {"seed": 4, "quiet": True}),
        ({"early__patience": 5, "early__mode": "max"}, {"early__patience": 7}, {"early__patience": 7, "early__mode": "max"}),
        ({"early__patience": 5}, {"early": False}, {"early": False}),
        ({"early__patience": 5}, {"early": True}, {"early__patience": 5, "early": True}),
        ({"early": False}, {"early__patience": 7}, {"early__patience": 7}),
        ({"seed": 3}, {"seed": None}, {"seed": None}),
        ({"quiet": True}, {"quiet": False}, {"quiet": False}),
    ],
)
def test_what_is_typed_wins(file: dict[str, Any], typed: dict[str, Any], merged: dict[str, Any]) -> None:
    assert PART_SEPARATOR == "__"
    assert _below(file, typed) == merged


YAML = """
# the run
max_nb_epochs: 2
accumulate_grad_batches: {0: 1, 1: 3}
early_stop_callback:
  patience: 9
  min_delta: 1e-3
checkpoint.every_n_steps: 2
runs_dir: runs
hparams: {width: 2, lr: 1e-2}
guards: mine.py:every_third
"""
TOML = """
max_nb_epochs = 2
checkpoint.every_n_steps = 2
early_stop_callback = {patience = 9, min_delta = 1e-3}
guards = "mine.py:every_third"
[accumulate_grad_batches]
0 = 1
1 = 3
[hparams]
width = 2
lr = 1e-2
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_that_of_the_file_and_the_file_is_in_its_folder(run: Run, folder: Path, kind: str) -> None:
    text = YAML if kind == "yaml" else TOML
    Path(f"run.{kind}").write_text(text)
    done = run(f"fit mine.py:Model --config run.{kind} --hparams lr=0.5 --max_nb_epochs 1 --json --quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["epochs_done"] == 1
    assert Path(f"runs/0/config.{kind}").read_text() == text
    record = json.loads(Path("runs/0/run.json").read_text())
    assert record["options"]["accumulate_grad_batches"] == {"0": 1, "1": 3}
    assert record["options"]["early_stop_callback"]["min_delta"] == 0.001
    assert record["options"]["max_nb_epochs"] == 1
    assert list(record["guards"]["step"]) == ["0"]
    assert Path("runs/0/checkpoints").is_dir()
    planned = run(f"plan mine.py:Model --config run.{kind} --json")
    assert json.loads(planned.out)["epochs"][0]["saves"]
    assert run(f"check --train 9 --config run.{kind}").code == 0
    assert run(f"draw loop.mmd mine.py:Model --config run.{kind}").code == 0
    assert "save" in Path("loop.mmd").read_text()


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("toml", "max_epochs = 3", "max_epochs=3: there is no such flag. Its name here is max_nb_epochs"),
        ("toml", "max_nb_epoch = 3", "Did you mean max_nb_epochs?"),
        ("toml", "max-epochs = 3", "Its name here is max_nb_epochs"),
        ("toml", "learning_rate = 0.1", "learning_rate=0.1: there is no such flag. The flags are"),
        ("toml", "learning_rate = 0.1", "Hyperparameters belong under hparams"),
        ("toml", "hparam = {lr = 1}", "Did you mean hparams?"),
        (
            "toml",
            "early_stop_callback = {patiense = 3}",
            "early_stop_callback: patiense=3: there is no such flag. Did you mean",
        ),
        ("toml", "max_nb_epochs = '3'", "max_nb_epochs='3'"),
        ("toml", "seed = 3\nseed = 4", "Cannot overwrite a value"),
        ("toml", "seed = 3\nmax-nb-epochs = 1\nmax_nb_epochs = 1", "max_nb_epochs occurs twice"),
        ("toml", "checkpoint = 3", "checkpoint=3: must be true, false or a mapping"),
        ("toml", "hparams = 3", "hparams=3: must be a mapping"),
        ("toml", "hparams = {when = 2024-01-01}", "when=datetime.date"),
        ("toml", "guards = 3", "guards=3: must be MODULE:NAME"),
        ("toml", "logger = 'x'", "logger='x': there is no such flag"),
        ("toml", "nonsense", "run.toml: "),
        ("json", "{}", "must be a YAML or TOML file"),
        pytest.param("yaml", "hparams: {lr: 1e-3x}", "line 1: 1e-3x begins like a number and is none", marks=yaml),
        pytest.param("yaml", "hparams:\n  use_bn: no", "line 2: no is neither true nor false. Write false. A text", marks=yaml),
        pytest.param("yaml", "seed: 1\nseed: 2", "line 2: seed occurs twice", marks=yaml),
        pytest.param("yaml", "hparams: {lr: 1, lr: 2}", "lr occurs twice", marks=yaml),
        pytest.param("yaml", "- 1", "must be a mapping", marks=yaml),
        pytest.param("yaml", "seed: [", "run.yaml", marks=yaml),
        pytest.param("yaml", "a: !!python/object/apply:os.system [ls]", "could not determine a constructor", marks=yaml),
        pytest.param("yaml", "hparams: &a {x: *a}", "recursive", marks=yaml),
        pytest.param("yaml", "{[1]: 2}", "unhashable key", marks=yaml),
    ],
)
def test_a_mistake_in_the_file_is_one_message_and_exit_code_2(run: Run, folder: Path, kind: str, text: str, says: str) -> None:
    Path(f"run.{kind}").write_text(text)
    result = run(f"plan mine.py:Model --config run.{kind}")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert "Traceback" not in result.err


@yaml
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("none", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("[1, a]", [1, "a"]),
        ("'no'", "no"),
        ("adam", "adam"),
    ],
)
def test_a_plain_value_of_yaml_is_read_as_a_typed_one(tmp_path: Path, text: str, value: Any) -> None:
    (tmp_path / "run.yml").write_text(f"hparams:\n  x: {text}")
    assert read_config(tmp_path / "run.yml").hparams == {"x": value}


@pytest.mark.filterwarnings("always::fsmtrain.FsmtrainWarning")
@pytest.mark.parametrize("command", ["plan --train 9", "check --train 9", "draw loop.mmd --train 9"])
def test_hyperparameters_of_a_file_that_build_no_model_are_a_warning(run: Run, folder: Path, command: str) -> None:
    Path("run.toml").write_text("max_nb_epochs = 2\n[hparams]\nlr = 0.5\n")
    result = run(f"{command} --config run.toml")
    assert "--config run.toml: its hyperparameters lr are not used: there is no MODULE:CLASS to build." in result.err
    assert result.code == 0


@pytest.mark.filterwarnings("error::fsmtrain.FsmtrainWarning")
def test_hyperparameters_of_a_file_that_build_the_model_give_no_warning(run: Run, folder: Path) -> None:
    Path("run.toml").write_text("max_nb_epochs = 2\n[hparams]\nlr = 0.5\n")
    assert run("plan mine.py:Model --config run.toml").code == 0


def test_there_is_no_such_file(run: Run, folder: Path) -> None:
    for name in ("none.toml", "none.yaml"):
        result = run(f"plan --train 3 --config {name}")
        assert (result.code, result.err) == (2, f"error: --config {name}: No such file or directory.\n")


def test_yaml_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yaml").write_text("seed: 3")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fsmtrain\[yaml\]'. A TOML file needs none"):
        read_config(tmp_path / "run.yaml")
    assert issubclass(MissingExtraError, FsmtrainError)


# ---- files that are none, or would take for ever

MODULUS = sys.hash_info.modulus  # multiples of it have the hash 0
HOSTILE_TOML = {
    "a key of many parts": "a." * 40_000 + "a = 1",
    "a table of many parts": "[" + "a." * 40_000 + "a]",
    "a key of many quoted parts": '"a" . ' * 40_000 + "a = 1",
    "deep lists": "hparams = {a = " + "[" * 50_000,
    "deep tables": "hparams = " + "{a = " * 20_000,
    "keys with one hash": "accumulate_grad_batches = {" + ", ".join(f'"{MODULUS * n}" = 1' for n in range(1, 20_000)) + "}",
    "no text": b"seed = \xff",
    "a megabyte and more": "#" * (2**20 + 1),
}
HOSTILE_YAML = {
    "deep lists": "hparams: {a: " + "[" * 50_000,
    "deep keys": "? " * 50_000,
    "aliases of aliases": "hparams:\n  a0: &a0 [x, x]\n"
    + "".join(f"  a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(40)),
    "merged aliases": "hparams:\n  a0: &a0 {x: 1}\n"
    + "".join(f"  a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(40)),
    "a long chain of aliases": "hparams:\n  a0: &a0 [x]\n" + "".join(f"  a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(5_000)),
    "a list in itself": "hparams: {a: &a [*a]}",
    "a mapping in itself": "hparams: &a {b: *a}",
    "keys with one hash": "hparams:\n  a:\n" + "".join(f"    {MODULUS * n}: 1\n" for n in range(20_000)),
    "a list as a key": "hparams:\n  ? [1]\n  : 2",
    "no text": b"seed: \xff",
    "an object": "hparams: {a: !!python/object/apply:os.mkdir [evil]}",
}


@pytest.mark.parametrize(
    ("suffix", "name", "text"),
    [("toml", name, text) for name, text in HOSTILE_TOML.items()]
    + [pytest.param("yaml", name, text, marks=yaml) for name, text in HOSTILE_YAML.items()],
)
def test_a_hostile_file_is_an_error_in_linear_time(tmp_path: Path, suffix: str, name: str, text: str | bytes) -> None:
    path = tmp_path / f"run.{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with bounded(len(text), multiple=1000), pytest.raises(FsmtrainError):
        flag_value(Mapping[int, int], read_config(path).flags["accumulate_grad_batches"])


@pytest.mark.parametrize("kind", STRANGE_FILES)
@pytest.mark.parametrize("suffix", KINDS)
def test_what_is_no_file_is_an_error(tmp_path: Path, suffix: str, kind: str) -> None:
    make_strange_file(tmp_path / f"run.{suffix}", kind)
    with bounded(0), pytest.raises(UsageError, match=SAYS):
        read_config(tmp_path / f"run.{suffix}")


@yaml
def test_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("hparams:\n  a: &a {x: 1}\n  b: {<<: *a, y: 2}\n  c: [*a, *a]\n")
    expected = {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    assert read_config(tmp_path / "run.yaml").hparams == expected


def test_a_long_text_with_dots_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("hparams = {a = [" + "0.5, " * 1000 + '"' + "A word. " * 1000 + '"]}')
    assert len(read_config(tmp_path / "run.toml").hparams["a"]) == 1001


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 20_000, "[1," * 20_000])
def test_a_typed_value_that_is_nested_too_deep_is_an_error(text: str) -> None:
    with bounded(len(text)), pytest.raises(UsageError, match=r"nested too deep|no closing"):
        read_value(text)


def test_a_long_list_that_is_typed_takes_linear_time() -> None:
    text = "[" + "1, " * 100_000 + "1]"
    with bounded(len(text)):
        assert read_value(text) == [1] * 100_001


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", "checkpoint:\n- {monitor: val_loss, save_top_k: 2}\n- {every_n_steps: 4}\n"),
        ("toml", "[[checkpoint]]\nmonitor = 'val_loss'\nsave_top_k = 2\n[[checkpoint]]\nevery_n_steps = 4\n"),
    ],
)
def test_a_list_of_checkpoints_is_several_rules(run: Run, folder: Path, kind: str, text: str) -> None:
    if kind == "yaml":
        pytest.importorskip("yaml")
    Path(f"run.{kind}").write_text(text)
    fitted = run(f"fit mine.py:Model --max_nb_epochs 1 --config run.{kind} --test --json")
    assert json.loads(fitted.out)["tested"] is not None
    assert {path.name for path in Path("runs/0").glob("checkpoints*")} == {"checkpoints", "checkpoints-every-4-steps"}
    planned = json.loads(run(f"plan mine.py:Model --max_nb_epochs 1 --config run.{kind} --json").out)
    assert planned["epochs"][0]["saves"]
    assert run(f"fit mine.py:Model --max_nb_epochs 1 --config run.{kind} --checkpoint=false").code == 0
    assert not list(Path("runs/1").glob("checkpoints*"))
    both = run(f"fit mine.py:Model --config run.{kind} --checkpoint.monitor val_loss")
    assert (both.code, both.err.count("\n")) == (2, 1)
    assert "has a list of several" in both.err
    Path(f"run.{kind}").write_text(text.replace("every_n_steps", "every_n_step"))
    assert (
        "checkpoint: every_n_step=4: there is no such flag. Did you mean every_n_steps?"
        in run(f"check --train 9 --config run.{kind}").err
    )
