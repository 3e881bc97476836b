"""Each flag alone: its default, accepted values, rejected values, and the error messages."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import FsmtrainError, OptionsError
from fsmtrain.options import Options
from fsmtrain.trainer import Trainer

FLAGS = [f.name for f in attrs.fields(Options)]
NAN, INFINITY = math.nan, math.inf

DOCUMENTED_DEFAULTS: dict[str, Any] = {
    "accumulate_grad_batches": 1,
    "truncated_bptt_steps": None,
    "min_nb_epochs": 1,
    "max_nb_epochs": 1000,
    "early_stop_callback": None,
    "gradient_clip_val": 0,
    "train_percent_check": 1.0,
    "val_percent_check": 1.0,
    "test_percent_check": 1.0,
    "overfit_pct": 0.0,
    "check_val_every_n_epoch": 1,
    "val_check_interval": 0.95,
    "nb_sanity_val_steps": 5,
}


class Logger:
    """The least that a logger is."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Nothing."""


NO_PERCENTAGES = [-0.1, 1.1, 2, -1, True, False, None, "0.5", NAN, INFINITY, -INFINITY, [0.5], 0.5j]
NO_COUNTS = [-1, True, False, 1.0, 2.5, None, "1", NAN, INFINITY, [1]]
NO_OPTIONAL_COUNTS = [count for count in NO_COUNTS if count is not None]

ILLEGAL: dict[str, list[Any]] = {
    "accumulate_grad_batches": [
        0, *NO_COUNTS, {0: 0}, {0: -2}, {0: True}, {0: 1.5}, {0: None}, {0: "2"}, {-1: 2}, {True: 2}, {0.0: 2}, {"0": 2},
        {0: 2, 1: 0}, {-3: 1, 0: 2}, {},
    ],
    "truncated_bptt_steps": [0, -1, True, False, 1.0, "2", NAN],
    "min_nb_epochs": NO_COUNTS,
    "max_nb_epochs": NO_OPTIONAL_COUNTS,
    "min_steps": [0, *NO_OPTIONAL_COUNTS],
    "max_steps": [0, *NO_OPTIONAL_COUNTS],
    "max_time": ["", "8", "8h", "8:00", "0:00:00", "-1:00:00", 0, 90, 1.5, True, {"hour": 8}],
    "early_stop_callback": [0, 1, "val_loss", EarlyStopping, object, {"patience": 3}],
    "gradient_clip_val": [-1, -0.1, True, False, "1", NAN, -INFINITY, 10**400],
    "gradient_clip_algorithm": ["", "Norm", "l2", None, True, 2],
    "train_percent_check": [0, 0.0, *NO_PERCENTAGES],
    "val_percent_check": NO_PERCENTAGES,
    "test_percent_check": NO_PERCENTAGES,
    "overfit_pct": NO_PERCENTAGES,
    "limit_train_batches": [0, *NO_OPTIONAL_COUNTS],
    "limit_val_batches": NO_OPTIONAL_COUNTS,
    "limit_test_batches": NO_OPTIONAL_COUNTS,
    "limit_predict_batches": [0, *NO_OPTIONAL_COUNTS],
    "fast_dev_run": [count for count in NO_OPTIONAL_COUNTS if type(count) is not bool],
    "check_val_every_n_epoch": [0, *NO_COUNTS],
    "val_check_interval": [0, -1, 0.0, -0.5, 1.5, 2.0, True, False, None, "0.5", NAN, INFINITY, -INFINITY],
    "nb_sanity_val_steps": [True, False, 1.0, None, "5", NAN],
    "device": ["", None, 0, True, b"cpu"],
    "precision": ["64", "fp16", "", 16.0, True, None],
    "on_nonfinite": ["", "ignore", "Raise", True, False, 0, ["skip"]],
    "max_nb_rollbacks": [0, *NO_COUNTS],
    "distributed_backend": ["gloo", "", 0, True],
    "seed": [-1, 2**32, True, 1.5, "1", NAN],
    "progress_bar": [0, 1, None, "yes"],
    "quiet": [0, 1, None, "yes"],
    "runs_dir": ["", "  ", True, 0, "a\0b", b"runs"],
    "run_name": ["", " ", ".", "..", "../x", "a/b", "/a", "a\\b", "c:", "a\nb", "a ", ".a", "a.", 1, True, 201 * "a",
                 101 * "ä"],
    "logger": [1, "tensorboard", object(), (object(),), Logger, (Logger(), None)],
}  # fmt: skip

