"""What ``configure_optimizers`` may return, and several optimizers side by side."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau, StepLR

from fsmtrain import Callback, Guards, State, TrainingModule, every_n_batches
from fsmtrain.errors import GuardError, MetricError, ModelError, OptionsError
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, parse_configure_optimizers, zero_grad
from tests.models import Adversaries, Linear, Plain, TransitionRecorder, Validated, batches, machine_of, state_notes, trained


def parameters() -> list[nn.Parameter]:
    """One parameter."""
    return [nn.Parameter(torch.zeros(2))]


def sgd() -> SGD:
    """An optimizer of parameters of its own."""
    return SGD(parameters(), lr=0.1)


def shape(found: OptimizerSetup) -> tuple[list[str], list[tuple[str, int, str, int, str | None]]]:
    """The optimizers, and the schedulers with their settings."""
    optimizers = [type(turn.optimizer).__name__ for turn in found.slots]
    return optimizers, [
        (type(s.scheduler).__name__, s.schedule.optimizer_i, s.schedule.interval, s.schedule.frequency, s.monitor)
        for s in found.scheduler_configs
    ]


class Warmup:
    """A scheduler that is not torch's, and that cannot be saved."""

    def step(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_scheduler_that_cannot_be_saved_is_refused(wrapped: bool) -> None:
    scheduler: Any = {"scheduler": Warmup(), "interval": "step"} if wrapped else Warmup()
    with pytest.raises(ModelError, match=r"returned a Warmup as a scheduler.* has no method state_dict"):
        parse_configure_optimizers(([sgd()], [scheduler]))
    with pytest.raises(ModelError, match=r"returned 3 as a scheduler\. It may return"):
        parse_configure_optimizers(([sgd()], [3]))


@pytest.mark.parametrize("interval", ["check", "val", "step"])
def test_a_plateau_scheduler_of_each_validation_is_refused_with_the_interval_that_is_meant(interval: str) -> None:
    optimizer = sgd()
    scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "interval": interval}
    with pytest.raises(ModelError, match="'validation'"):
        parse_configure_optimizers(([optimizer], [scheduler]))


# ---- every form


def test_one_optimizer() -> None:
    assert shape(parse_configure_optimizers(sgd())) == (["SGD"], [])


@pytest.mark.parametrize("form", [tuple, list])
def test_several_optimizers(form: Callable[[Any], Any]) -> None:
    assert shape(parse_configure_optimizers(form([Adam(parameters()), sgd()]))) == (["Adam", "SGD"], [])
    assert shape(parse_configure_optimizers(form([sgd()]))) == (["SGD"], [])


@pytest.mark.parametrize("form", [tuple, list])
def test_two_lists(form: Callable[[Any], Any]) -> None:
    first, second = Adam(parameters()), sgd()
    found = parse_configure_optimizers(form([[first, second], [ReduceLROnPlateau(first), LambdaLR(second, lambda e: 1.0)]]))
    assert shape(found) == (
        ["Adam", "SGD"],
        [("ReduceLROnPlateau", 0, "epoch", 1, "val_loss"), ("LambdaLR", 1, "epoch", 1, None)],
    )
    assert [turn.index for turn in found.slots] == [0, 1]


def test_two_lists_with_a_scheduler_for_one_optimizer_only_or_two_for_the_same() -> None:
    first, second = Adam(parameters()), sgd()
    found = parse_configure_optimizers(([first, second], [StepLR(second, 1), ExponentialLR(second, 0.9)]))
    assert shape(found)[1] == [("StepLR", 1, "epoch", 1, None), ("ExponentialLR", 1, "epoch", 1, None)]
    assert shape(parse_configure_optimizers(([first, second], []))) == (["Adam", "SGD"], [])


def test_a_scheduler_may_be_a_dict_with_its_interval_frequency_and_metric() -> None:
    first, second = sgd(), sgd()
    schedulers = [
        {"scheduler": StepLR(second, 1), "interval": "step", "frequency": 3},
        {"scheduler": ReduceLROnPlateau(first), "monitor": "accuracy", "frequency": 2},
        {"scheduler": StepLR(first, 1)},
    ]
    assert shape(parse_configure_optimizers(([first, second], schedulers)))[1] == [
        ("ReduceLROnPlateau", 0, "epoch", 2, "accuracy"),
        ("StepLR", 0, "epoch", 1, None),
        ("StepLR", 1, "step", 3, None),
    ]


