"""The commands ``plan``, ``check`` and ``draw``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from fsmtrain import EarlyStopping, Loop, Options, Sizes, draw, plan
from tests.cli.conftest import Run


def test_a_plan_is_that_of_the_same_flags_in_python(run: Run) -> None:
    result = run("plan --train 9 --val 3 --val 2 --test 4 --max_nb_epochs 2 --accumulate_grad_batches 4 --early_stop_callback")
    options = Options(max_nb_epochs=2, accumulate_grad_batches=4, early_stop_callback=True)
    assert result.out == f"{plan(options, train=9, val=[3, 2], test=4)}\n"
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("policy", ["raise", "skip", "rollback"])
def test_a_policy_for_numbers_that_are_not_finite_is_typed_by_its_name(
    run: Run, policy: Literal["raise", "skip", "rollback"]
) -> None:
    result = run(f"plan --train 9 --max_nb_epochs 2 --on_nonfinite {policy} --max_nb_rollbacks 2")
    assert result.out == f"{plan(Options(max_nb_epochs=2, on_nonfinite=policy, max_nb_rollbacks=2), train=9)}\n"
    assert "on_nonfinite='ignore'" in run("plan --train 9 --on_nonfinite ignore").err


@pytest.mark.parametrize("typed", ["--val 3 --val 2", "--val 3,2", "--val=3,2"])
def test_several_loaders_are_a_list_or_the_flag_again(run: Run, typed: str) -> None:
    result = run(f"plan --train 9 --max_nb_epochs 1 --json {typed}")
    assert json.loads(result.out) == json.loads(plan(Options(max_nb_epochs=1), train=9, val=[3, 2]).to_json())


def test_optimizers_and_splits_are_sizes(run: Run) -> None:
    result = run("plan --train 9 --max_nb_epochs 1 --optimizers 2 --splits 3 --truncated_bptt_steps 5")
    assert result.out == f"{plan(Options(max_nb_epochs=1, truncated_bptt_steps=5), train=9, optimizers=2, splits=3)}\n"


def test_an_int_interval_counts_batches_and_a_float_is_a_fraction(run: Run) -> None:
    assert "validations: 9," in run("plan --train 9 --val 1 --max_nb_epochs 1 --val_check_interval 1").out
    assert "validations: 1," in run("plan --train 9 --val 1 --max_nb_epochs 1 --val_check_interval 1.0").out


def test_the_sizes_are_taken_from_a_module_with_loaders(run: Run, folder: Path) -> None:
    result = run("plan mine.py:Model --max_nb_epochs 2")
    assert result.out == f"{plan(Options(max_nb_epochs=2), train=9, val=[3], test=[3])}\n"


def test_a_size_on_the_command_line_replaces_the_module_s(run: Run, folder: Path) -> None:
    result = run("plan mine.py:Model --max_nb_epochs 2 --val 5 --test 0")
    assert result.out == f"{plan(Options(max_nb_epochs=2), train=9, val=[5], test=[0])}\n"


@pytest.mark.parametrize("command", ["plan", "check", "draw loop.mmd"])
@pytest.mark.parametrize("data", ["", "--data mine.py:Nowhere"])
def test_with_typed_sizes_no_loader_is_asked_for(run: Run, folder: Path, command: str, data: str) -> None:
    with Path("mine.py").open("a") as file:
        file.write(NOWHERE)
    sized = f"{command} mine.py:Away {data} --max_nb_epochs 2"
    assert "the data is on another machine" in run(sized).err
    assert "the data is on another machine" in run(f"{sized} --val 2").err
    result = run(f"{sized} --train 20 --val 3 --accumulate_grad_batches 4")
    assert (result.code, result.err) == (0, "")
    if command == "plan":
        assert result.out == f"{plan(Options(max_nb_epochs=2, accumulate_grad_batches=4), train=20, val=[3])}\n"
        assert "total_steps 34" in run(f"{sized} --train 17 --val 3").err


NOWHERE = """

class Elsewhere:
    def train_dataloader(self):
        raise RuntimeError("the data is on another machine")

    val_dataloader = test_dataloader = train_dataloader


class Nowhere(Elsewhere):
    prepare_data = Elsewhere.train_dataloader


class Away(Elsewhere, Model):
    def configure_optimizers(self):
        if self.trainer.total_steps == 34:
            raise RuntimeError("total_steps 34")
        return super().configure_optimizers()
"""


def test_what_is_not_typed_beside_train_is_none_and_says_so(run: Run, folder: Path) -> None:
    result = run("plan mine.py:Model --max_nb_epochs 2 --train stream --val_check_interval 3")
    assert "There is no --val, so there is no validation" in result.err
    assert run("draw loop.mmd mine.py:Model --train stream --val stream,3 --val_check_interval 3").code == 0
    assert "there is one train loader" in run("plan mine.py:Model --train 3,4").err


def test_a_data_module_has_the_loaders(run: Run, folder: Path) -> None:
    with Path("mine.py").open("a") as file:
        file.write(DATA)
    result = run("plan mine.py:Model --data mine.py:Data --data_hparams n=7 --max_nb_epochs 2")
    assert result.out == f"{plan(Options(max_nb_epochs=2), train=7, val=[3], test=[3])}\n"


DATA = """

