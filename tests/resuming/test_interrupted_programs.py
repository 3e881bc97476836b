"""A signal ends the program as it would have without us, once the run is saved and its hooks are done; ``stop()`` returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback, Loop, Machine, ModelCheckpoint, Options, Sizes, State, Trainer
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import CheckpointError, UsageError
from tests.models import Perceptron, batches, machine_of

INTERRUPTS: dict[str, tuple[type[BaseException], int]] = {
    "SIGINT": (KeyboardInterrupt, 130),
    "SIGTERM": (SystemExit, 143),
    "SIGUSR1": (SystemExit, 138),
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    numbers = [signal.Signals[name] for name in INTERRUPTS]
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == {**before, signal.SIGINT: signal.default_int_handler}  # each run has put its handlers back


class SignalAt(Callback):
    """Sends a signal to this process after so many transitions, and logs its hooks."""

    def __init__(self, name: str, n: int) -> None:
        self.number, self.n, self.ended = signal.Signals[name], n, 0
        self.states: list[State] = []

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.states.append(transition.source)
        if len(self.states) == self.n:
            signal.raise_signal(self.number)

    def on_run_end(self, machine: Any) -> None:
        self.ended += 1


def run_with(*callbacks: object, **more: Any) -> Machine:
    given = {"max_nb_epochs": 2, "val_check_interval": 2, "nb_sanity_val_steps": 1, **more}
    return machine_of(Perceptron(), batches(8), batches(4), batches(4), callbacks=callbacks, **given)


# ---- every signal, at every transition


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("name", INTERRUPTS)
def test_a_signal_after_any_transition_ends_the_program_once_the_run_is_saved(name: str, saves: bool) -> None:
    exception, code = INTERRUPTS[name]
    whole = SignalAt(name, 0)
    run_with(whole).run()
    for n in range(1, len(whole.states)):
        at = SignalAt(name, n)
        machine = run_with(at, *([ModelCheckpoint(dirpath=f"{n}")] if saves else []))
        with pytest.raises(exception) as caught:
            machine.run()
        assert getattr(caught.value, "code", code) == code
        assert at.ended == 1
        if machine.state is State.STOPPED:
            assert machine.result.stop_reason is StopReason.REQUESTED
            assert any(Path(f"{n}").glob("0*")) is saves
        else:  # it came when nothing was left to stop
            assert n > len(whole.states) - 2 - saves


@pytest.mark.parametrize("name", INTERRUPTS)
def test_a_run_stopped_by_a_signal_resumes_in_the_same_bits(name: str) -> None:
    whole = run_with()
    whole.run()
    machine = run_with(SignalAt(name, 20), ModelCheckpoint(dirpath="here"), seed=1)
    with pytest.raises(INTERRUPTS[name][0]):
        machine.run()
    resumed = run_with(SignalAt(name, 0), ModelCheckpoint(dirpath="here"), seed=1)
    resumed.resume()
    assert resumed.run().stop_reason is StopReason.MAX_EPOCHS
    assert resumed.global_step == whole.global_step


# ---- the ways to run


class Signalling(Perceptron):
    """Sends a signal in each of its steps."""

    def __init__(self, name: str, *where: str) -> None:
        super().__init__()
        self.name, self.where = name, where

    def send(self, where: str) -> None:
        if where in self.where:
            signal.raise_signal(signal.Signals[self.name])

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.send("validation_step")
        return super().validation_step(batch, batch_nb)

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.send("test_step")
        return {"test_loss": self.loss(batch)}

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.send("training_step")
        return super().training_step(batch, batch_nb)


def trainer_of(*callbacks: object, **more: Any) -> Trainer:
    return Trainer(callbacks=callbacks, max_nb_epochs=2, quiet=True, runs_dir=None, device="cpu", **more)


WAYS: dict[str, Callable[[Signalling], Any]] = {
    "fit": lambda model: trainer_of().fit(model, batches(8), batches(4)),
    "fit, saving": lambda model: trainer_of(ModelCheckpoint()).fit(model, batches(8), batches(4)),
    "test": lambda model: trainer_of().test(model, batches(8)),
    "validate": lambda model: trainer_of().validate(model, batches(8)),
    "run": lambda model: machine_of(model, batches(8), batches(4), max_nb_epochs=2).run(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", INTERRUPTS)
def test_every_way_to_run_ends_the_program(way: str, name: str) -> None:
    exception, code = INTERRUPTS[name]
    model = Signalling(name, "training_step", "validation_step", "test_step")
    with pytest.raises(exception) as caught:
        WAYS[way](model)
    assert getattr(caught.value, "code", code) == code
    assert model.training


def test_a_sweep_ends_with_the_run_that_was_interrupted() -> None:
    begun = []

    def sweep() -> None:
        for fold in range(3):
            begun.append(fold)
            trainer_of().fit(Signalling("SIGINT", *(["training_step"] if fold == 1 else [])), batches(8))

    with pytest.raises(KeyboardInterrupt):
        sweep()
    assert begun == [0, 1]


def test_stop_returns_a_result() -> None:
    class Stops(Callback):
        def on_batch_end(self, machine: Machine) -> None:
            machine.stop()

    trainer = trainer_of(Stops())
    assert trainer.fit(Perceptron(), batches(8)).stop_reason is StopReason.REQUESTED


def test_stepping_by_hand_and_the_bare_loop_install_no_handler() -> None:
    machine = run_with()
    handlers = [signal.getsignal(signal.Signals[name]) for name in INTERRUPTS]
    machine.advance()
    for _ in machine:
        assert [signal.getsignal(signal.Signals[name]) for name in INTERRUPTS] == handlers
    for _ in Loop(Options(max_nb_epochs=1), Sizes(train=3)):
        assert [signal.getsignal(signal.Signals[name]) for name in INTERRUPTS] == handlers


@pytest.mark.parametrize("saves", [False, True])
def test_a_handler_of_the_program_s_own_is_left_alone(saves: bool) -> None:
    received = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        at = SignalAt("SIGTERM", 5)
        result = run_with(at, *([ModelCheckpoint()] if saves else [])).run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert result.stop_reason is StopReason.MAX_EPOCHS
    assert received == [signal.SIGTERM]


def test_a_test_within_a_hook_goes_on_and_the_fit_around_it_ends_the_program() -> None:
    tested = []

    class Tests(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            tested.append(trainer.test(Signalling("SIGTERM", "test_step"), batches(8)))

    trainer = trainer_of(Tests(), ModelCheckpoint())
    with pytest.raises(SystemExit):
        trainer.fit(Perceptron(), batches(8))
    assert len(tested) == 1
    assert "test_loss" in tested[0]


# ---- errors meanwhile


@pytest.mark.parametrize("name", INTERRUPTS)
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_run_end"])
def test_a_hook_that_fails_meanwhile_is_the_error_with_the_interrupt_as_its_context(name: str, hook: str) -> None:
    exception, code = INTERRUPTS[name]
    failing = Callback()

    def fail(*_: Any) -> None:
        raise ValueError("planted")

    setattr(failing, hook, fail)
    machine = run_with(SignalAt(name, 8), failing, ModelCheckpoint())
    with pytest.raises(ValueError, match="planted") as caught:
        machine.run()
    assert type(caught.value.__context__) is exception
    assert getattr(caught.value.__context__, "code", code) == code
    assert any(machine.checkpoints.glob("0*"))


class Unsaveable(Callback):
    """A callback whose state no checkpoint can hold."""

    def state_dict(self) -> Any:
        return {"file": object()}

    def load_state_dict(self, state: Any) -> None:
        pass

    def on_run_start(self, machine: Any) -> None:
        pass


@pytest.mark.parametrize("cause", ["state", "disk"])
def test_a_save_that_fails_meanwhile_is_the_error_with_the_interrupt_in_its_context(cause: str) -> None:
    at = SignalAt("SIGTERM", 8)
    if cause == "disk":
        Path("file").write_text("")
    rule = ModelCheckpoint(dirpath="file/checkpoints" if cause == "disk" else "here")
    machine = run_with(at, *([Unsaveable()] if cause == "state" else []), rule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CheckpointError, match="could not be saved where it stopped") as caught:
            machine.run()
    context: Any = caught.value
    while not isinstance(context, SystemExit):
        context = context.__context__
    assert context.code == 143
    assert at.ended == 1


def test_a_save_that_fails_after_stop_is_a_warning() -> None:
    class Stops(Callback):
        def on_batch_end(self, machine: Machine) -> None:
            machine.stop()

    machine = run_with(Stops(), Unsaveable(), ModelCheckpoint())
    with pytest.warns(UserWarning, match="could not be saved where it stopped"):
        machine.run()
    assert machine.result.stop_reason is StopReason.REQUESTED


# ---- the way on


@pytest.mark.parametrize("by_signal", [False, True])
def test_run_after_a_stop_says_how_to_continue(by_signal: bool) -> None:
    class Stops(Callback):
        def on_batch_end(self, machine: Machine) -> None:
            if by_signal:
                signal.raise_signal(signal.SIGINT)
            machine.stop()

    machine = run_with(Stops(), ModelCheckpoint())
    if by_signal:
        with pytest.raises(KeyboardInterrupt, match=r"call resume\('.*checkpoints/000000'\)"):
            machine.run()
    else:
        machine.run()
    for again in (machine.run, machine.advance):
        with pytest.raises(UsageError, match=r"call resume\('.*checkpoints/000000'\) before run\(\)"):
            again()
    resumed = run_with(ModelCheckpoint())
    resumed.resume("checkpoints/000000")
    assert resumed.run().counters.batches_begun == 8


def test_the_way_on_is_that_of_the_caller() -> None:
    class Stops(Callback):
        def on_batch_end(self, machine: Machine) -> None:
            machine.stop()

    unsaved = run_with(Stops())
    unsaved.run()
    with pytest.raises(UsageError, match=r"callbacks=\[ModelCheckpoint\(\)\]"):
        unsaved.run()
    trainer = Trainer(callbacks=[Stops(), ModelCheckpoint()], quiet=True, max_nb_epochs=1, device="cpu")
    model = Perceptron()
    trainer.fit(model, batches(8))
    with pytest.warns(UserWarning, match=r"create a new trainer with resume='.*runs/0'"):
        trainer.fit(model, batches(8))
    path = trainer.machine.resume_hint.split("'")[1]
    again = Trainer(callbacks=[ModelCheckpoint()], quiet=True, max_nb_epochs=1, device="cpu", resume=path)
    assert again.fit(Perceptron(), batches(8)).counters.batches_begun == 4


# ---- real processes

SCRIPT = textwrap.dedent(
    """
    import os, signal, sys, torch
    from fsmtrain import Callback, ModelCheckpoint, Trainer
    from tests.models import Perceptron, batches

    class Kill(Callback):
        def on_batch_end(self, machine):
            if machine.counters.batch_nb == 1:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))

    torch.set_num_threads(1)
    callbacks = [Kill(), *([ModelCheckpoint(dirpath="saved")] if sys.argv[2] == "saves" else [])]
    for fold in range(2):
        trainer = Trainer(max_nb_epochs=3, callbacks=callbacks, runs_dir=None, quiet=sys.argv[3] == "quiet", progress_bar=False)
        trainer.fit(Perceptron(), batches(8))
        print("SUCCESS", flush=True)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["plain", "saves"])
@pytest.mark.parametrize("name", INTERRUPTS)
def test_a_program_ends_with_the_exit_code_of_the_signal(name: str, mode: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    noise = "loud" if mode == "saves" else "quiet"
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, mode, noise], env=environment, capture_output=True, text=True, check=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    code = INTERRUPTS[name][1]
    assert process.returncode == (-signal.SIGINT if name == "SIGINT" else code), process.stderr
    assert "SUCCESS" not in process.stdout
    assert any(Path("saved").glob("0*")) is (mode == "saves")
    if mode == "saves":
        assert f"create a new trainer with resume='{Path('saved/000000').absolute()}'" in process.stderr