def test_a_dict_with_an_optimizer_and_its_scheduler() -> None:
    optimizer = sgd()
    assert shape(parse_configure_optimizers({"optimizer": optimizer})) == (["SGD"], [])
    assert shape(parse_configure_optimizers({"optimizer": optimizer, "lr_scheduler": None})) == (["SGD"], [])
    assert shape(parse_configure_optimizers({"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1)}))[1] == [
        ("StepLR", 0, "epoch", 1, None)
    ]
    plateau = ReduceLROnPlateau(optimizer)
    assert shape(parse_configure_optimizers({"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "x"}))[1] == [
        ("ReduceLROnPlateau", 0, "epoch", 1, "x")
    ]
    nested = {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1), "interval": "step"}}
    assert shape(parse_configure_optimizers(nested))[1] == [("StepLR", 0, "step", 1, None)]


def test_a_metric_beside_a_scheduler_s_dict_is_that_scheduler_s() -> None:
    optimizer = sgd()
    returned = {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer), "frequency": 2},
        "monitor": "accuracy",
    }
    assert shape(parse_configure_optimizers(returned))[1] == [("ReduceLROnPlateau", 0, "epoch", 2, "accuracy")]


def test_a_list_of_such_dicts() -> None:
    first, second = sgd(), Adam(parameters())
    returned = [{"optimizer": first, "lr_scheduler": StepLR(first, 1)}, {"optimizer": second}]
    assert shape(parse_configure_optimizers(returned)) == (["SGD", "Adam"], [("StepLR", 0, "epoch", 1, None)])


# ---- wrong forms

FIRST = sgd()
OTHER = sgd()


WRONG: dict[str, Any] = {
    "none": None,
    "a number": 5,
    "a name": "SGD",
    "a class": SGD,
    "an empty list": [],
    "an empty tuple": (),
    "two empty lists": ([], []),
    "a list of none": [None],
    "none among optimizers": [FIRST, None],
    "a scheduler among optimizers": (FIRST, StepLR(FIRST, 1)),
    "a list and a scheduler": ([FIRST], StepLR(FIRST, 1)),
    "the two lists the wrong way round": ([StepLR(FIRST, 1)], [FIRST]),
    "a number among schedulers": ([FIRST], [5]),
    "none among schedulers": ([FIRST], [None]),
    "an empty dict among schedulers": ([FIRST], [{}]),
    "a dict without a scheduler": ([FIRST], [{"scheduler": 5}]),
    "an unknown key": ([FIRST], [{"scheduler": StepLR(FIRST, 1), "period": 2}]),
    "an unknown interval": ([FIRST], [{"scheduler": StepLR(FIRST, 1), "interval": "batch"}]),
    "frequency 0": ([FIRST], [{"scheduler": StepLR(FIRST, 1), "frequency": 0}]),
    "frequency 1.0": ([FIRST], [{"scheduler": StepLR(FIRST, 1), "frequency": 1.0}]),
    "frequency True": ([FIRST], [{"scheduler": StepLR(FIRST, 1), "frequency": True}]),
    "a plateau scheduler for each step": ([FIRST], [{"scheduler": ReduceLROnPlateau(FIRST), "interval": "step"}]),
    "a scheduler of another optimizer": ([FIRST], [StepLR(OTHER, 1)]),
    "an empty dict": {},
    "a dict without an optimizer": {"lr_scheduler": StepLR(FIRST, 1)},
    "a dict with a number as optimizer": {"optimizer": 5},
    "a dict with another key": {"optimizer": FIRST, "scheduler": StepLR(FIRST, 1)},
    "a number among dicts": [{"optimizer": FIRST}, 5],
    "the same optimizer twice": (FIRST, FIRST),
    "an optimizer as scheduler": ([FIRST], [FIRST]),
    "three lists": ([FIRST], [], []),
    "an iterator": iter([FIRST]),
}


@pytest.mark.parametrize("form", WRONG)
def test_any_other_form_is_refused(form: str) -> None:
    with pytest.raises(ModelError, match="configure_optimizers"):
        machine_of(Linear(lambda _: WRONG[form]), batches(4))


