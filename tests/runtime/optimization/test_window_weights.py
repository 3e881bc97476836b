"""Laws 2 and 3, measured from real gradients: what stands in ``.grad`` at a step is the mean over that step's own backwards."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam

from fsmtrain import Callback, EarlyStopping, Guards, Machine, Options, Sizes, State, TrainingModule, build, every_n_batches
from fsmtrain.errors import ModelError
from fsmtrain.runtime.optimization.window_weights import Window
from fsmtrain.runtime.training import train_batch
from tests.models import Linear, Smooth, batches, flags, machine_of, trained, twins, weights
from tests.reference import Event, Every, Replaced, Script
from tests.strategies import Case, cases, nth

Position = tuple[int | None, int | None, int | None]  # epoch, batch and split, from 0
MOST_BACKWARDS = 256  # of one optimizer in one run


# ---- a model whose gradients tell which backwards are in them


class Measured(TrainingModule):
    """Each (epoch, batch, split) has an entry of its own in each optimizer's parameter, and a loss is the sum of its entries.

    So the gradient of one loss is 1 in one place, and what stands in ``.grad`` at a step tells which backwards are in it, with
    what weight. A loss depends on the parameters of all optimizers: only those of the one whose turn it is may gather.
    """

    def __init__(
        self,
        optimizers: int = 1,
        splits: Sequence[int] = (1,),
        improved: Sequence[bool] = (True,),
        none: Sequence[bool] = (False,),
    ) -> None:
        super().__init__()
        self.none, self.forwards = none, 0
        self.rows = nn.ParameterList([torch.zeros(MOST_BACKWARDS, dtype=torch.float64) for _ in range(optimizers)])
        self.splits, self.improved = splits, improved
        self.places: dict[Position, int] = {}
        self.steps: list[tuple[int, Position, dict[Position, float]]] = []
        self.fetched = self.checks = 0
        self.best = 0.0
        self.weight_of: Callable[[int], Any] | None = None

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int = 0, hiddens: Any = None) -> Any:
        self.forwards += 1
        if nth(self.none, self.forwards - 1):
            return None
        split = batch if isinstance(batch, int) else 0
        place = self.places.setdefault((self.current_epoch, batch_nb, split), len(self.places))
        loss = torch.stack([row[place] for row in self.rows]).sum()
        output = {"loss": loss, "hiddens": torch.ones(())}
        if self.weight_of is not None:
            output["weight"] = self.weight_of(place)
        return output

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        self.fetched += 1
        return list(range(nth(self.splits, self.fetched - 1)))

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        gradient = self.rows[optimizer_i].grad
        assert gradient is not None
        found = {position: gradient[place].item() for position, place in self.places.items() if gradient[place] != 0}
        self.steps.append((optimizer_i, (current_epoch, batch_nb, None), found))
        super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure)

    def configure_optimizers(self) -> Any:
        return [SGD([row], lr=0.1, momentum=0.5) for row in self.rows]

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        assert not torch.is_grad_enabled()

    def validation_end(self, outputs: Any) -> Any:
        if self.trainer.state is State.SANITY_VAL:
            return {"val_loss": -1e9}
        self.checks += 1
        self.best -= 1
        return {"val_loss": self.best if nth(self.improved, self.checks - 1) else float("nan")}

    def test_step(self, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        assert not torch.is_grad_enabled()


class Batches:
    """A loader without a length, which yields another number of batches in each epoch."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths, self.epoch = lengths, 0

    def __iter__(self) -> Iterator[str]:
        self.epoch += 1
        return iter(["batch"] * nth(self.lengths, self.epoch - 1))


class Sized(Batches):
    """A loader with a length."""

    def __len__(self) -> int:
        return self.lengths[0]


def loader(size: int | None, lengths: Sequence[int]) -> Batches:
    """The loader that a case means by a size, None for a stream of these lengths."""
    return Batches(lengths) if size is None else Sized([size])