LEGAL: dict[str, list[Any]] = {
    "accumulate_grad_batches": [1, 2, 10**6, {0: 1}, {3: 4, 0: 2}],
    "truncated_bptt_steps": [None, 1, 7],
    "min_nb_epochs": [0, 1, 1000],
    "max_nb_epochs": [0, 1, 10**9, None],
    "min_steps": [None, 1, 10**9],
    "max_steps": [None, 1, 10**9],
    "max_time": [None, "8:00:00", "1:00:00:00"],
    "early_stop_callback": [None, False, True, EarlyStopping(patience=0)],
    "gradient_clip_val": [None, 0, 0.0, 1, 0.5, INFINITY],
    "gradient_clip_algorithm": ["norm", "value"],
    "train_percent_check": [1, 1.0, 0.5, 1e-9],
    "val_percent_check": [0, 0.0, 1, 1.0, 1e-9],
    "test_percent_check": [0, 0.0, 1, 1.0, 1e-9],
    "overfit_pct": [0, 0.0, 1, 1.0, 1e-9],
    "limit_train_batches": [None, 1, 10**9],
    "limit_val_batches": [None, 0, 1, 10**9],
    "limit_test_batches": [None, 0, 1, 10**9],
    "limit_predict_batches": [None, 1, 10**9],
    "fast_dev_run": [False, True, 0, 1, 7],
    "check_val_every_n_epoch": [1, 2, 10**6],
    "val_check_interval": [1, 2, 10**9, 1.0, 0.5, 1e-9],
    "nb_sanity_val_steps": [-5, -1, 0, 1, 10**6],
    "device": ["auto", "cpu", "cuda:1"],
    "precision": ["32", "bf16", "16", 32, 16],
    "on_nonfinite": [None, "raise", "skip", "rollback"],
    "max_nb_rollbacks": [1, 3, 10**6],
    "distributed_backend": [None, "dp"],
    "seed": [None, 0, 2**32 - 1],
    "progress_bar": [True, False],
    "quiet": [True, False],
    "runs_dir": [None, "runs", "/tmp/elsewhere", "a/b"],
    "run_name": [None, "baseline", "7", "lr=0.1, 2nd try", "größer", 200 * "a"],
    "logger": [None, Logger(), (Logger(), Logger()), ()],
}

OTHER_NAMES = {
    "max_epochs": "max_nb_epochs",
    "min_epochs": "min_nb_epochs",
    "max_num_epochs": "max_nb_epochs",
    "min_num_epochs": "min_nb_epochs",
    "num_sanity_val_steps": "nb_sanity_val_steps",
    "overfit_batches": "overfit_pct",
    "val_check_every_n_epoch": "check_val_every_n_epoch",
    "gradient_clip": "gradient_clip_val",
    "gradient_accumulation_steps": "accumulate_grad_batches",
    "early_stopping": "early_stop_callback",
    "enable_progress_bar": "progress_bar",
    "accelerator": "device",
    "devices": "device",
    "gpus": "device",
    # slips of the pen
    "max_nb_epoch": "max_nb_epochs",
    "accumulate_grad_batch": "accumulate_grad_batches",
    "val_percents_check": "val_percent_check",
    "nb_sanity_steps": "nb_sanity_val_steps",
}


def pairs(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    """A table of values as a list."""
    return [(flag, value) for flag, values in table.items() for value in values]


def test_every_flag_is_in_these_tables() -> None:
    assert list(ILLEGAL) == list(LEGAL)
    assert set(ILLEGAL) == set(FLAGS)


def test_the_defaults_are_the_documented_ones() -> None:
    assert {name: getattr(Options(), name) for name in DOCUMENTED_DEFAULTS} == DOCUMENTED_DEFAULTS
    assert isinstance(Options().val_check_interval, float)
    assert Options().early_stopping is None


@pytest.mark.parametrize(("flag", "value"), pairs(ILLEGAL))
def test_an_illegal_value_is_refused_by_the_flag_and_the_value(flag: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"{flag}={value!r}")) as caught:
        Options(**{flag: value})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FsmtrainError)
    assert len(str(caught.value)) > len(f"{flag}={value!r}") + 20, "the rule and the way out are missing"