def test_the_message_names_what_was_returned_and_what_is_allowed() -> None:
    with pytest.raises(ModelError, match=r"configure_optimizers returned None\. It may return one optimizer; a tuple"):
        parse_configure_optimizers(None)
    with pytest.raises(ModelError, match=r"StepLR has interval='batch'; it must be 'epoch', 'step' or 'validation'"):
        parse_configure_optimizers(([FIRST], [{"scheduler": StepLR(FIRST, 1), "interval": "batch"}]))
    with pytest.raises(ModelError, match=r"StepLR of an optimizer that it did not return"):
        parse_configure_optimizers(([FIRST], [StepLR(OTHER, 1)]))
    with pytest.raises(ModelError, match=r"unknown key 'period'"):
        parse_configure_optimizers(([FIRST], [{"scheduler": StepLR(FIRST, 1), "period": 2}]))


def test_a_model_without_configure_optimizers_is_refused() -> None:
    class Unfinished(TrainingModule):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return None

    with pytest.raises(ModelError, match="Unfinished has no method configure_optimizers"):
        machine_of(Unfinished(), batches(4))


# ---- schedulers in a run


def rates(intervals: Any, epochs: int = 4, **options: Any) -> list[float]:
    """The learning rate of each step of a run of 4 batches in an epoch, halved each time that the scheduler acts."""

    class Recorded(Validated):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            found.append(optimizer.param_groups[0]["lr"])
            super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i)

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=1.0)
            return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.5), **intervals}]

    found: list[float] = []
    trained(Recorded(), batches(8), max_nb_epochs=epochs, **options)
    return found


def test_an_epoch_scheduler_acts_after_the_epoch() -> None:
    assert rates({}) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4 + [0.125] * 4
    assert rates({"frequency": 2}) == [1.0] * 8 + [0.5] * 8
    assert rates({"frequency": 3}, epochs=7)[::4] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_a_step_scheduler_acts_right_after_the_step_and_counts_over_epochs() -> None:
    assert rates({"interval": "step"}, epochs=1) == [1.0, 0.5, 0.25, 0.125]
    assert rates({"interval": "step", "frequency": 3}, epochs=2) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_step_scheduler_counts_steps_not_batches() -> None:
    assert rates({"interval": "step"}, epochs=2, accumulate_grad_batches=3) == [1.0, 0.5, 0.25, 0.125]


def test_a_step_scheduler_follows_its_own_optimizer() -> None:
    class Scheduled(Adversaries):
        def configure_optimizers(self) -> Any:
            first, second = super().configure_optimizers()
            each = {"interval": "step", "frequency": 1}
            return [first, second], [{"scheduler": ExponentialLR(o, 0.5), **each} for o in (first, second)]

    guards = Guards(step={1: every_n_batches(3)})
    machine = trained(Scheduled(), batches(20), max_nb_epochs=1, guards=guards)
    assert [scheduler.last_epoch for scheduler in machine.lr_schedulers] == [10, 4]


def test_schedulers_of_an_epoch_act_in_the_order_of_the_list() -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[int], float]:
        def factor(epoch: int) -> float:
            order.append(name)
            return 1.0

        return factor

    def configure(given: Any) -> Any:
        optimizer = SGD(given, lr=0.1)
        schedulers = [LambdaLR(optimizer, named(name)) for name in ("b", "a", "c")]
        order.clear()
        return [optimizer], schedulers

    trained(Linear(configure), batches(4), max_nb_epochs=2)
    assert order == ["b", "a", "c"] * 2


def plateau(**more: Any) -> Callable[[Any], Any]:
    """What makes an optimizer with a plateau scheduler that acts at once."""

    def configure(given: Any) -> Any:
        optimizer = SGD(given, lr=1.0)
        return [optimizer], [{"scheduler": ReduceLROnPlateau(optimizer, patience=0, factor=0.5), **more}]

    return configure


class Worse(Validated):
    """Its metrics get worse with each check, and are told under names that can be chosen."""

    names: tuple[str, ...] = ("val_loss",)
    value = 0.0

    def validation_end(self, outputs: Any) -> Any:
        self.value += 1
        return dict.fromkeys(self.names, self.value)


def test_a_plateau_scheduler_acts_only_in_epochs_with_a_validation() -> None:
    machine = trained(Worse(plateau()), batches(4), batches(2), max_nb_epochs=6, check_val_every_n_epoch=2)
    assert machine.counters.validations_done == 6
    assert machine.lr_schedulers[0].last_epoch == 3
    assert machine.optimizers[0].param_groups[0]["lr"] == 0.25