class Data:
    def __init__(self, n=4):
        self.n = n

    def train_dataloader(self):
        return [torch.ones(1, 2)] * self.n
"""


def test_guards_are_named_like_a_module(run: Run, folder: Path) -> None:
    assert "optimizer 0             3 steps" in run("plan --train 9 --max_nb_epochs 1 --guards mine.py:every_third").out
    assert "mine.py:number" in run("plan --train 9 --guards mine.py:number").err


def test_against_prints_what_other_flags_change(run: Run) -> None:
    result = run('plan --train 9 --max_nb_epochs 1 --accumulate_grad_batches 4 --against "--accumulate_grad_batches 3"')
    here, there = (plan(Options(max_nb_epochs=1, accumulate_grad_batches=k), train=9) for k in (4, 3))
    assert result.out == f"{here.diff(there)}\n"
    assert "windows: 2 of 4, 1 of 1 -> 3 of 3" in result.out
    assert run("plan --train 9 --max_nb_epochs 1 --against=--max_nb_epochs=1").out == "no difference\n"


@pytest.mark.parametrize("flags", ["--max_epochs 3", "--max_nb_epochs x", "--nothing", '\\"'])
def test_wrong_flags_in_against_are_one_message(run: Run, flags: str) -> None:
    result = run(f'plan --train 9 --against "{flags}"')
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("plan", "the number of train batches is missing"),
        ("check", "the number of train batches is missing"),
        ("plan --train x", "'x' is not a number of batches"),
        ("plan --train 3 --val 1,", "'' is not a number of batches"),
        ("plan --train 3,4", "there is one train loader"),
        ("plan --train 0", "train"),
        ("plan --train stream --val_check_interval 3", "a loader has no length"),
        ("plan --train 9 --hparams lr=1", "--hparams: there is no MODULE:CLASS"),
        ("plan --train 9 --data mine.py:Data", "--data: there is no MODULE:CLASS"),
        ("plan --train 9 --json --against --seed=1", "--against and --json"),
        ("plan somewhere", "must be MODULE:CLASS"),
        ("draw", "PATH"),
        ("draw loop.gif --train 9", "the suffix selects the format"),
        ("draw nowhere/loop.mmd --train 9", "nowhere/loop.mmd: cannot be written"),
        ("draft --train 9", 'Did you mean "draw"?'),
    ],
)
def test_what_cannot_be_planned_is_one_message_and_exit_code_2(run: Run, folder: Path, typed: str, says: str) -> None:
    result = run(typed)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert result.err.count("\n") == 1


def test_a_check_exits_with_0_where_it_found_nothing(run: Run) -> None:
    result = run("check --train 9 --val 3 --max_nb_epochs 2")
    assert (result.code, result.out.splitlines()[0]) == (0, "nothing found")


WARNED = "check --train 9 --val 3 --max_nb_epochs 2 --early_stop_callback.patience 5"


def test_a_warning_of_a_check_is_a_failure_only_on_request(run: Run) -> None:
    result = run(WARNED)
    assert (result.code, result.out.count("warning: early_stop_callback")) == (0, 1)
    assert run(f"{WARNED} --strict").code == 1


def test_a_check_as_json_is_the_report(run: Run) -> None:
    options = Options(max_nb_epochs=2, early_stop_callback=EarlyStopping(patience=5))
    report = Loop(options, Sizes(train=9, val=[3])).check()
    found = json.loads(run(f"{WARNED} --json").out)
    assert (
        found
        == json.loads(report.to_json())
        == {**report.as_dict(), "not_checked": [], "unused_rows": list(report.unused_rows)}
        | {
            "findings": [
                {"severity": "warning", "about": report.findings[0].about, "text": report.findings[0].text, "example": []}
            ]
        }
    )


def test_a_quiet_check_only_sets_its_exit_code(run: Run) -> None:
    result = run(f"{WARNED} --strict --quiet")
    assert (result.code, result.out, result.err) == (1, "", "")


def test_a_check_of_a_module_prints_a_finding_once(run: Run, folder: Path) -> None:
    result = run("check mine.py:Model --max_nb_epochs 1 --early_stop_callback")
    assert (result.out + result.err).count("patience=3") == 1


def test_what_building_warns_of_is_among_the_findings_once(run: Run, folder: Path) -> None:
    result = run("check mine.py:Model --max_nb_epochs 1 --early_stop_callback --val_percent_check 0")
    assert result.out.count("early_stop_callback: it will never act") == 1
    assert result.err == ""


def test_a_drawing_is_that_of_the_same_flags_in_python(run: Run, folder: Path) -> None:
    assert run("draw typed.mmd --train 9 --accumulate_grad_batches 4").code == 0
    draw(Options(accumulate_grad_batches=4), "python.mmd", train=9)
    assert Path("typed.mmd").read_bytes() == Path("python.mmd").read_bytes()


def test_a_module_is_drawn_with_its_own_numbers(run: Run, folder: Path) -> None:
    assert run("draw mine.dot mine.py:Model").code == 0
    assert "last batch of 9" in Path("mine.dot").read_text()