@pytest.mark.parametrize(("flag", "value"), pairs(LEGAL))
def test_a_legal_value_is_kept_as_it_is(flag: str, value: Any) -> None:
    flags = {"max_nb_epochs": 10**9, flag: value} if flag == "min_nb_epochs" else {flag: value}
    kept = getattr(Options(**flags), flag)
    assert kept == (str(value) if flag == "precision" else value)


def test_each_flag_is_checked_by_itself_first() -> None:
    """Nothing excuses a bad percentage: not `overfit_pct`, which replaces it, nor a run without epochs."""
    for flag in ("train_percent_check", "val_percent_check", "test_percent_check"):
        with pytest.raises(OptionsError, match=f"{flag}=7"):
            Options(**{"overfit_pct": 0.5, "max_nb_epochs": 0, flag: 7})  # type: ignore[arg-type]


def test_the_way_out_of_a_fraction_above_one_is_a_number_of_batches() -> None:
    with pytest.raises(OptionsError, match=re.escape("val_check_interval=1.5")) as caught:
        Options(val_check_interval=1.5)
    assert "must lie in (0.0, 1.0]" in str(caught.value)
    assert "pass an int: val_check_interval=2." in str(caught.value)


# ---- two flags together


def test_more_epochs_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(OptionsError, match="min_nb_epochs=3, max_nb_epochs=2"):
        Options(min_nb_epochs=3, max_nb_epochs=2)
    assert Options(min_nb_epochs=2, max_nb_epochs=2).min_nb_epochs == 2


def test_a_run_without_epochs_asks_nothing_of_min_nb_epochs() -> None:
    assert Options(max_nb_epochs=0).min_nb_epochs == 1
    assert Options(max_nb_epochs=0, min_nb_epochs=5).max_nb_epochs == 0


def test_early_stopping_is_resolved() -> None:
    own = EarlyStopping(monitor="acc", mode="max")
    assert Options(early_stop_callback=own).early_stopping is own
    assert Options(early_stop_callback=True).early_stopping == EarlyStopping(monitor="val_loss", patience=3, mode="min")
    assert Options(early_stop_callback=False).early_stopping is None


# ---- names that there are not

# Every argument of the Trainer of Lightning 2.6, and those of 0.x and 1.x that are gone.
LIGHTNING_FLAGS = frozenset(
    """
    accelerator strategy devices num_nodes precision logger callbacks fast_dev_run max_epochs min_epochs max_steps min_steps
    max_time limit_train_batches limit_val_batches limit_test_batches limit_predict_batches overfit_batches val_check_interval
    check_val_every_n_epoch num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar
    enable_model_summary accumulate_grad_batches gradient_clip_val gradient_clip_algorithm deterministic benchmark
    inference_mode use_distributed_sampler profiler detect_anomaly barebones plugins sync_batchnorm
    reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams model_registry

    checkpoint_callback resume_from_checkpoint weights_save_path progress_bar_refresh_rate row_log_interval log_save_interval
    auto_lr_find auto_scale_batch_size terminate_on_nan amp_backend amp_level use_amp tpu_cores num_processes gpus
    auto_select_gpus prepare_data_per_node track_grad_norm weights_summary process_position flush_logs_every_n_steps
    replace_sampler_ddp move_metrics_to_cpu multiple_trainloader_mode stochastic_weight_avg nb_gpu_nodes print_nan_grads
    default_save_path log_gpu_memory reload_dataloaders_every_epoch
    """.split()  # noqa: SIM905 - a list literal would be a page long
)


