"""Recorded command lines, hyperparameters and config files have no secrets, and everything else as it was written."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import FsmtrainWarning, ModelCheckpoint, Options, build
from fsmtrain.cli.config_file import RecordConfig, read_config
from fsmtrain.mask_secrets import MASK, mask_secrets, mask_text, mask_values
from fsmtrain.views.recording.run_metadata import comparable_command
from tests.views.recording.recorded_runs import read_json

SECRET = "s3cret-Value/with+signs=="


@pytest.mark.parametrize(
    "words",
    [
        ["--api_key", SECRET],
        ["--api-key", SECRET],
        ["-api_key", SECRET],
        [f"--api_key={SECRET}"],
        ["--password=a,b&" + SECRET],
        ["--token", f"-{SECRET}"],
        ["--wandb.api_key", SECRET],
        [f"+trainer.wandb.api_key={SECRET}"],
        [f"HF_TOKEN={SECRET}"],
        ["--hfToken", SECRET],
        ["--hparams", f"lr=0.1,db_password={SECRET}"],
        ["--hparams", f'{{"lr": 0.1, "api_key": "{SECRET}"}}'],
        ["--hparams", f"{{lr: 0.1, secret: '{SECRET}'}}"],
        ["--database", "mysql://me:s3cret@host/db"],
        ["--data", "https://host/data?token=s3cret&part=1"],
        ["--aws_secret_access_key", SECRET],
        ["--secret", SECRET, "--lr", "0.1"],
    ],
)
def test_values_that_look_like_secrets_are_masked(words: list[str]) -> None:
    masked = mask_secrets(["train.py", *words])
    assert "s3cret" not in " ".join(masked)
    assert "***" in " ".join(masked)
    assert len(masked) == 1 + len(words)
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "words",
    [
        ["--pad_token", "[PAD]", "--max_tokens", "100", "--tokenizer", "bert", "--token_dim", "8"],
        ["--key_dim", "64", "--label_key", "y", "--num_keys=3", "--monkey", "1"],
        ["--hparams", "lr=0.1,betas=[0.9,0.99]", "train.py:Model", "--time=12:30:00", "https://host:80/a?b=1"],
        ["--password"],
        ["--password", "--lr", "0.1"],
    ],
)
def test_everything_else_is_as_typed(words: list[str]) -> None:
    assert mask_secrets(words) == words


@given(st.lists(st.text()))
def test_masking_twice_changes_nothing_and_keeps_the_number_of_words(words: list[str]) -> None:
    masked = mask_secrets(words)
    assert len(masked) == len(words)
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize("part", ["a", "a:", 'a="', "://", "x://a:", "token='", "a.b-"])
def test_masking_takes_linear_time(part: str) -> None:
    before = time.process_time()
    mask_secrets([part * (400_000 // len(part))])
    assert time.process_time() - before < 2


def test_a_run_is_recorded_and_compared_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.resuming.test_run_folder import machine

    monkeypatch.setattr(sys, "argv", ["train.py", "--api_key", SECRET, "--lr", "0.1"])
    one = machine(runs_dir=tmp_path, save=None, max_nb_epochs=1)
    one.run()
    assert one.run_dir is not None
    for path in one.run_dir.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    recorded = read_json(one.run_dir / "run.json")["command"]
    assert recorded == ["train.py", "--api_key", "***", "--lr", "0.1"]
    assert comparable_command(recorded) == comparable_command(sys.argv)


# ---- hyperparameters


HPARAMS = {
    "lr": 0.1,
    "api_key": SECRET,
    "wandb": {"token": [SECRET], "project": "p"},
    "url": "db://me:s3cret@h",
    "password": None,
}


def test_secrets_among_hyperparameters_are_masked_and_the_others_stay() -> None:
    masked = mask_values(HPARAMS)
    assert masked == {
        "lr": 0.1,
        "api_key": MASK,
        "wandb": {"token": MASK, "project": "p"},
        "url": f"db://me:{MASK}@h",
        "password": None,
    }
    assert mask_values(masked) == masked
    assert HPARAMS["api_key"] == SECRET


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())))
def test_names_stay_and_masking_values_twice_changes_nothing(values: dict[str, object]) -> None:
    masked = mask_values(values)
    assert masked.keys() == values.keys()
    assert mask_values(masked) == masked


def test_a_run_records_and_logs_its_hyperparameters_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches

    class Logger:
        def log_hyperparams(self, hparams: object) -> None:
            self.hparams = hparams

        def log_metrics(self, metrics: object, step: int) -> None:
            pass

    monkeypatch.chdir(tmp_path)
    for key in (SECRET, SECRET + "2"):
        model, logger = LoggingModel(), Logger()
        model.hparams = {**HPARAMS, "api_key": key}
        machine = build(
            Options(max_nb_epochs=1, quiet=True, logger=logger),
            model,
            train_dataloader=NumberedBatches(2),
            callbacks=[ModelCheckpoint(dirpath=tmp_path / "saved")],
        )
        if key != SECRET:
            with pytest.warns(FsmtrainWarning, match=r"hyperparameters differ .*api_key='\*\*\*', checkpoint has '\*\*\*'"):
                machine.resume(tmp_path / "saved" / "000000")
        machine.run()
        assert logger.hparams == mask_values(HPARAMS)
        assert machine.run_dir is not None
        files = [path for path in machine.run_dir.rglob("*") if path.is_file()]
        assert len(files) > 3
        for path in files:
            assert b"s3cret" not in path.read_bytes(), path


# ---- config files


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("hparams:\n  api_key: SECRET  # mine\n  lr: 0.1\n", 'hparams:\n  api_key: "***"  # mine\n  lr: 0.1\n'),
        ("hparams:\n  api_key: 'SECRET'\n", 'hparams:\n  api_key: "***"\n'),
        ("hparams:\n  api_key:\n    SECRET\n", 'hparams:\n  api_key:\n    "***"\n'),
        ("hparams: {api_key: [SECRET, SECRET2]}\n", 'hparams: {api_key: ["***", "***"]}\n'),
        ("hparams:\n  url: db://me:SECRET@host\n", "hparams:\n  url: db://me:***@host\n"),
        ("hparams:\n  pad_token: PAD\n  tokens: 3\n", "hparams:\n  pad_token: PAD\n  tokens: 3\n"),
        ("hparams:\n  password: 12\n  lr: 0.12\n", 'hparams:\n  password: "***"\n  lr: 0.12\n'),
        ("hparams:\n  api_key: null\n", "hparams:\n  api_key: null\n"),
        ('hparams:\n  api_key: "S\\x45CRET"\n', None),
        ('hparams:\n  api_key: "S\\x45CRET"\n  token: OTHER\n', None),
        ("hparams:\n  api_key: >\n    SECRET\n    more\n", None),
    ],
)
def test_the_text_of_a_config_file_has_its_secrets_masked(tmp_path: Path, text: str, masked: str | None) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "run.yaml").write_text(text)
    config = read_config(tmp_path / "run.yaml")
    assert mask_text(config.text, config.hparams) == masked
    RecordConfig(config).on_run_end(SimpleNamespace(run_dir=tmp_path))
    copied = (tmp_path / "config.yaml").read_text()
    assert copied == masked or (masked is None and "was not copied" in copied)


def test_a_masked_toml_file_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        f'# of the run\n[hparams]\nlr = 0.1\napi_key = "{SECRET}"\n[hparams.db]\npassword = 1234\n'
    )
    config = read_config(tmp_path / "run.toml")
    text = mask_text(config.text, config.hparams)
    assert text is not None
    (tmp_path / "masked.toml").write_text(text)
    assert read_config(tmp_path / "masked.toml").hparams == {"lr": 0.1, "api_key": MASK, "db": {"password": MASK}}