class Stop(Callback):
    """Asks the run to stop while it makes this visit, counted from 0; writes down the visits."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at, self.visits = stop_at, list[State]()

    def on_run_start(self, machine: Any) -> None:
        if self.stop_at == 0:
            machine.stop()

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.visits.append(transition.source)
        if self.stop_at is not None and len(self.visits) >= self.stop_at:
            machine.stop()


def play(case: Case) -> tuple[Machine, Measured, list[State]]:
    """A real run of a case, with the script played to it; returns the visited states too."""
    script, sizes = case.script, case.sizes
    model, visits = Measured(sizes.optimizers, script.splits, script.improved, script.none), Stop(script.stop_at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # early stopping without anything to validate
        machine = build(
            evolve(case.options, device="cpu", progress_bar=False),
            model,
            train_dataloader=loader(sizes.train, script.train),
            val_dataloaders=[loader(n, [script.val[i]]) for i, n in enumerate(sizes.val)],
            test_dataloaders=[loader(n, [script.test[i]]) for i, n in enumerate(sizes.test)],
            guards=case.guards,
            callbacks=[visits],
        )
    machine.run()
    return machine, model, visits.visits


def foretold(events: list[Event]) -> list[tuple[int | None, Position, list[Position]]]:
    """The steps of a schedule: whose, where, and over which backwards."""
    windows: dict[int | None, list[Position]] = {}
    steps: list[tuple[int | None, Position, list[Position]]] = []
    for event in events:
        if event.state == "backward":
            windows.setdefault(event.optimizer, []).append((event.epoch, event.batch, event.split))
        elif event.state == "step":
            steps.append((event.optimizer, (event.epoch, event.batch, None), windows.pop(event.optimizer)))
    return steps


# ---- law 2


SHORT_LAST_WINDOWS = Case(
    options=Options(accumulate_grad_batches={0: 3, 1: 2}, truncated_bptt_steps=2, max_nb_epochs=2),
    sizes=Sizes(train=None, optimizers=2),
    replaced=Replaced(step={1: Every(n=2)}),
    script=Script(train=(5, 3), splits=(2, 1, 3)),
)


@pytest.mark.slow
@given(cases())
@example(SHORT_LAST_WINDOWS)
@settings(max_examples=200, deadline=None)
def test_the_gradient_of_every_step_is_the_mean_over_exactly_its_own_backwards(case: Case) -> None:
    assume(case.sizes.fits and (case.options.max_nb_epochs != 0 or not case.replaced.step))
    assume(not case.sizes.manual_optimization)
    case = evolve(case, replaced=replace(case.replaced, save=None))
    schedule = case.schedule()
    machine, model, visits = play(case)
    assert [state.value for state in visits] == [event.state for event in schedule.events]
    assert machine.counters.global_step == schedule.events[-1].global_step
    expected = foretold(schedule.events)
    assert [(whose, where) for whose, where, _ in model.steps] == [(whose, where) for whose, where, _ in expected]
    for (_, _, found), (_, _, window) in zip(model.steps, expected, strict=True):
        assert list(found) == window
        assert all(abs(weight - 1 / len(window)) <= 1e-12 for weight in found.values())


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("length", range(1, 6))
@pytest.mark.parametrize("size", ["sized", "stream"])
def test_windows_hold_k_backwards_and_the_last_one_what_is_left(n: int, length: int, size: str) -> None:
    model = Measured()
    trained(model, loader(n if size == "sized" else None, [n]), max_nb_epochs=2, accumulate_grad_batches=length)
    windows = [list(found.values()) for _, _, found in model.steps]
    whole, rest = divmod(n, length)
    lengths = [length] * whole + [rest] * (rest > 0)
    assert [len(window) for window in windows] == lengths * 2
    for window in windows:
        assert window == pytest.approx([1 / len(window)] * len(window), abs=1e-15, rel=0)


def test_a_guard_of_ones_own_may_close_windows_of_any_lengths() -> None:
    def after_some_batches(limits: Any, counters: Any, signals: Any) -> bool:
        return any(counters.batch_nb == b for b in (0, 3, 4))

    model = Measured()
    trained(model, loader(8, []), max_nb_epochs=2, guards=Guards(step={0: after_some_batches}))
    assert [list(found.values()) for _, _, found in model.steps] == [
        pytest.approx([1 / n] * n, abs=1e-15, rel=0) for n in (1, 3, 1, 3, 1, 3, 1, 3)
    ]


def test_a_stateful_guard_is_called_once_after_each_backward_of_its_optimizer() -> None:
    asked: list[tuple[int, int]] = []

    def every_third_time(limits: Any, counters: Any, signals: Any) -> bool:
        asked.append((counters.optimizer_i, counters.batch_nb))
        return len(asked) % 3 == 0

    model = Measured(optimizers=2)
    trained(model, loader(8, []), max_nb_epochs=2, accumulate_grad_batches=8, guards=Guards(step={1: every_third_time}))
    assert asked == [(1, b) for b in range(8)] * 2
    assert [len(found) for whose, _, found in model.steps if whose == 1] == [3, 3, 2, 1, 3, 3, 1]
    assert [len(found) for whose, _, found in model.steps if whose == 0] == [8, 8]


def test_gradients_are_clipped_after_they_have_become_a_mean() -> None:
    """The mean of four unit vectors has the norm 1/2, which a limit of 1 leaves alone, and one of 1/4 halves."""
    for clip, expected in ((1.0, 0.25), (0.25, 0.125)):
        model = Measured()
        trained(model, loader(4, []), max_nb_epochs=1, gradient_clip_val=clip, guards=Guards(step={0: every_n_batches(4)}))
        [(_, _, found)] = model.steps
        assert list(found.values()) == pytest.approx([expected] * 4, rel=1e-5)


def test_a_window_that_a_request_leaves_open_is_not_stepped() -> None:
    model = Measured()
    machine = machine_of(model, loader(8, []), max_nb_epochs=1, accumulate_grad_batches=4)
    while machine.counters.batches_begun < 6:
        machine.advance()
    machine.stop()
    machine.run()
    assert machine.state is State.STOPPED
    assert [len(found) for _, _, found in model.steps] == [4]
    assert machine.counters.open_windows == 1


# ---- law 3

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": functools.partial(SGD, lr=0.1),
    "momentum": functools.partial(SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": functools.partial(Adam, lr=0.01),
}


def close(first: nn.Module, second: nn.Module, tolerance: float = 1e-12) -> bool:
    """Whether two models' weights are the same to rounding."""
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(weights(first), weights(second), strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("length", "size"), [(2, 4), (4, 2), (8, 1), (3, 2), (6, 4)])
def test_k_batches_of_n_train_like_one_batch_of_k_times_n(optimizer: str, length: int, size: int) -> None:
    first, second = twins(lambda: Smooth(OPTIMIZERS[optimizer]).double())
    trained(first, batches(48, size, dtype=torch.float64), max_nb_epochs=3, accumulate_grad_batches=length)
    trained(second, batches(48, size * length, dtype=torch.float64), max_nb_epochs=3)
    assert close(first, second)


