"""The documented flags: one test per heading of the page, in its order, then every code block of the page.

The page is ``data/documented_flags.rst``. Its code is completed by imports, a model and data, and by what its ellipses leave
out. It is run statement by statement, so that each of the alternatives in a block is seen.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import itertools
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import rnn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Guards, Options, State, Trainer, TrainingModule, every_n_batches
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import MetricError, ModelError, OptionsError, SizesError, UsageError
from tests.models import (
    Adversaries,
    Linear,
    Recurrent,
    Smooth,
    TransitionRecorder,
    Validated,
    batches,
    machine_of,
    same_bits,
    sequences,
    stream,
    trained,
    twins,
    weights,
)

PAGE = Path(__file__).parents[1] / "data" / "documented_flags.rst"


# ---- the page


class Block(NamedTuple):
    """A code block and the heading that it stands under."""

    heading: str
    code: str


def headings(page: str) -> list[str]:
    """The headings of the page, chapters included."""
    lines = page.splitlines()
    return [line for line, below in itertools.pairwise(lines) if line and re.fullmatch("={3,}|-{3,}", below)]


def code_blocks(page: str) -> list[Block]:
    """The code blocks of the page, in its order."""
    found: list[Block] = []
    known, heading = headings(page), ""
    code: list[str] | None = None
    for line in [*page.splitlines(), "the end"]:
        if code is not None and line and not line.startswith(" "):
            found.append(Block(heading, without_comments(code)))
            code = None
        if line in known:
            heading = line
        elif line.startswith(".. code-block:: python"):
            code = []
        elif code is not None:
            code.append(line)
    return found


def without_comments(lines: list[str]) -> str:
    """Code that begins in the first column. The comments go, because some are indented otherwise than the code."""
    return textwrap.dedent("\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")))


BLOCKS = code_blocks(PAGE.read_text())


# ---- what completes its code


class Model(Validated):
    """Two layers in a row, each of which may have an optimizer of its own; checks return the losses that they are told to."""

    def __init__(self, hparams: Any = None, val_losses: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.hparams = hparams
        self.first, self.layer = nn.Linear(3, 3), nn.Linear(3, 1)
        self.val_losses = val_losses
        self.validations_done = 0

    def loss(self, batch: Any) -> Any:
        """The mean squared error."""
        x, y = batch
        return F.mse_loss(self.layer(self.first(x)), y)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int = 0) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        if not self.val_losses:
            return super().validation_step(batch, batch_nb)
        return {"val_loss": self.val_losses[min(self.validations_done, len(self.val_losses) - 1)]}

    def on_validation_end(self, metrics: Any) -> None:
        """Count the validation."""
        self.validations_done += 1

    def train_dataloader(self) -> Any:
        return batches(20)

    def val_dataloader(self) -> Any:
        return batches(4)

    test_dataloader = val_dataloader


class SequencesModel(Recurrent):
    """An LSTM on packed sequences."""

    def loss(self, x: Any, y: Any) -> Any:
        """The mean squared error over all time steps."""
        out, _ = self.lstm(x)
        return F.mse_loss(self.head(out.data), y.data)


class Watch(TransitionRecorder):
    """Writes down every transition, and the learning rates with which each epoch trains."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[list[float]] = []

    def on_epoch_start(self, machine: Any) -> None:
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in machine.optimizers])


def quiet_trainer(*left_out: Any, **flags: Any) -> Trainer:
    """A trainer with these flags, for one epoch by default, and the recorder of its calls."""
    assert left_out in ((), (...,))
    return Trainer(**{"max_nb_epochs": 1, "progress_bar": False, "device": "cpu", "callbacks": [Watch()], **flags})


def watch_of(trainer: Trainer) -> Watch:
    """What has been written down of a quiet trainer's runs."""
    [watch] = trainer.callbacks
    assert isinstance(watch, Watch)
    return watch


class LeftOut:
    """The page's optimizers and schedulers. Its ellipses stand for the parameters of a model's parts, one after the other."""

    def __init__(self, *parts: nn.Module) -> None:
        self.parts = parts
        self.optimizers: list[Optimizer] = []
        self.schedulers: list[Any] = []
        self.names = {"Adam": self.adam, "SGD": self.sgd, "ReduceLROnPlateau": self.plateau, "LambdaLR": self.lambda_lr}

    def adam(self, *left_out: Any) -> Optimizer:
        """`Adam` at a rate of 0.01."""
        assert left_out == (...,)
        self.optimizers.append(Adam(self.parts[len(self.optimizers)].parameters(), lr=0.01))
        return self.optimizers[-1]

    def sgd(self, *left_out: Any) -> Optimizer:
        """`SGD` at a rate of 0.1."""
        assert left_out == (...,)
        self.optimizers.append(SGD(self.parts[len(self.optimizers)].parameters(), lr=0.1))
        return self.optimizers[-1]

    def plateau(self) -> ReduceLROnPlateau:
        """Halves the rate after every epoch whose metric is no improvement."""
        scheduler = ReduceLROnPlateau(self._next_optimizer(), factor=0.5, patience=0)
        self.schedulers.append(scheduler)
        return scheduler

    def lambda_lr(self) -> LambdaLR:
        """Halves the rate after every epoch."""
        scheduler = LambdaLR(self._next_optimizer(), lambda epoch: 0.5**epoch)
        self.schedulers.append(scheduler)
        return scheduler

    def _next_optimizer(self) -> Optimizer:
        return self.optimizers[len(self.schedulers)]