def test_a_plateau_scheduler_with_a_frequency_acts_in_every_nth_epoch() -> None:
    machine = trained(Worse(plateau(frequency=2)), batches(2), batches(2), max_nb_epochs=5)
    assert machine.lr_schedulers[0].last_epoch == 2


def test_a_plateau_scheduler_watches_the_metric_of_its_monitor() -> None:
    model = Worse(plateau(monitor="accuracy"))
    model.names = ("accuracy",)
    assert trained(model, batches(2), batches(2), max_nb_epochs=3).optimizers[0].param_groups[0]["lr"] == 0.25


def test_a_missing_metric_of_a_plateau_scheduler_is_an_error_that_lists_those_there_are() -> None:
    model = Worse(plateau(monitor="f1"))
    model.names = ("accuracy", "val_loss")
    message = r"ReduceLROnPlateau monitors 'f1', which the validation did not return\. It returned 'accuracy', 'val_loss'"
    with pytest.raises(MetricError, match=message) as caught:
        trained(model, batches(2), batches(2), max_nb_epochs=3)
    assert state_notes(caught.value) == ["in state epoch_end, epoch 0, batch 0, optimizer 0"]


@pytest.mark.parametrize("options", [{"early_stop_callback": True}, {}], ids=["early stopping", "plateau"])
def test_a_warning_that_a_metric_never_comes_points_to_the_user_s_line(options: dict[str, Any]) -> None:
    model = Validated() if options else Validated(plateau())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(model, batches(2), max_nb_epochs=1, **options)
    [warning] = [w for w in caught if "will never act" in str(w.message)]
    assert warning.filename.endswith("models.py")


# ---- several optimizers side by side


class Three(TrainingModule):
    """Three optimizers: of a trunk, of a head, and of a part that the user froze and thawed."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head, self.frozen = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
        self.frozen.weight.requires_grad_(False)
        self.unowned = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, dict[str, bool]]] = []

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        self.seen.append((optimizer_i, self.flags()))
        x, y = batch
        out = self.trunk(x)
        return ((self.head(out) + self.frozen(out) - y) ** 2).mean() * self.unowned

    def flags(self) -> dict[str, bool]:
        """Whether each parameter requires a gradient."""
        return {name: p.requires_grad for name, p in self.named_parameters()}

    def configure_optimizers(self) -> Any:
        return [SGD(part.parameters(), lr=0.1) for part in (self.trunk, self.head, self.frozen)]


def test_only_the_parameters_of_the_optimizer_in_turn_require_a_gradient() -> None:
    model = Three()
    before = model.flags()
    machine = machine_of(model, batches(4), max_nb_epochs=1)
    for transition in machine:
        if transition.source in (State.ROUND_END, State.STEP, State.ACCUMULATE, State.FETCH):
            assert model.flags() == before
    own = ["trunk.", "head.", "frozen."]
    assert [index for index, _ in model.seen] == [0, 1, 2] * 2
    for index, seen in model.seen:
        for name, on in seen.items():
            assert on == (name == "unowned" or (name.startswith(own[index]) and name != "frozen.weight"))
    assert model.flags() == before
    assert model.frozen.weight.grad is None


def test_optimizers_take_their_turns_in_order_with_a_forward_of_their_own() -> None:
    visits = TransitionRecorder()
    trained(Three(), batches(2), max_nb_epochs=1, callbacks=[visits])
    turns = [(t.source.value, t.optimizer_i) for t in visits.seen if t.source.value in ("train_batch", "backward", "step")]
    assert turns == [(state, i) for i in range(3) for state in ("train_batch", "backward", "step")]


def test_the_second_optimizer_s_forward_sees_the_first_one_s_new_weights() -> None:
    class Watching(Adversaries):
        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
            seen.append([p.detach().clone() for p in self.generator.parameters()])
            return super().training_step(batch, batch_nb, optimizer_i)

    seen: list[list[torch.Tensor]] = []
    torch.manual_seed(0)  # weights with which some hidden unit is alive
    trained(Watching(), batches(2), max_nb_epochs=1)
    assert not any(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))


class Sharing(TrainingModule):
    """Two optimizers of the same parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        return self.layer(batch[0]).mean()

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1), Adam(self.parameters())


