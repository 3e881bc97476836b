"""The recorded command line has no secrets, and everything else as it was typed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.run_metadata import comparable_command
from fsmtrain.views.recording.secret_arguments import mask_secrets
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