def run(code: str, **names: Any) -> dict[str, list[Any]]:
    """Run code with all of fsmtrain's public names and these; returns each value that a name was given, in order."""
    namespace: dict[str, Any] = {"__name__": "documented_flags", "rnn": rnn}
    exec("from fsmtrain import *", namespace)
    namespace |= {"Trainer": quiet_trainer, **names}
    given = defaultdict(list)
    for statement in ast.parse(code).body:
        exec(compile(ast.Module([statement], []), PAGE.name, "exec"), namespace)
        if isinstance(statement, ast.FunctionDef):
            given[statement.name].append(namespace[statement.name])
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                assert isinstance(target, ast.Name)
                given[target.id].append(namespace[target.id])
    return given


def blocks_under(heading: str) -> list[str]:
    """The code under a heading."""
    return [block.code for block in BLOCKS if block.heading == heading]


def trainers_under(heading: str, **names: Any) -> list[Trainer]:
    """The trainers that the code under a heading makes."""
    return [trainer for code in blocks_under(heading) for trainer in run(code, **names)["trainer"]]


def a_model_with(method: Callable[..., Any], base: type[TrainingModule] = Model) -> Any:
    """A class with a method of the page's."""
    return type("ModelOfThePage", (base,), {method.__name__: method})


def configured(code: str) -> Iterator[Any]:
    """A model for each ``configure_optimizers`` in some code."""
    for statement in ast.parse(code).body:
        torch.manual_seed(0)
        model = Model(val_losses=(1.0,))
        several = ast.unparse(statement).count("(...)") > 1
        left_out = LeftOut(model.first, model.layer) if several else LeftOut(model)
        [configure] = run(ast.unparse(statement), **left_out.names)["configure_optimizers"]
        model.__class__ = a_model_with(configure)
        yield model


# ---- Training loop


def test_training_loop() -> None:
    """One batch after the other, validations in between, early stopping at the epoch's end, then the test."""
    visits = TransitionRecorder()
    flags: dict[str, Any] = {"max_nb_epochs": 1, "accumulate_grad_batches": 2, "val_check_interval": 1.0}
    trained(Validated(), batches(4), batches(2), batches(2), callbacks=[visits], **flags)
    forward = ["fetch", "train_batch", "backward"]
    assert [str(state) for state in visits.states] == [
        *("start", "sanity_val"),
        *(*forward, "accumulate", "round_end"),
        *(*forward, "step", "round_end"),
        *("val_check", "epoch_end", "early_stop", "test"),
    ]


def test_accumulate_gradients() -> None:
    """K batches of N samples train like one of K * N; the last window of an epoch may be shorter, and then weighs as much."""
    [default] = trainers_under("Accumulate gradients")
    default.fit(Model())
    assert watch_of(default).batches_of(State.STEP) == list(range(10))
    assert default.accumulate_grad_batches == Options().accumulate_grad_batches == 1

    small, large = (model.double() for model in twins(Smooth))
    visits = TransitionRecorder()
    trained(small, batches(18, 2, dtype=torch.float64), accumulate_grad_batches=4, max_nb_epochs=1, callbacks=[visits])
    assert visits.batches_of(State.STEP) == [3, 7, 8]  # windows of 4, 4 and 1 batches of 2
    trained(large, batches(18, 8, dtype=torch.float64), max_nb_epochs=1)  # batches of 8, 8 and 2
    torch.testing.assert_close(weights(small), weights(large), rtol=0, atol=1e-12)

    visits = TransitionRecorder()
    trained(Linear(), batches(8), accumulate_grad_batches={1: 2, 3: 4}, max_nb_epochs=5, callbacks=[visits])
    steps = [visit.current_epoch for visit in visits.seen if visit.source is State.STEP]
    assert [steps.count(epoch) for epoch in range(5)] == [4, 2, 2, 1, 1]


@pytest.mark.parametrize("bad", [0, -1, True, 2.0, {-1: 2}, {0: 0}])
def test_accumulate_gradients_takes_an_int_from_1_on(bad: Any) -> None:
    with pytest.raises(OptionsError, match="accumulate_grad_batches"):
        Options(accumulate_grad_batches=bad)


def test_packed_sequences_as_inputs() -> None:
    """Packed, sequences of different lengths train as they do one by one."""
    [code] = blocks_under("Packed sequences as inputs")
    given = run(completed(code))
    [collate_fn], [training_step] = given["collate_fn"], given["training_step"]
    lengths = (3, 5, 2, 4)  # not sorted
    data = [(torch.randn(n, 2, dtype=torch.float64), torch.randn(n, 1, dtype=torch.float64)) for n in lengths]
    x, y = collate_fn(data)
    assert [len(sequence) for sequence in x] == [len(sequence) for sequence in y] == [3, 5, 2, 4]

    by_hand, model = (model.double() for model in twins(a_model_with(training_step, SequencesModel)))
    optimizer = by_hand.configure_optimizers()
    for _ in range(3):
        for i in (0, 2):
            errors = [by_hand.head(by_hand.lstm(x)[0]) - y for x, y in data[i : i + 2]]
            torch.cat(errors).square().mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    trained(model, DataLoader(data, batch_size=2, collate_fn=collate_fn), max_nb_epochs=3)  # type: ignore[arg-type]
    torch.testing.assert_close(weights(model), weights(by_hand), rtol=0, atol=1e-12)