def test_optimizers_may_share_a_parameter_where_every_window_is_one_backward() -> None:
    assert trained(Sharing(), batches(4), max_nb_epochs=1).counters.optimizer_steps == [2, 2]
    assert trained(Sharing(), batches(4), max_nb_epochs=1, accumulate_grad_batches={1: 2}) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": {1: 2}, "max_nb_epochs": 2},
        {"guards": Guards(step={1: every_n_batches(1)})},
    ],
)
def test_optimizers_that_share_a_parameter_are_refused_where_gradients_could_mix(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=r"shape \(1, 3\) belongs to the optimizers 0 and 1"):
        machine_of(Sharing(), batches(4), **options)


def test_a_step_guard_of_an_optimizer_that_there_is_not_is_refused() -> None:
    with pytest.raises(GuardError, match="there is no optimizer 2"):
        machine_of(Adversaries(), batches(4), guards=Guards(step={2: every_n_batches(2)}))


def test_a_step_guard_is_ignored_in_a_run_without_epochs() -> None:
    machine = machine_of(Adversaries(), batches(4), max_nb_epochs=0, guards=Guards(step={1: every_n_batches(2)}))
    machine.run()
    assert machine.state is State.DONE


# ---- optimizers with a closure


def test_whether_an_optimizer_requires_a_closure_is_seen_from_its_step() -> None:
    class Demanding(SGD):
        def step(self, closure: Any) -> Any:  # type: ignore[override]
            return super().step(closure)

    def needs(optimizer: Optimizer) -> bool:
        return parse_configure_optimizers(optimizer).slots[0].needs_closure

    assert needs(LBFGS(parameters()))
    assert needs(Demanding(parameters(), lr=0.1))
    assert not needs(sgd())
    assert not needs(Adam(parameters()))


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
        ({"accumulate_grad_batches": {3: 2}, "max_nb_epochs": 4}, "accumulate_grad_batches={3: 2}"),
        ({"guards": Guards(step={0: every_n_batches(1)})}, "Guards(step={0: ...})"),
        ({"precision": "16"}, "precision='16'"),
    ],
)
def test_a_closure_fits_neither_windows_of_several_backwards_nor_fp16(options: dict[str, Any], cause: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"{cause}: LBFGS evaluates its loss several times a step")):
        machine_of(Linear(LBFGS), batches(4), **options)


def test_a_window_of_an_epoch_that_is_never_reached_does_not_count() -> None:
    configure = functools.partial(LBFGS, max_iter=2)
    assert trained(Linear(configure), batches(4), max_nb_epochs=3, accumulate_grad_batches={3: 2}) is not None


def test_an_override_always_gets_the_closure_and_the_default_body_passes_it_only_to_an_optimizer_that_requires_it() -> None:
    class Watching(Linear):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            seen.append(second_order_closure is not None)
            if isinstance(optimizer, LBFGS):
                losses.append([float(second_order_closure()) for _ in range(3)])
                optimizer.zero_grad()
                return
            super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure)

    seen: list[bool] = []
    losses: list[list[float]] = []
    trained(Watching(LBFGS), batches(4), max_nb_epochs=1)
    trained(Watching(), batches(4), max_nb_epochs=1)
    assert seen == [True, True, True, True]
    assert all(first == second == third for first, second, third in losses)


# ---- the hook


def test_the_hook_is_called_by_position_where_a_window_closes() -> None:
    class Renamed(Linear):
        def optimizer_step(self, e: int, b: int, opt: Any, i: int, closure: Any) -> None:  # type: ignore[override]
            calls.append((e, b, i, type(opt).__name__, closure is not None, self.layer.weight.grad is not None))
            opt.step()
            opt.zero_grad()

    calls: list[Any] = []
    trained(Renamed(), batches(10), max_nb_epochs=2, accumulate_grad_batches=3)
    assert calls == [(e, b, 0, "SGD", True, True) for e in range(2) for b in (2, 4)]


def test_an_override_that_does_not_zero_keeps_its_gradients() -> None:
    class CheckpointManager(Linear):
        def optimizer_step(self, *args: Any) -> None:
            assert self.layer.bias is not None
            seen.append(float(self.layer.bias.grad))  # type: ignore[arg-type]

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.layer(torch.zeros(1, 3)).sum()

    seen: list[float] = []
    trained(CheckpointManager(), batches(6), max_nb_epochs=2)
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    "hook",
    [
        lambda self: None,
        lambda self, epoch, batch, optimizer, index: None,
        lambda self, epoch, batch, optimizer, index, closure, more: None,
        lambda self, epoch, batch, optimizer, index, *, second_order_closure: None,
    ],
    ids=["none", "four", "six", "keyword"],
)
def test_an_optimizer_step_that_cannot_be_called_as_documented_is_refused(hook: Any) -> None:
    class Wrong(Linear):
        optimizer_step = hook

    with pytest.raises(ModelError, match=r"optimizer_step\(.*it must accept five positional arguments \(current_epoch"):
        machine_of(Wrong(), batches(4))