@pytest.mark.parametrize("name", sorted(LIGHTNING_FLAGS - {*FLAGS, "callbacks"}))
@pytest.mark.parametrize("value", [1, True, None, 0.5])
def test_every_flag_of_lightning_is_refused_with_its_name_here_or_a_way_out(name: str, value: Any) -> None:
    for cls in (Options, Trainer):
        with pytest.raises(OptionsError, match=re.escape(f"{name}={value!r}: there is no such flag. ")) as caught:
            cls(**{name: value})
        way_out = str(caught.value).partition("there is no such flag. ")[2]
        assert way_out
        assert not way_out.startswith(("The flags are", "Did you mean"))


def test_a_fraction_is_named_where_another_trainer_takes_a_number_of_batches() -> None:
    with pytest.raises(OptionsError, match=r"overfit_pct. It is a fraction of the batches, as in overfit_pct=0.1"):
        Options(overfit_batches=10)  # type: ignore[call-arg]


@pytest.mark.parametrize(("name", "here"), OTHER_NAMES.items())
def test_a_name_from_elsewhere_is_refused_with_the_name_here(name: str, here: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"{name}=3: there is no such flag")) as caught:
        Options(**{name: 3})  # type: ignore[arg-type]
    assert re.search(rf"\b{here}\b", str(caught.value))


@pytest.mark.parametrize("name", ["callbacks", "x"])
def test_a_name_that_is_like_none_is_answered_with_all_flags(name: str) -> None:
    with pytest.raises(OptionsError) as caught:
        Options(**{name: 1})  # type: ignore[arg-type]
    for flag in FLAGS:
        assert flag in str(caught.value)


@pytest.mark.parametrize("name", ["log_every_n_steps", "reload_dataloaders_every_n_epochs"])
def test_a_flag_of_other_trainers_with_another_meaning_is_not_suggested(name: str) -> None:
    """A likeness is a guess, and is told as one."""
    with pytest.raises(OptionsError) as caught:
        Options(**{name: 1})  # type: ignore[arg-type]
    assert "Its name here is" not in str(caught.value)


# ---- the value as a whole


def test_the_signature_shows_every_flag_with_its_default() -> None:
    parameters = inspect.signature(Options).parameters
    assert list(parameters) == FLAGS
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == getattr(Options(), name)


def test_the_docstring_explains_every_flag() -> None:
    assert Options.__doc__ is not None
    for flag in FLAGS:
        assert re.search(rf"^ +{flag}: \S", Options.__doc__, flags=re.MULTILINE), flag


@pytest.mark.parametrize("flag", FLAGS)
def test_options_are_frozen(flag: str) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(Options(), flag, getattr(Options(), flag))


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Options(4)  # type: ignore[call-arg]


def test_a_callers_dict_that_changes_later_changes_no_options() -> None:
    lengths = {0: 2}
    options = Options(accumulate_grad_batches=lengths)
    lengths[0] = 8
    assert options.accumulate_grad_batches == {0: 2}


def test_the_dict_in_options_is_frozen_too() -> None:
    options = Options(accumulate_grad_batches={0: 2})
    with pytest.raises(TypeError):
        options.accumulate_grad_batches[0] = 8  # type: ignore[index]


def test_options_with_the_same_flags_are_equal() -> None:
    assert Options(max_nb_epochs=3) == Options(max_nb_epochs=3) != Options(max_nb_epochs=4)
    assert Options(accumulate_grad_batches={0: 1, 2: 3}) == Options(accumulate_grad_batches={2: 3, 0: 1})
    assert attrs.evolve(Options(seed=1), max_nb_epochs=2) == Options(seed=1, max_nb_epochs=2)


def test_a_path_is_kept_as_text_and_a_list_of_loggers_as_a_tuple() -> None:
    """So that options can be compared, hashed and written down."""
    loggers = [Logger(), Logger()]
    options = Options(runs_dir=Path("a") / "b", logger=loggers)
    assert options.runs_dir == str(Path("a") / "b")
    assert options.loggers == options.logger == tuple(loggers)
    assert hash(options) == hash(options.plain())
    assert Options(logger=loggers[0]).loggers == (loggers[0],)
    assert Options(logger=False) == Options()
    assert Options().loggers == ()