def test_truncated_backpropagation_through_time() -> None:
    """Splits of two time steps, the last one shorter; what one returns as hiddens the next one gets, without its graph."""

    class Watched(Recurrent):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, Any]] = []
            self.returned: list[Any] = []

        def training_step(self, batch: Any, batch_nb: int, hiddens: Any = None) -> Any:
            self.seen.append((batch[0].shape[1], hiddens))
            output = super().training_step(batch, batch_nb, hiddens)
            self.returned.append(output["hiddens"])
            return output

    without, by_two = trainers_under("Truncated Backpropagation Through Time")
    assert without.truncated_bptt_steps is Options().truncated_bptt_steps is None
    loader = sequences(4, size=2, steps=5)

    model = Watched()
    without.fit(model, loader)
    assert model.seen == [(5, None), (5, None)]

    model = Watched()
    by_two.fit(model, loader)
    assert [length for length, _ in model.seen] == [2, 2, 1, 2, 2, 1]
    assert watch_of(by_two).batches_of(State.STEP) == [0, 0, 0, 1, 1, 1]
    for i, (_, hiddens) in enumerate(model.seen):
        if i in (0, 3):
            assert hiddens is None
        else:
            assert same_bits(hiddens, model.returned[i - 1])
            assert [h.requires_grad for h in model.returned[i - 1]] == [True, True]
            assert [h.requires_grad for h in hiddens] == [False, False]

    second_only = trained(Recurrent(), loader, max_nb_epochs=1, truncated_bptt_steps=2, accumulate_grad_batches=2)
    assert second_only.counters.optimizer_steps == [3]  # a backward of each of 6 splits, a step for every second one


def test_truncated_backpropagation_through_time_can_be_split_by_the_model() -> None:
    """The first of the page's notes: override ``tbptt_split_batch``."""

    class ByRows(Recurrent):
        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            return [tuple(part[i : i + split_size] for part in batch) for i in range(0, len(batch[0]), split_size)]

        def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
            shapes.append(tuple(batch[0].shape))
            return super().training_step(batch, batch_nb, None)

    shapes: list[Any] = []
    trained(ByRows(), sequences(3, size=3, steps=5), max_nb_epochs=1, truncated_bptt_steps=2)
    assert shapes == [(2, 5, 2), (1, 5, 2)]


def test_truncated_backpropagation_through_time_needs_a_hiddens_argument() -> None:
    """The second of the page's notes."""
    with pytest.raises(ModelError, match="training_step has no parameter 'hiddens'"):
        machine_of(Linear(), sequences(3, size=3, steps=5), truncated_bptt_steps=2)


def test_force_training_for_min_or_max_epochs() -> None:
    [default] = trainers_under("Force training for min or max epochs")
    assert (default.min_nb_epochs, default.max_nb_epochs) == (Options().min_nb_epochs, Options().max_nb_epochs) == (1, 1000)
    result = default.fit(Linear(), batches(2))
    assert (result.counters.epochs_done, result.stop_reason) == (1000, StopReason.MAX_EPOCHS)

    worse = (1.0, 2.0)
    flags = {"early_stop_callback": EarlyStopping(patience=1), "val_check_interval": 1.0, "max_nb_epochs": 9}
    for least, done in ((0, 2), (1, 2), (5, 5)):
        result = quiet_trainer(min_nb_epochs=least, **flags).fit(Model(val_losses=worse))
        assert (result.counters.epochs_done, result.stop_reason) == (done, StopReason.EARLY_STOPPING)

    trainer = quiet_trainer(max_nb_epochs=0)
    assert trainer.fit(Model()).stop_reason is StopReason.NO_EPOCHS
    assert watch_of(trainer).states == [State.START, State.SANITY_VAL, State.SANITY_VAL]
    with pytest.raises(OptionsError, match="min_nb_epochs=3, max_nb_epochs=2"):
        Options(min_nb_epochs=3, max_nb_epochs=2)


def test_early_stopping_callback() -> None:
    """The third validation is the best, so the sixth ends the run: at once, in the middle of its epoch."""
    by_flag, by_callback = trainers_under(
        "Early stopping callback", Trainer=lambda **flags: quiet_trainer(max_nb_epochs=99, **flags)
    )
    assert by_flag.early_stopping == by_callback.early_stopping == EarlyStopping()
    for trainer in (by_flag, by_callback):
        result = trainer.fit(Model(val_losses=(5.0, 4.0, 3.0, 3.0, 3.0, 3.0)))  # 10 batches: a check after 9 of them
        assert result.stop_reason is StopReason.EARLY_STOPPING
        assert (result.counters.validations_done, result.counters.epochs_done, result.counters.global_step) == (6, 5, 59)
        last = watch_of(trainer).seen[-1]
        assert (last.current_epoch, last.batch_nb) == (5, 8)

    def stops_after(*losses: float, **rule: Any) -> int:
        callback = EarlyStopping(**{"patience": 2, **rule})
        flags = {"early_stop_callback": callback, "max_nb_epochs": len(losses), "val_check_interval": 1.0}
        return quiet_trainer(**flags).fit(Model(val_losses=losses)).counters.validations_done

    assert stops_after(1.0, 0.9, 0.8, 0.7, 0.6) == 5
    assert stops_after(1.0, 0.9, 0.8, 0.7, 0.6, min_delta=0.5) == 3
    assert stops_after(1.0, 0.9, 0.8, 0.7, 0.6, mode="max") == 3
    assert stops_after(1.0, 2.0, 0.5, 2.0, 2.0, 0.1) == 5
    assert stops_after(1.0, math.nan, math.nan, 0.5) == 3
    assert stops_after(1.0, 2.0, 2.0, patience=0) == 2

    with pytest.raises(MetricError, match=r"'accuracy', which the validation did not return. It returned 'val_loss'"):
        quiet_trainer(early_stop_callback=EarlyStopping(monitor="accuracy")).fit(Model())


