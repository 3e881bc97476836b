"""The commands ``fit`` and ``test`` on a user's module, named as ``file.py:Class``."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Machine
from fsmtrain.cli import import_target
from fsmtrain.errors import UsageError
from tests.cli.conftest import Run
from tests.models import same_bits

ONE = "--max_nb_epochs 1"


@pytest.mark.parametrize("target", ["mine.py:Model", "mine:Model", "./mine.py:Model", "mine.py:made", "mine.py:ready"])
def test_a_module_is_a_class_a_function_or_a_module_in_a_file_or_a_package(run: Run, folder: Path, target: str) -> None:
    result = run(f"fit {target} {ONE}")
    assert (result.code, result.out.splitlines()[-1].split("=")[0]) == (0, "val_loss")
    assert "ended after 1 epoch" in result.err


def test_fit_with_test_runs_the_test_afterwards(run: Run, folder: Path) -> None:
    assert "test_sum" not in run(f"fit mine.py:Model {ONE}").out
    assert "test_sum" in run(f"fit mine.py:Model {ONE} --test").out


def test_a_result_as_json_is_all_there_is_on_standard_output(run: Run, folder: Path) -> None:
    result = run("fit mine.py:Model --max_nb_epochs 2 --accumulate_grad_batches 4 --json")
    found = json.loads(result.out)
    assert found["stop_reason"] == "max_epochs"
    assert (found["state"], found["epochs_done"], found["current_epoch"], found["global_step"]) == ("done", 2, 1, 6)
    assert 0 <= found["metrics"]["val_loss"] < 10


def test_json_has_no_other_numbers_than_finite_ones(run: Run, folder: Path) -> None:
    result = run(f"fit mine.py:Nan {ONE} --json")
    assert json.loads(result.out, parse_constant=pytest.fail)["metrics"]["val_loss"] is None


def test_a_quiet_run_prints_nothing_but_what_a_program_reads(run: Run, folder: Path) -> None:
    result = run(f"fit mine.py:Model {ONE} --quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = run(f"fit mine.py:Model {ONE} --quiet --json")
    assert (json.loads(result.out)["state"], result.err) == ("done", "")


def test_hyperparameters_are_passed_by_name_or_as_one_object(run: Run, folder: Path) -> None:
    assert run(f"fit mine.py:Model {ONE} --hparams lr=0.0,width=2 --save kept.pt").code == 0
    assert torch.load("kept.pt", weights_only=True)["state_dict"]["layer.weight"].shape == (2, 2)
    assert run(f"fit mine.py:Whole {ONE} --hparams lr=0.5").code == 0


def test_what_was_saved_is_tested_with_its_own_hyperparameters(run: Run, folder: Path) -> None:
    for name, typed in (("Model", "--hparams width=2 --hparams lr=0.01"), ("Whole", "--hparams lr=0.01")):
        fitted = json.loads(run(f"fit mine.py:{name} {ONE} {typed} --test --save out/kept.pt --json").out)
        tested = json.loads(run(f"test mine.py:{name} --weights out/kept.pt --json").out)
        assert tested["metrics"] == {"test_sum": fitted["metrics"]["test_sum"]}
        assert Path("out/meta_tags.csv").read_text().startswith("key,value")


def test_a_seed_is_that_of_the_first_weights_too(run: Run, folder: Path) -> None:
    for name in ("one.pt", "two.pt"):
        run(f"fit mine.py:Model {ONE} --seed 3 --save {name}")
    one, two = (torch.load(name, weights_only=True)["state_dict"] for name in ("one.pt", "two.pt"))
    assert same_bits(one, two)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("fit", "MODULE:CLASS"),
        ("fit mine.py", "must be MODULE:CLASS"),
        ("fit :Model", "must be MODULE:CLASS"),
        ("fit theirs.py:Model", "theirs.py: there is no such file"),
        ("fit theirs.models:Model", "there is no module theirs"),
        ("fit mine.py:Modle", "mine.py has no Modle. Did you mean Model?"),
        ("fit mine.py:xyz", "It has Model, Whole, Raising"),
        ("fit mine.py:number", "must be a class or a function that returns a torch.nn.Module"),
        ("fit mine.py:three", "must return a torch.nn.Module, but returned 3"),
        ("fit mine.py:Whole", "cannot be called with no --hparams: missing a required argument: 'hparams'"),
        ("fit mine.py:Model --hparams depth=3", "unexpected keyword argument 'depth'. Its signature is Model(width=1, lr=0.1)"),
        ("fit mine.py:ready --hparams lr=3", "must be a class or a function that returns a torch.nn.Module"),
        ("fit mine.py:Model --hparams lr", "--hparams lr: must be name=value"),
        ("fit mine.py:Model --hparams lr=1,lr=2", "lr occurs twice"),
        ("fit mine.py:Model --train_percent_check 0.01", "train_percent_check=0.01"),
        ("fit mine.py:Model --device nowhere", "device='nowhere'"),
        ("fit mine.py:Model --save .", "is a folder"),
        ("fit mine.py:Model --max_epochs 3", "Its name here is --max_nb_epochs"),
        ("test mine.py:Model", "--weights requires an argument"),
        ("test mine.py:Model --weights none.pt", "none.pt: No such file"),
        ("test mine.py:Model --weights mine.py", "cannot be read as weights"),
    ],
)
def test_what_cannot_be_run_is_one_message_and_exit_code_2(run: Run, folder: Path, typed: str, says: str) -> None:
    result = run(typed)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err


def test_a_checkpoint_of_another_trainer_is_imported_and_begun_with(run: Run, folder: Path) -> None:
    weights = {"layer.weight": torch.full((4, 2), 0.5), "layer.bias": torch.zeros(4)}
    torch.save({"state_dict": weights, "hyper_parameters": {"width": 4}, "epoch": 3, "callbacks": {}}, "theirs.ckpt")
    result = run("import theirs.ckpt")
    assert (result.code, result.out) == (0, "theirs/000000\n")
    assert "imported: weights: 2 tensors with 12 numbers\nimported: hyperparameters: width\nimported: epoch 3\n" in result.err
    assert "ignored: callbacks\nA new run can start with these weights: fit --weights. " in result.err
    assert json.loads(run("test mine.py:Model --weights theirs/000000 --json").out)["metrics"] == {"test_sum": 4.0}
    begun = run(f"fit mine.py:Model {ONE} --weights theirs/000000 --hparams width=4,lr=0.0 --test --json")
    assert json.loads(begun.out)["metrics"]["test_sum"] == 4.0
    for wrong, says in (("import nothing.ckpt", "nothing.ckpt: cannot be read"), ("import theirs", "theirs is a folder")):
        result = run(wrong)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert says in result.err


@pytest.mark.filterwarnings("always::fsmtrain.FsmtrainWarning")
@pytest.mark.parametrize("name", ["Model", "made"])
@pytest.mark.parametrize("command", ["fit", "test"])
def test_saved_hyperparameters_without_a_parameter_are_a_warning_as_for_load_from_checkpoint(
    run: Run, folder: Path, command: str, name: str
) -> None:
    """A checkpoint of an older version of the class, say. Typed ones without a parameter stay an error."""
    width = 3 if name == "made" else 1
    weights = {"layer.weight": torch.zeros(width, 2), "layer.bias": torch.zeros(width)}
    hparams = {"depth": 3} if name == "made" else {"width": 1, "depth": 3}
    torch.save({"state_dict": weights, "hparams": hparams}, "kept.pt")
    result = run(f"{command} mine.py:{name} --weights kept.pt {ONE}")
    assert result.code == 0, result.err
    assert f"{name} has no parameter for the saved hyperparameters depth=3, so they are not used" in result.err
    result = run(f"{command} mine.py:{name} --weights kept.pt --hparams depth=3")
    assert result.code == 2
    assert "unexpected keyword argument 'depth'" in result.err


def test_weights_of_another_model_are_refused(run: Run, folder: Path) -> None:
    run(f"fit mine.py:made {ONE} --save wide.pt --quiet")
    result = run("test mine.py:Model --weights wide.pt")
    assert result.code == 2
    assert "the weights do not fit this Model" in result.err


def test_a_failure_of_the_run_names_the_place_and_exits_with_1(run: Run, folder: Path) -> None:
    result = run(f"fit mine.py:NoLoss {ONE} --quiet --save never.pt")
    assert result.code == 1
    message, place, *way = result.err.splitlines()
    assert message.startswith("error: training_step returned a str")
    assert place == "in state train_batch, epoch 0, batch 0, optimizer 0"
    assert way[0].startswith("the last transitions")
    assert not Path("never.pt").exists()


def test_a_mistake_of_the_users_is_shown_from_their_own_first_line_on(run: Run, folder: Path) -> None:
    result = run(f"fit mine.py:Raising {ONE} --quiet")
    assert result.code == 1
    assert re.findall(r"in (\w+)\n", result.err) == ["training_step", "mistake"]
    assert "a mistake of the user's\nin state train_batch, epoch 0, batch 0" in result.err


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("x = (", "'(' was never closed"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("target", ["broken.py:Model", "broken:Model"])
def test_a_module_that_cannot_be_imported_shows_its_own_lines_alone(
    run: Run, folder: Path, source: str, shows: str, target: str
) -> None:
    Path("broken.py").write_text(source)
    result = run(f"fit {target}")
    assert result.code == 1
    assert shows in result.err
    assert "fsmtrain" not in result.err
    assert source in result.err


def test_a_type_error_of_the_users_own_is_no_wrong_call(run: Run, folder: Path) -> None:
    result = run("fit mine.py:Unmakeable")
    assert result.code == 1
    assert "in the user's own code" in result.err


def test_a_file_does_not_take_the_place_of_a_module_of_its_name(run: Run, folder: Path) -> None:
    Path("json.py").write_text(Path("mine.py").read_text())
    assert run(f"fit json.py:Model {ONE} --quiet").code == 0
    import json as still

    assert hasattr(still, "loads")


def test_a_module_beside_the_file_is_found(run: Run, folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/beside.py").write_text(Path("mine.py").read_text())
    Path("sub/main.py").write_text("from beside import Model")
    assert run(f"fit sub/main.py:Model {ONE} --quiet").code == 0


def test_only_a_name_is_looked_up_and_nothing_is_evaluated(folder: Path) -> None:
    for target in ("mine.py:Model()", "mine.py:Model.fit()", "mine.py:__import__('os')", "mine.py:"):
        with pytest.raises(UsageError, match="must be MODULE:CLASS"):
            import_target.import_target(target)


def test_checkpoint_flags_save_and_the_same_command_resumes(run: Run, folder: Path) -> None:
    command = "fit mine.py:Model --max_nb_epochs 2 --seed 1 --checkpoint.every_n_steps 4 --checkpoint.save_top_k 2 --json"
    result = run(f"{command} --resume")
    assert "this command has no run to resume in runs; a new run begins" in result.err
    assert sorted(path.name for path in Path("runs/0/checkpoints").iterdir()) == ["000002", "000003", "000004"]
    again = run(f"{command} --resume")
    assert "resumed from runs/0/checkpoints/000004 " in again.err
    assert again.out == result.out
    assert sorted(path.name for path in Path("runs").iterdir()) == ["0"]
    changed = run(f"{command} --resume_from runs/0 --accumulate_grad_batches 2")
    assert (changed.code, changed.out) == (2, "")
    assert "accumulate_grad_batches=2, checkpoint has 1. Use the saved value, or pass --no-resume-strict." in changed.err
    assert run(f"{command} --resume_from runs/0 --accumulate_grad_batches 2 --no-resume-strict").code == 0
    assert run(f"{command} --resume_from runs/0/checkpoints").code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["0", "1"]


def test_a_wrong_way_to_save_is_one_message(run: Run, folder: Path) -> None:
    result = run("fit mine.py:Model --checkpoint.every_n_steps 0")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "ModelCheckpoint(every_n_steps=0): must be an int >= 1, or None" in result.err


def test_a_signal_stops_the_run_at_the_place_it_names_and_saves(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Machine.run

    def interrupted(machine: Machine) -> Any:
        for transition in machine:
            if transition.batch_nb == 5:
                break
        signal.raise_signal(signal.SIGINT)
        return plain(machine)

    monkeypatch.setattr(Machine, "run", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = run(f"fit mine.py:Model {ONE} --save cut.pt --json")
    assert result.code == 130
    assert "stopped after round_end (epoch 0, batch 5, optimizer 0), at global_step 6\n" in result.err
    assert json.loads(result.out)["stop_reason"] == "requested"
    assert torch.load("cut.pt", weights_only=True)["global_step"] == 6
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_after_a_signal_is_printed_on_its_own_line(run: Run, folder: Path) -> None:
    Path("killed.py").write_text(
        "import signal\nfrom mine import Model\n\n\nclass Killed(Model):\n    def training_step(self, batch, batch_nb):\n"
        "        signal.raise_signal(signal.SIGINT)\n        raise RuntimeError('a worker has gone')\n"
    )
    result = run(f"fit killed.py:Killed {ONE} --quiet")
    assert result.code == 130
    assert "stopped by RuntimeError: a worker has gone\nin state train_batch, epoch 0, batch 0, optimizer 0\n" in result.err
    assert "Traceback" not in result.err


DATA = """

