"""Several `ModelCheckpoint`s in one run: each saves by its own rule to its own folder, and a kill loses nothing of either."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, FsmtrainError, Guards, Machine, ModelCheckpoint, State, Trainer
from fsmtrain.errors import OptionsError
from fsmtrain.runtime import actions
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.save_rules import split_callbacks, with_saved_folders
from tests.models import TransitionRecorder, Validated, batches, machine_of, same_bits, weights

BY_LOSS = ModelCheckpoint(monitor="val_loss")
BY_ACCURACY = ModelCheckpoint(monitor="acc", mode="max", save_top_k=2)
EACH_THIRD = ModelCheckpoint(every_n_steps=3, save_top_k=2)
RULES = (BY_LOSS, BY_ACCURACY, EACH_THIRD)
NAMES = ("checkpoints", "checkpoints-acc", "checkpoints-every-3-steps")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Scored(Validated):
    """Validations return a loss and an accuracy by their number, which is saved: the last is not the best by either."""

    checks: torch.Tensor
    losses, accuracies = (3.0, 1.0, 2.0, 4.0), (0.5, 0.1, 0.9, 0.7)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("checks", torch.tensor(0))

    def validation_end(self, outputs: Any) -> Any:
        n = int(self.checks)
        self.checks += 1
        return {"val_loss": self.losses[n % 4], "acc": self.accuracies[n % 4]}


def run_of(callbacks: Iterable[object] = (), rules: Iterable[object] = RULES, **flags: Any) -> Machine:
    torch.manual_seed(0)
    given = {"max_nb_epochs": 4, "nb_sanity_val_steps": 0, "val_check_interval": 1.0, "seed": 1, "runs_dir": "runs", **flags}
    return machine_of(Scored(), batches(10), batches(2), callbacks=[*rules, *callbacks], **given)


def checks_of(machine: Machine) -> int:
    assert isinstance(machine.model, Scored)
    return int(machine.model.checks)


def kept(where: str = "runs/0") -> dict[str, list[int]]:
    """The batches of the run, from 1, whose checkpoints are in each folder."""
    return {
        name: [about["batches_begun"] for about in Store(Path(where, name)).metadata().values()]
        for name in NAMES
        if Path(where, name).is_dir()
    }


EXPECTED = {"checkpoints": [10, 20], "checkpoints-acc": [15, 20], "checkpoints-every-3-steps": [15, 18]}


def test_each_rule_has_its_folder_and_keeps_its_own() -> None:
    visits = TransitionRecorder()
    machine = run_of([visits])
    machine.run()
    assert len(visits.batches_of(State.SAVE)) == 4 + 5  # batches 5, 10, 15, 20; and 3, 6, 9, 12, 18
    assert kept() == EXPECTED
    by_loss, by_accuracy = machine.best_checkpoints["val_loss"], machine.best_checkpoints["acc"]
    assert (by_loss.score, by_loss.epoch, by_accuracy.score, by_accuracy.epoch) == (1.0, 1, 0.9, 2)
    assert machine.best_checkpoint == by_loss
    assert by_accuracy.path.parent == Path("runs/0/checkpoints-acc").absolute()
    assert json.loads(Path("runs/0/run.json").read_text())["checkpoint_folders"] == list(NAMES)


def test_a_checkpoint_of_two_rules_is_written_once() -> None:
    run_of().run()
    shared = {path.stat().st_ino for path in Path("runs/0/checkpoints").glob("*/*")}
    for name in ("checkpoints-acc", "checkpoints-every-3-steps"):
        [newest] = [Store(Path("runs/0", name)).load(n).path for n in Store(Path("runs/0", name)).numbers()[-1:]]
        inodes = {path.stat().st_ino for path in newest.glob("*")}
        assert (inodes <= shared) is (name == "checkpoints-acc")  # batch 20 is due by both; 18 by the steps alone


def test_where_files_cannot_be_linked_they_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*paths: Any, **more: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    run_of().run()
    assert kept() == EXPECTED
    one, other = (Store(Path("runs/0", name)).load_newest() for name in NAMES[:2])
    assert one is not None
    assert other is not None
    assert same_bits(one.tree, other.tree)


@pytest.mark.slow
def test_two_rules_plan_and_check_as_they_run() -> None:
    for rules in (
        (BY_LOSS, BY_ACCURACY),
        (BY_LOSS, EACH_THIRD),
        RULES,
        (EACH_THIRD, ModelCheckpoint(every_n_batches=2), BY_LOSS),
    ):
        visits = TransitionRecorder()
        machine = run_of([visits], rules)
        planned = [(group.epoch.saves, group.count) for group in machine.plan().epochs]
        assert not machine.check().findings
        machine.run()
        batches_saved = [nb for saves, times in planned for _ in range(times) for nb in saves]
        assert visits.batches_of(State.SAVE) == batches_saved


def test_the_test_takes_the_best_of_the_first_or_of_the_one_that_is_passed() -> None:
    trainer = Trainer(max_nb_epochs=4, val_check_interval=1.0, nb_sanity_val_steps=0, quiet=True, callbacks=RULES)
    trainer.fit(Scored(), batches(10), batches(2))
    for path, epoch in (("best", 1), (trainer.machine.best_checkpoints["acc"], 2)):
        trainer.validate(None, batches(2), ckpt_path=path)
        assert checks_of(trainer.machine) == epoch + 1


class StopAfter(Callback):
    """Asks to stop after so many transitions, or raises an error there."""

    def __init__(self, n: int) -> None:
        self.n = n

    def on_transition(self, machine: Machine, transition: Any) -> None:
        self.n -= 1
        if self.n == 0:
            machine.stop()


@pytest.mark.slow
def test_a_run_that_is_stopped_anywhere_resumes_to_the_same_bits_and_best() -> None:
    visits = TransitionRecorder()
    whole = run_of([visits], runs_dir="whole")
    whole.run()
    for n in range(3, len(visits.seen), 61):
        run_of([StopAfter(n)], runs_dir=f"runs{n}").run()
        machine = run_of(runs_dir=f"runs{n}")
        machine.resume(f"runs{n}/0")
        machine.run()
        assert same_bits(weights(machine.model), weights(whole.model)), n
        assert machine.counters == whole.counters
        found, best = machine.best_checkpoints, whole.best_checkpoints
        assert {name: found[name].score for name in found} == {name: best[name].score for name in best}


class Killed(BaseException):
    """Stands for a kill in the middle of a save."""


@pytest.mark.parametrize("at", [0, 1, 4, 7, 11, 12, 15, 18, 19, 20, 21, 40])  # of 21; after 40 nothing has been killed
def test_a_kill_between_two_folders_keeps_what_a_whole_run_keeps(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The n-th commit to a folder, link to another, or removal does not happen, and nothing after it."""
    steps = 0

    def dies(method: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > at:
                raise Killed
            return method(*args)

        return call

    class Waits(Callback):
        """Lets each save end before the next batch, and ends the run where it is killed."""

        def on_transition(self, machine: Machine, transition: Any) -> None:
            writer = machine._checkpoints._writer
            if writer is not None:
                writer.wait()
            if steps > at:
                raise Killed

    with monkeypatch.context() as patch:
        for name in ("_commit", "_remove"):
            patch.setattr(Store, name, dies(getattr(Store, name)))
        try:
            run_of([Waits()]).run()
        except Killed:
            pass
        else:
            assert kept() == EXPECTED
            return
    if not Path("runs/0/checkpoints").is_dir() and not Path("runs/0/checkpoints-every-3-steps").is_dir():
        return  # nothing to resume
    machine = run_of()
    if not any(any(batches) for batches in kept().values()):
        return
    machine.resume("runs/0")
    machine.run()
    assert kept() == EXPECTED
    assert checks_of(machine) == 4


def test_the_newest_of_all_folders_is_resumed() -> None:
    rules = (ModelCheckpoint(dirpath="one", every_n_batches=100), ModelCheckpoint(dirpath="two", every_n_steps=4))
    run_of((), rules, max_nb_epochs=2).run()
    assert [about["batches_begun"] for about in Store("two").metadata().values()] == [8]
    assert [about["batches_begun"] for about in Store("one").metadata().values()] == [10]  # where the run ended
    resumed = run_of((), rules, max_nb_epochs=3)
    with pytest.warns(UserWarning, match="max_nb_epochs"):
        resumed.resume()
    assert resumed.counters.batches_begun == 10
    resumed.run()
    for path in Path("one").glob("0*"):
        path.rename(path.with_name("gone"))
    other = run_of((), rules, max_nb_epochs=3)
    other.resume_from("auto")
    assert other.counters.batches_begun == 12


def test_each_rule_has_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(actions, "monotonic", lambda: float(next(now)))
    rules = (ModelCheckpoint(every_n_seconds=8, save_top_k=-1), ModelCheckpoint(every_n_seconds=14, save_top_k=-1))
    run_of((), rules).run()
    one, two = (
        [about["batches_begun"] for about in Store(Path("runs/0", name)).metadata().values()]
        for name in ("checkpoints", "checkpoints-every-14-seconds")
    )
    # With each batch the second clock is looked at, and then the first: at 2, 3; 4, 5; ... They began at 1 and 0.
    assert (one, two) == ([4, 8, 12, 16, 20], [8, 15])


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (
            (BY_LOSS, BY_ACCURACY, ModelCheckpoint(monitor="acc")),
            r"ModelCheckpoint\(monitor='acc'\) both save to 'checkpoints-acc'",
        ),
        (
            (ModelCheckpoint(dirpath="a", save_top_k=2), ModelCheckpoint(dirpath="b/../a")),
            r"both save to .*/a'.*dirpath='best'",
        ),
    ],
)
def test_two_rules_in_one_folder_are_refused(rules: Any, says: str) -> None:
    with pytest.raises(FsmtrainError, match=says):
        run_of((), rules)