def test_force_disable_early_stop() -> None:
    disabled = trainers_under("Force disable early stop", Trainer=lambda **flags: quiet_trainer(max_nb_epochs=7, **flags))
    assert Options().early_stop_callback is None
    for trainer in (*disabled, quiet_trainer(max_nb_epochs=7, early_stop_callback=False)):
        result = trainer.fit(Model(val_losses=(1.0, 2.0, 3.0, math.nan)))
        assert (result.counters.epochs_done, result.stop_reason) == (7, StopReason.MAX_EPOCHS)


def test_gradient_clipping() -> None:
    """Gradients of norm 5 and 10, of two optimizers, are clipped each by itself."""

    class Sloped(TrainingModule):
        def __init__(self) -> None:
            super().__init__()
            self.slopes = torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0])
            self.points = nn.ParameterList(torch.zeros(2) for _ in self.slopes)

        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
            return batch * self.points[optimizer_i] @ self.slopes[optimizer_i]

        def configure_optimizers(self) -> Any:
            return [SGD([point], lr=1.0) for point in self.points]

    def went(trainer: Trainer, *factors: float) -> list[Tensor]:
        model = Sloped()
        trainer.fit(model, list(map(torch.tensor, factors)))
        return [-point.detach() for point in model.points]

    off, on = trainers_under("Gradient Clipping")
    assert off.gradient_clip_val == Options().gradient_clip_val == 0
    plain = [torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0])]
    assert same_bits(went(off, 1.0), plain)
    assert same_bits(went(quiet_trainer(gradient_clip_val=None), 1.0), plain)

    clipped = [torch.tensor([0.3, 0.4]), torch.tensor([0.3, 0.4])]
    torch.testing.assert_close(went(on, 1.0), clipped)
    of_the_mean = went(quiet_trainer(gradient_clip_val=4.0, accumulate_grad_batches=2), 0.5, 1.5)  # mean norms 5 and 10
    torch.testing.assert_close(of_the_mean, [torch.tensor([2.4, 3.2]), torch.tensor([2.4, 3.2])])
    with pytest.raises(OptionsError, match="gradient_clip_val=-1"):
        Options(gradient_clip_val=-1)


def test_learning_rate_scheduling() -> None:
    """At the end of each epoch every scheduler steps once, a plateau scheduler with the epoch's val_loss; none in between."""
    [code] = blocks_under("Learning rate scheduling")
    rates = []
    for model in configured(code):
        trainer = quiet_trainer(max_nb_epochs=4)
        trainer.fit(model)
        rates.append(watch_of(trainer).rates)
    assert rates == [
        [[0.01], [0.01], [0.01], [0.01]],
        [[0.01], [0.01], [0.005], [0.0025]],  # the first epoch's loss is the best, no later one is better
        [[0.01, 0.1], [0.01, 0.05], [0.005, 0.025], [0.0025, 0.0125]],
    ]

    class EveryStep(Linear):
        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=1e-3)
            return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.5), "interval": "step", "frequency": 2}]

    machine = trained(EveryStep(), batches(96), max_nb_epochs=1, accumulate_grad_batches=4)  # 48 batches, 12 steps
    assert machine.optimizers[0].param_groups[0]["lr"] == 1e-3 * 0.5**6