class Data:
    def __init__(self, n=4, token=""):
        self.n = n

    def train_dataloader(self):
        return [torch.ones(1, 2)[None]] * self.n

    val_dataloader = test_dataloader = train_dataloader


few = Data(2)
"""


def test_a_data_module_has_the_loaders_and_its_own_hyperparameters(run: Run, folder: Path) -> None:
    with Path("mine.py").open("a") as file:
        file.write(DATA)
    steps = {"--data mine.py:Data": 4, "--data mine.py:Data --data_hparams n=3": 3, "--data mine.py:few": 2}
    for typed, expected in steps.items():
        found = json.loads(run(f"fit mine.py:Model {ONE} {typed} --save w.pt --json").out)
        assert found["global_step"] == expected
    tested = json.loads(run("test mine.py:Model --weights w.pt --data mine.py:Data --json").out)
    assert list(tested["metrics"]) == ["test_sum"]


def test_a_config_file_may_name_the_data_module_and_its_secrets_are_masked(run: Run, folder: Path) -> None:
    with Path("mine.py").open("a") as file:
        file.write(DATA)
    Path("run.toml").write_text('data = "mine.py:Data"\nmax_nb_epochs = 1\n[data_hparams]\nn = 3\ntoken = "hush-hush"\n')
    assert json.loads(run("fit mine.py:Model --config run.toml --json").out)["global_step"] == 3
    assert json.loads(run("fit mine.py:Model --config run.toml --data_hparams n=5 --json").out)["global_step"] == 5
    assert "hush" not in Path("runs/0/config.toml").read_text()
    Path("run.toml").write_text("data = 3")
    assert "--config run.toml: data=3: must be MODULE:NAME." in run("fit mine.py:Model --config run.toml").err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--data mine.py:Model --data_hparams width=", "--data_hparams width="),
        ("--data mine.py:Data --data_hparams m=3", "Its signature is Data(n=4, token='')"),
        ("--data mine.py:few --data_hparams n=3", "--data_hparams are for a class or a function"),
        ("--data mine.py:three", "must be, or return, an object with at least one of the methods train_dataloader"),
        ("--data_hparams n=3", "Pass --data MODULE:CLASS"),
    ],
)
def test_what_is_no_data_module_is_one_message(run: Run, folder: Path, typed: str, says: str) -> None:
    with Path("mine.py").open("a") as file:
        file.write(DATA)
    result = run(f"fit mine.py:Model {ONE} {typed} --quiet")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