@pytest.mark.parametrize(("runs_dir", "own"), [("runs", "runs/0/checkpoints"), (None, "checkpoints")])
def test_the_folder_of_one_is_not_in_that_of_the_run_if_another_saves_there(runs_dir: str | None, own: str) -> None:
    with pytest.raises(OptionsError, match=r"both save to .*checkpoints'"):
        run_of((), (BY_LOSS, ModelCheckpoint(dirpath=own)), runs_dir=runs_dir).run()
    assert not list(Path().glob("**/manifest.json"))


def test_rules_may_be_added_and_left_out_when_a_run_is_resumed() -> None:
    run_of((), (BY_LOSS,), max_nb_epochs=2).run()
    machine = run_of()
    with pytest.warns(UserWarning, match="differ"):
        machine.resume("runs/0", strict=False)
    machine.run()
    assert machine.best_checkpoints["val_loss"].score == 1.0
    assert machine.best_checkpoints["acc"].score == 0.9
    again = run_of((), (EACH_THIRD,), max_nb_epochs=5)
    with pytest.warns(UserWarning, match="no ModelCheckpoint ranks by 'val_loss' any more"):
        again.resume("runs/0", strict=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((BY_LOSS, BY_ACCURACY), (BY_ACCURACY, BY_LOSS)),
        ((BY_LOSS, BY_ACCURACY), (BY_ACCURACY,)),
        ((BY_LOSS, EACH_THIRD, BY_ACCURACY), (EACH_THIRD, BY_ACCURACY, BY_LOSS)),
        ((BY_LOSS,), (BY_ACCURACY, BY_LOSS)),
        ((ModelCheckpoint(save_top_k=-1),), (BY_LOSS, ModelCheckpoint(save_top_k=-1))),
    ],
)
def test_a_rule_goes_on_in_its_folder_whatever_is_listed_before_it_now(before: Any, after: Any) -> None:
    """Otherwise a rule deletes what another one kept there, and what is the best by it is looked for elsewhere."""
    first = run_of((), before)
    first.run()
    best, files = first.best_checkpoints, set(Path("runs/0").glob("checkpoints*/*/manifest.json"))
    machine = run_of((), after, max_nb_epochs=5)
    Scored.losses, Scored.accuracies = (9.0,) * 4, (0.0,) * 4  # the fifth is not the best by any
    try:
        machine.resume("runs/0", strict=False)
        machine.run()
    finally:
        Scored.losses, Scored.accuracies = (3.0, 1.0, 2.0, 4.0), (0.5, 0.1, 0.9, 0.7)
    for monitor in best.keys() & machine.best_checkpoints.keys():
        assert machine.best_checkpoints[monitor] == best[monitor]
    if before[0].save_top_k == -1:
        assert files <= set(Path("runs/0").glob("checkpoints*/*/manifest.json"))
    assert all(one.path.is_dir() for one in best.values())


def test_a_manifest_names_no_folder_elsewhere() -> None:
    [rule] = split_callbacks([BY_LOSS], Guards())[1]
    for name in ("../elsewhere", "/tmp/x", "checkpoints/../..", "checkpoints-a/b"):
        [changed] = with_saved_folders([rule], {"rules": {name: "val_loss"}}, [])
        assert changed.folder_name == "checkpoints"


def test_one_rule_has_the_files_that_it_always_had() -> None:
    run_of((), (BY_LOSS,)).run()
    [*_, newest] = Store("runs/0/checkpoints").metadata().values()
    assert not {"folders", "rules"} & newest.keys()
    assert kept() == {"checkpoints": [10, 20]}