def test_use_multiple_optimizers_like_gans() -> None:
    """In turns at each batch, the second on what the first has just learnt, as in the page's loop: to the bit."""
    configurations, loop = blocks_under("Use multiple optimizers (like GANs)")
    kinds = []
    for model in configured(configurations):
        trainer = quiet_trainer()
        trainer.fit(model)
        machine = trainer.machine
        kinds.append(([type(o) for o in machine.optimizers], [type(s) for s in machine.lr_schedulers]))
        assert [s.optimizer for s in machine.lr_schedulers] == machine.optimizers[: len(machine.lr_schedulers)]
    assert kinds == [([Adam], []), ([Adam, SGD], []), ([Adam, SGD], [ReduceLROnPlateau])]

    class Told(Adversaries):
        """Tells of each of its steps, and which parameters require grad meanwhile."""

        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
            told.append(("train_step", optimizer_i))
            trained_now = {name.split(".")[0] for name, p in self.named_parameters() if p.requires_grad}
            alone.append(trained_now == {("generator", "discriminator")[optimizer_i]})
            return super().training_step(batch, batch_nb, optimizer_i)

    by_the_page, model = twins(Told)
    told: list[Any] = []
    alone: list[bool] = []
    data = batches(6)

    def tell_of(optimizers: list[Any]) -> None:
        for i, optimizer in enumerate(optimizers):
            optimizer.register_step_post_hook(lambda *_, i=i: told.append(("step", i)))

    machine = machine_of(model, data, max_nb_epochs=2)
    tell_of(machine.optimizers)
    machine.run()
    by_the_machine, told, isolated, alone = told, [], alone, []

    class Batches:
        """The data, remembering the batch in hand for ``train_step``."""

        def __iter__(self) -> Iterator[Any]:
            for self.batch in data:
                yield self.batch

    class Schedulers:
        """Named as one of them, as on the page."""

        def __iter__(self) -> Iterator[Any]:
            return iter([self])

        def step(self) -> None:
            told.append("schedulers")

    optimizers = list(by_the_page.configure_optimizers())
    tell_of(optimizers)
    in_hand = Batches()

    def train_step(optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        by_the_page.training_step(in_hand.batch, 0, optimizers.index(optimizer)).backward()

    run(loop, epochs=range(2), data=in_hand, optimizers=optimizers, scheduler=Schedulers(), train_step=train_step)
    turns = [("train_step", 0), ("step", 0), ("train_step", 1), ("step", 1)]
    assert told == [*(3 * turns), "schedulers", *(3 * turns), "schedulers"]
    assert by_the_machine == 6 * turns
    assert same_bits(weights(model), weights(by_the_page))
    assert isolated == [True] * 12
    assert all(p.requires_grad for p in model.parameters())


def test_set_how_much_of_the_training_set_to_check_1_100() -> None:
    def trained_on(trainer: Trainer, n: int) -> int:
        trainer.fit(Linear(), batches(n, size=1))
        return len(watch_of(trainer).batches_of(State.TRAIN_BATCH))

    whole, tenth = trainers_under("Set how much of the training set to check (1-100%)")
    assert whole.train_percent_check == Options().train_percent_check == 1.0
    assert (trained_on(whole, 45), trained_on(tenth, 45)) == (45, 4)
    assert trained_on(quiet_trainer(train_percent_check=0.29), 100) == 29
    assert trained_on(quiet_trainer(train_percent_check=0.5, overfit_pct=0.2), 45) == 9
    for bad in (0.0, 1.5, -0.1, True):
        with pytest.raises(OptionsError, match="train_percent_check"):
            Options(train_percent_check=bad)
    with pytest.raises(SizesError, match=r"train_percent_check=0\.01.*0\.023"):
        trained_on(quiet_trainer(train_percent_check=0.01), 45)


def steps_of(model: Any, n: int, **given: Any) -> list[tuple[int, int]]:
    """The optimizer and the batch, in its epoch, of each real step of a model's optimizers on `n` batches."""
    machine = machine_of(model, batches(n, size=1), **given)
    steps: list[tuple[int, int]] = []
    for i, optimizer in enumerate(machine.optimizers):
        optimizer.register_step_post_hook(lambda *_, i=i: steps.append((i, machine.counters.batch_nb)))
    machine.run()
    return steps


def test_step_optimizers_at_arbitrary_intervals() -> None:
    """By the page's overrides of ``optimizer_step``, or by guards; and the page's warm-up."""
    intervals, warm_up = blocks_under("Step optimizers at arbitrary intervals")
    plain, alternating = run(intervals)["optimizer_step"]
    left, right = twins(Adversaries)
    left.__class__ = a_model_with(plain, Adversaries)
    every_turn = [(i, batch_nb) for batch_nb in range(3) for i in (0, 1)]
    assert steps_of(left, 3, max_nb_epochs=1) == steps_of(right, 3, max_nb_epochs=1) == every_turn
    assert same_bits(weights(left), weights(right))

    model = a_model_with(alternating, Adversaries)()
    assert steps_of(model, 10, max_nb_epochs=1) == [(0, 0), (1, 0), (0, 2), (0, 4), (1, 4), (0, 6), (0, 8), (1, 8)]
    assert all(p.grad is not None for p in model.parameters())  # of batch 9: an override zeroes for itself

    later, at_once = every_n_batches(4), every_n_batches(4, first=0)
    first_of = [batch_nb for i, batch_nb in steps_of(Linear(), 13, max_nb_epochs=1, guards=Guards(step={0: later}))]
    assert first_of == [3, 7, 11, 12]  # the epoch's end closes the last window
    first_of = [batch_nb for i, batch_nb in steps_of(Linear(), 13, max_nb_epochs=1, guards=Guards(step={0: at_once}))]
    assert first_of == [0, 4, 8, 12]
    steps = steps_of(Adversaries(), 8, max_nb_epochs=1, guards=Guards(step={0: every_n_batches(2), 1: later}))
    assert steps == [(0, 1), (0, 3), (1, 3), (0, 5), (0, 7), (1, 7)]

    [warm] = run(warm_up)["optimizer_step"]
    rates: list[float] = []

    def watched(parameters: Any) -> Optimizer:
        optimizer = SGD(parameters, lr=0.2)
        optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
        return optimizer

    model = a_model_with(warm)(hparams=type("HParams", (), {"learning_rate": 0.2}))
    model.configure = watched
    quiet_trainer().fit(model, batches(510, size=1))
    assert rates[:2] == [1 / 500 * 0.2, 2 / 500 * 0.2]
    assert rates == [min(1.0, (step + 1) / 500) * 0.2 for step in range(510)]


# ---- Validation loop


def test_validation_loop() -> None:
    """In eval mode and without gradients; a validation in mid-window changes no gathered gradient and no mode."""

    class Watched(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Dropout()

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.frozen.eval()
            return super().training_step(batch, batch_nb)

        def on_validation_start(self) -> None:
            gradients.append(copy.deepcopy(self.layer.weight.grad))

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            modes.append((self.training, self.layer.training, self.frozen.training, torch.is_grad_enabled()))
            return {"val_loss": torch.tensor(float(batch_nb)), "log": {"logged": 2 * batch_nb}}

        def on_validation_end(self, metrics: Any) -> None:
            gradients.append(copy.deepcopy(self.layer.weight.grad))
            modes.append((self.training, self.layer.training, self.frozen.training, torch.is_grad_enabled()))

    gradients: list[Any] = []
    modes: list[Any] = []
    flags = {"max_nb_epochs": 1, "accumulate_grad_batches": 2, "val_check_interval": 1, "nb_sanity_val_steps": 0}
    machine = trained(Watched(), batches(4), batches(6), **flags)
    assert modes == 2 * [*(3 * [(False, False, False, False)]), (True, True, False, True)]
    assert gradients[0] is not None
    assert same_bits(gradients[0], gradients[1])
    assert machine.result.metrics["val_loss"] == 1.0  # the mean of 0, 1, 2
    assert machine.result.metrics["logged"] == 2.0


@pytest.mark.parametrize(("loaders", "expected"), [([3], [0, 1, 2]), ([2, 1], [[0, 1], [10]])])
def test_validation_loop_ends_with_all_outputs(loaders: list[int], expected: list[Any]) -> None:
    """``validation_end`` gets one list, or with several loaders a list of lists; so does ``test_end``."""

    class Ended(Linear):
        def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
            return 10 * dataloader_i + batch_nb

        def validation_end(self, outputs: Any) -> Any:
            ends.append(outputs)
            return {"val_loss": 7.0}

        test_step, test_end = validation_step, validation_end

    ends: list[Any] = []
    evaluated = [batches(n, size=1) for n in loaders]
    machine = trained(Ended(), batches(2), evaluated, evaluated, max_nb_epochs=1)
    assert ends == [expected, expected, expected]  # sanity pass, check, test
    assert machine.result.metrics["val_loss"] == 7.0


def epochs_with_checks(trainer: Trainer) -> list[int]:
    """Return the epochs in which a trainer validates."""
    trainer.fit(Model(), batches(4), batches(1))
    return [visit.current_epoch for visit in watch_of(trainer).seen if visit.source is State.VAL_CHECK]


def test_check_validation_every_n_epochs() -> None:
    once = {"val_check_interval": 1.0}
    [default] = trainers_under(
        "Check validation every n epochs", Trainer=lambda **flags: quiet_trainer(max_nb_epochs=3, **once, **flags)
    )
    assert default.check_val_every_n_epoch == Options().check_val_every_n_epoch == 1
    assert epochs_with_checks(default) == [0, 1, 2]
    assert epochs_with_checks(quiet_trainer(max_nb_epochs=6, check_val_every_n_epoch=2, **once)) == [1, 3, 5]
    with pytest.raises(OptionsError, match="check_val_every_n_epoch=0"):
        Options(check_val_every_n_epoch=0)


class TwoLoaders(Linear):
    """Notes which loader each batch that it evaluates comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> None:
        """One batch."""
        self.seen.append(dataloader_i)

    test_step = validation_step


def test_set_how_much_of_the_validation_set_to_check() -> None:
    def checked(trainer: Trainer, *sizes: int) -> list[int]:
        model = TwoLoaders()
        trainer.fit(model, batches(20), [batches(n, size=1) for n in sizes])
        assert len(model.seen) == len(watch_of(trainer).batches_of(State.VAL_CHECK))
        return [model.seen.count(i) for i in range(len(sizes))]

    unsane = {"nb_sanity_val_steps": 0}
    whole, tenth = trainers_under(
        "Set how much of the validation set to check", Trainer=lambda **flags: quiet_trainer(**unsane, **flags)
    )
    assert whole.val_percent_check == Options().val_percent_check == 1.0
    assert (checked(whole, 45), checked(tenth, 45)) == ([45], [4])
    assert checked(quiet_trainer(val_percent_check=0.5, **unsane), 2, 6) == [1, 3]
    assert checked(quiet_trainer(val_percent_check=0, **unsane), 2, 6) == [0, 0]
    assert checked(quiet_trainer(val_percent_check=1.0, overfit_pct=0.5, **unsane), 2, 6) == [1, 3]
    with pytest.raises(SizesError, match=r"val_percent_check=0\.3.*0\.5"):
        checked(quiet_trainer(val_percent_check=0.3), 2, 6)


def test_set_how_much_of_the_test_set_to_check() -> None:
    def tested(trainer: Trainer, *sizes: int) -> list[int]:
        model = TwoLoaders()
        trainer.test(model, [batches(n, size=1) for n in sizes])
        assert len(model.seen) == len(watch_of(trainer).batches_of(State.TEST))
        return [model.seen.count(i) for i in range(len(sizes))]

    whole, tenth = trainers_under("Set how much of the test set to check")
    assert whole.test_percent_check == Options().test_percent_check == 1.0
    assert (tested(whole, 45), tested(tenth, 45)) == ([45], [4])
    assert tested(quiet_trainer(test_percent_check=0.5), 2, 6) == [1, 3]
    assert tested(quiet_trainer(test_percent_check=0.0, overfit_pct=0.5), 2, 6) == [1, 3]
    with pytest.raises(UsageError, match="test_percent_check=0 switches it off"):
        tested(quiet_trainer(test_percent_check=0), 2, 6)


def test_set_validation_check_frequency_within_1_training_epoch() -> None:
    def checks(trainer: Trainer, loader: Any) -> list[int]:
        trainer.fit(Model(), loader, batches(1))
        return watch_of(trainer).batches_of(State.VAL_CHECK)

    nearly_once, quarters, hundreds = trainers_under("Set validation check frequency within 1 training epoch")
    assert nearly_once.val_check_interval == Options().val_check_interval == 0.95
    assert checks(nearly_once, batches(20)) == [8]
    assert checks(quarters, batches(20)) == [1, 3, 5, 7, 9]
    assert checks(hundreds, batches(500)) == [99, 199]
    assert checks(quiet_trainer(val_check_interval=0.5), batches(14)) == [2, 5]
    assert checks(quiet_trainer(val_check_interval=3, max_nb_epochs=2), batches(14)) == [2, 5, 2, 5]  # begins anew
    assert checks(quiet_trainer(val_check_interval=100), stream(500)) == [99, 199]
    with pytest.raises(SizesError, match=r"val_check_interval=0\.25: the train loader has no length"):
        checks(quiet_trainer(val_check_interval=0.25), stream(20))
    with pytest.raises(SizesError, match="val_check_interval=11: an epoch has 10 batches"):
        checks(quiet_trainer(val_check_interval=11), batches(20))
    for bad in (0, 0.0, 1.5, True):
        with pytest.raises(OptionsError, match="val_check_interval"):
            Options(val_check_interval=bad)


def test_set_the_number_of_validation_sanity_steps() -> None:
    """Before the first epoch, and without a trace: the metrics are thrown away, and the run trains the same bits."""

    def tried(trainer: Trainer, *sizes: int) -> int:
        trainer.fit(TwoLoaders(), batches(20), [batches(n, size=1) for n in sizes])
        states = watch_of(trainer).states
        assert State.SANITY_VAL not in states[states.index(State.FETCH) :]
        return states.count(State.SANITY_VAL)

    [default] = trainers_under("Set the number of validation sanity steps")
    assert default.nb_sanity_val_steps == Options().nb_sanity_val_steps == 5
    assert tried(default, 45) == 5
    assert tried(quiet_trainer(), 3) == 3
    assert tried(quiet_trainer(), 2, 6) == 7
    assert tried(quiet_trainer(nb_sanity_val_steps=0), 45) == tried(quiet_trainer(nb_sanity_val_steps=-1), 45) == 0

    class Noisy(Validated):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss(batch) * torch.rand(())

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            torch.rand(3)
            return super().validation_step(batch, batch_nb)

    with_it, without = twins(Noisy)
    for model, steps in ((with_it, 5), (without, 0)):
        torch.manual_seed(3)
        flags = {"check_val_every_n_epoch": 2, "max_nb_epochs": 1, "nb_sanity_val_steps": steps}
        machine = trained(model, batches(8, shuffle=True), batches(8, shuffle=True), **flags)
        assert "val_loss" not in machine.result.metrics
    assert same_bits(weights(with_it), weights(without))


# ---- Testing loop


def test_testing_loop() -> None:
    """In eval mode and without gradients, and the model is left as it was."""

    class Watched(Validated):
        def test_step(self, batch: Any, batch_nb: int) -> Any:
            modes.append((self.training, self.layer.training, torch.is_grad_enabled()))
            return {"test_loss": batch_nb, "progress_bar": {"shown": 1.0}}

    modes: list[Any] = []
    model = Watched()
    before = weights(model)
    assert quiet_trainer().test(model, batches(6)) == {"shown": 1.0, "test_loss": 1.0}
    assert modes == 3 * [(False, False, False)]
    assert model.training
    assert model.layer.training
    assert same_bits(weights(model), before)


def saved_as_on_the_page(model: Any, folder: Path) -> None:
    """Fit a model, and write its weights and hyperparameters to the places that the page names, in this folder."""
    trainer = quiet_trainer()
    trainer.fit(model)
    trainer.save_checkpoint(folder / "pytorch_checkpoint.ckpt")
    version = folder / "test_tube" / "experiment" / "version"
    version.mkdir(parents=True)
    (folder / "meta_tags.csv").rename(version / "meta_tags.csv")


def without_a_gpu() -> Any:
    """Where there is no GPU, ``on_gpu=True`` says so."""
    return contextlib.nullcontext() if torch.cuda.is_available() else pytest.warns(UserWarning, match="there is no GPU")


def test_run_test_set(tmp_path: Path) -> None:
    """Right after training, on the weights as they are; or on a model that was loaded, with a new trainer's options."""
    after_training, after_loading = blocks_under("Run test set")
    trainer, model = quiet_trainer(), Model()
    run(after_training, trainer=trainer, model=model)
    assert trainer.machine.result.stop_reason is StopReason.MAX_EPOCHS
    assert watch_of(trainer).states.count(State.TEST) == 2
    with torch.no_grad():
        by_hand = torch.stack([model.loss(batch) for batch in model.test_dataloader()]).mean().item()
    assert trainer.test() == {"test_loss": by_hand}

    fitted = Model({"learning_rate": 0.02, "layers": 2, "deep": True, "name": "a"})
    saved_as_on_the_page(fitted, tmp_path)
    code = after_loading.replace("/path/to", tmp_path.as_posix())
    with without_a_gpu():
        given = run(code, MyLightningModule=Model)
    [loaded], [trainer] = given["model"], given["trainer"]
    assert (loaded.hparams.learning_rate, loaded.hparams.layers) == (0.02, 2)
    assert (loaded.hparams.deep, loaded.hparams.name) == (True, "a")
    assert not loaded.training
    assert same_bits(weights(loaded), weights(fitted))
    assert watch_of(trainer).states.count(State.TEST) == 2
    assert State.FETCH not in watch_of(trainer).states

    with pytest.raises(UsageError, match="there is no model yet"):
        quiet_trainer().test()
    with pytest.raises(UsageError, match="Linear has no method test_step"):
        quiet_trainer().test(Linear(), batches(4))


# ---- the page as a whole


def test_each_heading_has_its_test_in_the_order_of_the_page() -> None:
    """All but the last one, which only points to examples."""
    *known, last = headings(PAGE.read_text())
    assert last == "Examples"
    wanted = ["test_" + re.sub(r"\W+", "_", heading).strip("_").lower() for heading in known]
    there = [name for name in globals() if name in wanted]
    assert there == wanted
    assert len(wanted) == 20  # 17 headings in 3 chapters


def completed(code: str) -> str:
    """The page's code with the last line of its ``training_step``, which the page leaves to the reader."""
    return f"{code}\n    return self.loss(x, y)" if "def training_step" in code else code


def test_the_page_has_twenty_code_blocks() -> None:
    assert len(BLOCKS) == PAGE.read_text().count(".. code-block::") == 20
    statements = [len(ast.parse(block.code).body) for block in BLOCKS]
    assert statements == [1, 2, 2, 1, 3, 1, 2, 3, 3, 1, 2, 2, 1, 1, 2, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("nth", range(20), ids=lambda nth: f"{nth + 1}-{BLOCKS[nth].heading}")
def test_every_code_block_runs_and_what_it_makes_trains_a_model(nth: int, tmp_path: Path) -> None:
    """Each trainer fits and tests, each method is a model's while it is fitted; nothing that a block makes is left untried."""
    code = completed(BLOCKS[nth].code).replace("/path/to", tmp_path.as_posix())
    saved_as_on_the_page(Model({"learning_rate": 0.1}), tmp_path)
    model = Model()
    [optimizer] = [model.configure_optimizers()]
    fitted = quiet_trainer()

    def train_step(optimizer: Optimizer) -> None:
        model.loss(next(iter(model.train_dataloader()))).backward()

    names: dict[str, Any] = {"MyLightningModule": Model, "model": model, "trainer": fitted}
    names |= {"epochs": range(1), "data": range(3), "optimizers": [optimizer], "train_step": train_step}
    names |= {"scheduler": [LambdaLR(optimizer, lambda epoch: 0.5**epoch)]}
    before = weights(model)
    with without_a_gpu() if "on_gpu=True" in code else contextlib.nullcontext():
        given = run(code, **names)
    if not given:  # code that trains by itself: both with the names above
        assert not same_bits(weights(model), before)
    for name, values in given.items():
        for value in values:
            try_out(name, value, given)


class Stopping(Model):
    """Requests a stop after its second epoch."""

    def on_epoch_end(self) -> None:
        """Ask."""
        if self.current_epoch == 1:
            self.trainer.stop()


def try_out(name: str, value: Any, given: dict[str, list[Any]]) -> None:
    """Fit a model with something that the page makes; an unknown thing is an error."""
    if name == "trainer":
        assert isinstance(value, Trainer)
        if value.truncated_bptt_steps is not None:
            assert value.fit(Recurrent(), sequences(2, size=2, steps=5)).counters.optimizer_steps == [3]
        else:
            assert value.fit(Stopping(), batches(200), batches(20)).state.is_final
        assert value.test(Model(), batches(20)).keys() == {"test_loss"}
    elif name == "early_stop_callback":
        assert isinstance(value, EarlyStopping)
    elif name == "model":
        assert quiet_trainer().fit(value).state is State.DONE
    elif name == "collate_fn":
        assert value([(1, 2), (3, 4)]) == ([1, 3], [2, 4])
    elif name == "training_step":
        data: Any = [(torch.randn(n, 2), torch.randn(n, 1)) for n in (4, 2, 3)]
        loader = DataLoader(data, batch_size=3, collate_fn=given["collate_fn"][0])
        assert trained(a_model_with(value, SequencesModel)(), loader, max_nb_epochs=1).state is State.DONE
    elif name == "optimizer_step":
        hparams = type("HParams", (), {"learning_rate": 0.1})
        assert quiet_trainer().fit(a_model_with(value)(hparams)).counters.global_step == 10
    else:
        assert name == "configure_optimizers"  # each of them was made by `configured`
        code = next(block.code for block in BLOCKS if name in block.code)
        assert len(list(configured(code))) == 3