def test_a_plain_module_needs_no_hook() -> None:
    assert trained(Plain(), batches(4), max_nb_epochs=1).counters.global_step == 2


def test_gradients_left_by_other_code_are_in_no_window() -> None:
    model, clean = Linear(), Linear()
    clean.load_state_dict(model.state_dict())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    trained(model, batches(4), max_nb_epochs=1)
    trained(clean, batches(4), max_nb_epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), clean.parameters(), strict=True))


class Flags(Callback):
    """Looks at ``requires_grad`` at the end of each batch."""

    def __init__(self) -> None:
        self.seen: list[set[bool]] = []

    def on_batch_end(self, machine: Any) -> None:
        self.seen.append({parameter.requires_grad for parameter in machine.model.parameters()})


@pytest.mark.parametrize("k", [1, 3])
def test_after_each_turn_every_parameter_requires_grad_as_before_be_it_stepped_or_accumulated(k: int) -> None:
    flags = Flags()
    trained(Adversaries(), batches(8), accumulate_grad_batches=k, max_nb_epochs=1, callbacks=[flags])
    assert flags.seen == [{True}] * 4


# ---- dropping gradients


class Counting(SGD):
    """An optimizer that counts how often its own ``zero_grad`` is called, and leaves zeros behind."""

    zeroed = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.zeroed += 1
        super().zero_grad(set_to_none=False)


def with_gradients(optimizer: SGD, *more: nn.Parameter) -> list[nn.Parameter]:
    """The optimizer's parameters and `more`, which it takes in too, each with a gradient."""
    if more:
        optimizer.add_param_group({"params": list(more)})
    found: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in found:
        parameter.grad = torch.ones_like(parameter)
    return found


def test_gradients_are_dropped_as_torch_drops_them_those_of_later_groups_too() -> None:
    ours, torchs = sgd(), sgd()
    left, right = with_gradients(ours, *parameters()), with_gradients(torchs, *parameters())
    zero_grad(ours)
    torchs.zero_grad()
    assert [parameter.grad for parameter in left] == [parameter.grad for parameter in right] == [None, None]


def test_what_torch_s_own_would_do_for_the_profiler_is_left_out() -> None:
    """It takes longer than all the rest."""
    ours, torchs = sgd(), sgd()
    with torch.profiler.profile() as profile:
        torchs.zero_grad()
        zero_grad(ours)
    assert [event.key for event in profile.key_averages() if "zero_grad" in event.key] == ["Optimizer.zero_grad#SGD.zero_grad"]
    assert sum(event.count for event in profile.key_averages() if "zero_grad" in event.key) == 1


def test_an_overridden_zero_grad_is_called() -> None:
    counting, patched = Counting(parameters(), lr=0.1), sgd()
    (kept,) = with_gradients(counting)
    zero_grad(counting)
    assert counting.zeroed == 1
    assert kept.grad is not None
    assert not kept.grad.any()
    calls: list[str] = []
    patched.zero_grad = lambda set_to_none=True: calls.append("patched")  # type: ignore[method-assign]
    (kept,) = with_gradients(patched)
    zero_grad(patched)
    assert calls == ["patched"]
    assert kept.grad is not None


def test_a_zero_grad_that_is_patched_into_torch_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Optimizer] = []
    monkeypatch.setattr(Optimizer, "zero_grad", lambda self, set_to_none=True: calls.append(self))
    optimizer = sgd()
    zero_grad(optimizer)
    assert calls == [optimizer]


def test_an_optimizer_s_own_zero_grad_is_called_after_each_step() -> None:
    class Counted(Linear):
        def configure_optimizers(self) -> Any:
            return Counting(self.parameters(), lr=0.1)

    machine = machine_of(Counted(), batches(8), accumulate_grad_batches=2, max_nb_epochs=3)
    machine.run()
    (optimizer,) = machine.optimizers
    assert isinstance(optimizer, Counting)
    assert optimizer.zeroed == machine.counters.global_step == 6