def test_clipping_treats_k_batches_like_one_batch() -> None:
    first, second = twins(lambda: Smooth(OPTIMIZERS["sgd"]).double())
    options = {"max_nb_epochs": 3, "gradient_clip_val": 0.05}
    trained(first, batches(48, 2, dtype=torch.float64), accumulate_grad_batches=4, **options)
    trained(second, batches(48, 8, dtype=torch.float64), **options)
    assert close(first, second)


class Weighted(Smooth):
    """Tells how many samples each loss is the mean of."""

    kind: Callable[[int], Any] = staticmethod(float)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), "weight": self.kind(len(batch[0]))}


def as_whole(n: int) -> Tensor:
    return torch.tensor(n)


def as_single(n: int) -> Tensor:
    return torch.tensor(float(n), dtype=torch.float32)


def as_double(n: int) -> Tensor:
    return torch.tensor([float(n)], dtype=torch.float64)


@pytest.mark.parametrize("kind", [int, float, as_double, as_whole, as_single])
@pytest.mark.parametrize("guards", [None, Guards(step={0: every_n_batches(3)})], ids=["K", "guard"])
def test_ragged_batches_with_weights_train_like_one_batch(kind: Callable[[int], Any], guards: Guards | None) -> None:
    """23 samples in batches of 4, the last of 3: windows of 3 batches are the batches of 12 and of 11 samples."""
    first, second = twins(lambda: Weighted(OPTIMIZERS["sgd"]).double())
    first.kind = kind
    length = 3 if guards is None else 1
    loader = batches(23, 4, dtype=torch.float64)
    trained(first, loader, max_nb_epochs=3, accumulate_grad_batches=length, guards=guards)
    trained(second, batches(23, 12, dtype=torch.float64), max_nb_epochs=3)
    assert close(first, second)


def test_without_weights_a_window_is_the_mean_over_its_batches_however_small_they_are() -> None:
    first, second = twins(lambda: Smooth(OPTIMIZERS["sgd"]).double())
    trained(first, batches(23, 4, dtype=torch.float64), max_nb_epochs=1, accumulate_grad_batches=3)
    trained(second, batches(23, 12, dtype=torch.float64), max_nb_epochs=1)
    assert not close(first, second, 1e-6)


def on_a_device(n: int) -> Tensor:
    """A weight as it comes from a GPU, which is never read: see `unread`."""
    return torch.tensor(float(n), dtype=torch.float64)


@contextmanager
def unread() -> Iterator[None]:
    """Treat weights that are tensors as those of another device are treated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_batch, "weight_of", lambda output: output["weight"])
        yield


@given(
    st.lists(st.integers(0, 9000) | st.just(0), min_size=1, max_size=10),
    st.integers(1, 4),
    st.sampled_from([int, float, as_double, on_a_device]),
    st.booleans(),
    st.booleans(),
)
@example([0, 5], 2, on_a_device, False, False)
@example([0, 0, 7], 2, int, False, False)
@example([0, 0, 7], 2, on_a_device, True, True)
@example([3, 0], 1, on_a_device, False, False)
@settings(max_examples=100, deadline=None)
def test_weights_are_shares_of_their_window(
    given: list[int], length: int, kind: Callable[[int], Any], is_stream: bool, has_guard: bool
) -> None:
    model = Measured()
    model.weight_of = lambda place: kind(given[place])
    size = None if is_stream else len(given)
    guards = Guards(step={0: every_n_batches(length)}) if has_guard else Guards()
    with unread() if kind is on_a_device else nullcontext():
        trained(model, loader(size, [len(given)]), max_nb_epochs=1, accumulate_grad_batches=length, guards=guards)
    windows = [given[i : i + length] for i in range(0, len(given), length)]
    assert len(model.steps) == len(windows)
    for (_, _, found), window in zip(model.steps, windows, strict=True):
        assert list(found.values()) == pytest.approx([n / sum(window) for n in window if n], rel=1e-12)


@pytest.mark.parametrize("kind", [int, on_a_device])
@pytest.mark.parametrize("length", [1, 3])
def test_a_window_of_weight_0_steps_with_a_gradient_of_zeros(kind: Callable[[int], Any], length: int) -> None:
    """So momentum and weight decay act as in a step by hand, whose loss is the sum over no sample."""
    given = [2, 1, 4, 0, 0, 0, 3, 0, 1]

    class Masked(Weighted):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": kind(given[batch_nb])}

    first, second = twins(lambda: Masked(OPTIMIZERS["momentum"]).double())
    data = batches(9, 1, dtype=torch.float64)
    with unread() if kind is on_a_device else nullcontext():
        machine = trained(first, data, max_nb_epochs=1, accumulate_grad_batches=length)
    assert machine.counters.optimizer_steps == [9 // length]
    optimizer = second.configure_optimizers()
    for begin in range(0, 9, length):
        optimizer.zero_grad()
        window = range(begin, begin + length)
        total = sum(given[i] for i in window)
        sum(second.loss(list(data)[i]) * given[i] / (total or 1) for i in window).backward()
        optimizer.step()
    assert close(first, second)


def test_a_loss_of_nan_with_a_weight_that_is_the_number_0_has_no_part_in_anything() -> None:
    """The mean over no token is NaN."""

    class Masked(Weighted):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = self.loss(batch)
            return {"loss": loss * float("nan") if batch_nb % 2 else loss, "weight": 1 - batch_nb % 2}

    for policy in ("raise", "skip"):
        model = Masked(OPTIMIZERS["adam"]).double()
        machine = trained(model, batches(8, 1, dtype=torch.float64), max_nb_epochs=1, on_nonfinite=policy)
        assert machine.counters.steps_skipped == 0
        assert all(bool(weight.isfinite().all()) for weight in weights(model))


@pytest.mark.parametrize("kind", [float, on_a_device])
def test_losses_are_scaled_by_the_mean_weight_of_the_window_before(kind: Callable[[float], Any]) -> None:
    """Rounded to a power of two; 1 in the first window and after a window of weight 0, or of a weight that is not a number."""
    window, found = Window(), []
    for weights_of_window in ([3.0, 5.0], [1000.0, 24.0], [0.0, 0.0], [0.0, 7.0], [1.0], [float("nan")], [2.0]):
        found.append([float(window.add(kind(weight)) or 0) for weight in weights_of_window])
        window.close()
    assert found[:5] == [[3.0, 5.0], [250.0, 6.0], [0.0, 0.0], [0.0, 7.0], [0.25]]
    assert found[6] == [2.0]


def test_many_tokens_do_not_overflow_in_fp16_and_a_masked_first_window_can_be_stepped() -> None:
    class Tokens(Weighted):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": 0 if batch_nb < 2 else 8192}

    model = Tokens(OPTIMIZERS["sgd"])
    machine = trained(model, batches(12, 1), max_nb_epochs=1, precision=16, accumulate_grad_batches=2)
    assert machine.counters.optimizer_steps[0] >= 1
    assert all(bool(weight.isfinite().all()) for weight in weights(model))


def test_weights_count_within_truncated_bptt_windows_too() -> None:
    model = Measured(splits=(3,))
    model.weight_of = lambda place: place + 1
    trained(model, loader(1, []), max_nb_epochs=1, accumulate_grad_batches=2, truncated_bptt_steps=1)
    assert [list(found.values()) for _, _, found in model.steps] == [pytest.approx([1 / 3, 2 / 3]), [1.0]]


@pytest.mark.parametrize("first", [True, False])
def test_weights_for_some_batches_of_a_window_only_are_refused(first: bool) -> None:
    class Mixed(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": 2 if (batch_nb % 2 == 0) is first else None}

    with pytest.raises(ModelError, match="weight for some batches of a window"):
        trained(Mixed(), batches(8), max_nb_epochs=1, accumulate_grad_batches=2)


def test_one_window_may_have_weights_and_the_next_none() -> None:
    class ByWindow(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": 2 if batch_nb < 2 else None}

    assert trained(ByWindow(), batches(8), max_nb_epochs=1, accumulate_grad_batches=2).counters.global_step == 2


@pytest.mark.parametrize(
    "weight", [-1, float("nan"), float("inf"), True, "2", torch.tensor(-1.0), torch.ones(2), torch.tensor(float("nan"))]
)
def test_a_weight_that_is_negative_or_no_number_is_refused(weight: Any) -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": weight}

    with pytest.raises(ModelError, match="A weight must be a number >= 0"):
        trained(Wrong(), batches(8), max_nb_epochs=1)


def test_early_stopping_counts_in_the_measured_run() -> None:
    """So that the law above is known to see runs that end early: 2 checks without an improvement end this one."""
    case = Case(
        options=Options(early_stop_callback=EarlyStopping(patience=2), max_nb_epochs=5, val_check_interval=1.0),
        sizes=Sizes(train=2, val=[1]),
        script=Script(improved=(True, False, False)),
    )
    machine, _, _ = play(case)
    assert machine.counters.epochs_done == 3
    assert flags().early_stop_callback is None
