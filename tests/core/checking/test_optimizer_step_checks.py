"""What shows beforehand of a model's own ``optimizer_step``: which windows it steps, counted on the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fsmtrain import Guards, Loop, Options, Sizes, every_n_batches
from fsmtrain.core.checking import optimizer_step_checks
from fsmtrain.core.checking.optimizer_step_checks import hook_findings, opaque_hook_findings
from fsmtrain.core.checking.parse_optimizer_step import parse_optimizer_step
from fsmtrain.core.guard_ast.expressions import Opaque
from fsmtrain.core.planning.compute_plan import make_plan

Hook = Callable[..., None]


def never(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps nothing."""


def always(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps each window."""
    opt.step()


def each_second_batch(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps after the batches 0, 2, 4 ..."""
    if batch % 2 == 0:
        opt.step()


def once(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps after one batch of one epoch."""
    if epoch == 1 and batch == 3:
        opt.step()


def in_the_second_epoch(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps in one epoch."""
    if epoch == 1:
        opt.step()


def the_second_alone(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Steps one optimizer."""
    if i == 1:
        opt.step()


def hands_it_on(epoch: int, batch: int, opt: Any, i: int) -> None:
    """Cannot be read."""
    print(opt)


def a_loop(hook: Hook | None, *, guards: Guards | None = None, **given: Any) -> Loop:
    """One epoch of eight batches, unless told otherwise."""
    given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 0, "train": 8, **given}
    sizes = {name: given.pop(name) for name in ("train", "optimizers", "splits") if name in given}
    return Loop(Options(**given), Sizes(**sizes), guards=guards or Guards(), hook=hook and parse_optimizer_step(hook))


def told(loop: Loop, *unknown: int) -> list[str]:
    """What is told of each optimizer."""
    return [finding.text for finding in hook_findings(loop.spec, make_plan(loop.spec), set(unknown))]


@pytest.mark.parametrize(
    ("hook", "given", "text"),
    [
        (never, {}, "the model's optimizer_step does not step it, and is called only when a window closes, here at batch_nb 0"),
        (never, {"accumulate_grad_batches": 2}, "at batch_nb 1, 3, 5, 7. Let it"),
        (never, {"accumulate_grad_batches": 2, "train": 9}, "at batch_nb 1, 3, 5, 7, .... Let it"),
        (each_second_batch, {"accumulate_grad_batches": 2}, "steps it only if batch_nb % 2 == 0, and is called"),
        (each_second_batch, {"accumulate_grad_batches": 3}, "steps 1 of 3 windows, those with batch_nb % 2 == 0"),
        (each_second_batch, {"guards": Guards(step={0: every_n_batches(1)})}, "steps 4 of 8 windows"),
        (once, {"accumulate_grad_batches": 2, "train": 4, "max_nb_epochs": 2}, "steps 1 of 4 windows"),
        (once, {"accumulate_grad_batches": 4, "train": 4, "max_nb_epochs": 5}, "steps 1 of 5 windows"),
        (once, {"accumulate_grad_batches": {0: 1, 2: 2}, "train": 4, "max_nb_epochs": 3}, "steps 1 of 10 windows"),
        (in_the_second_epoch, {"accumulate_grad_batches": 4, "max_nb_epochs": 3}, "steps 2 of 6 windows"),
        (each_second_batch, {"accumulate_grad_batches": 3, "max_nb_epochs": 9}, "steps 1 of 3 windows"),  # epochs are alike
        (once, {"accumulate_grad_batches": 2, "train": 4}, "optimizer 0 never steps in this run"),
        (
            the_second_alone,
            {"optimizers": 2},
            "optimizer 0 never steps in this run: the model's optimizer_step does not step it",
        ),
    ],
)
def test_windows_that_the_hook_does_not_step_are_counted(hook: Hook, given: dict[str, Any], text: str) -> None:
    [finding] = told(a_loop(hook, **given))
    assert text in finding


@pytest.mark.parametrize(
    ("hook", "given"),
    [
        (None, {}),
        (always, {"accumulate_grad_batches": 2}),
        (each_second_batch, {}),  # as it is documented: it picks the batches itself
        (each_second_batch, {"guards": Guards(step={0: every_n_batches(2, first=0)}), "train": 7}),
        (never, {"truncated_bptt_steps": 2, "splits": 2}),  # the plan knows no splits
        (never, {"max_nb_epochs": 0}),
        (hands_it_on, {"accumulate_grad_batches": 2}),
    ],
)
def test_a_hook_that_steps_where_it_should_is_not_complained_of(hook: Hook | None, given: dict[str, Any]) -> None:
    assert told(a_loop(hook, **given)) == []


def test_an_optimizer_with_unknown_windows_is_not_reported() -> None:
    loop = a_loop(never, optimizers=2)
    assert len(told(loop)) == 2
    [second] = told(loop, 0)
    assert second.startswith("optimizer 1 ")


def test_another_optimizer_s_guard_does_not_make_a_hook_s_own_choice_wrong() -> None:
    guards = Guards(step={1: every_n_batches(1)})
    [finding] = hook_findings(loop := a_loop(each_second_batch, optimizers=2, guards=guards).spec, make_plan(loop), set())
    assert finding.about == "optimizer_step of optimizer 1"


@pytest.mark.parametrize(("most", "is_told"), [(15, False), (16, True)])
def test_a_hook_that_depends_on_the_epoch_is_probed_for_a_bounded_number_of_windows(
    monkeypatch: pytest.MonkeyPatch, most: int, is_told: bool
) -> None:
    monkeypatch.setattr(optimizer_step_checks, "MAX_HOOK_CALLS", most)
    assert bool(told(a_loop(once, accumulate_grad_batches=2, max_nb_epochs=4))) == is_told
    assert told(a_loop(never, accumulate_grad_batches=2, max_nb_epochs=4)) != []  # one epoch of those that are alike is enough


@pytest.mark.parametrize(
    ("hook", "given", "because"),
    [
        (hands_it_on, {"accumulate_grad_batches": 2}, "with accumulate_grad_batches=2 the"),
        (hands_it_on, {"guards": Guards(step={0: every_n_batches(2)})}, "with Guards(step={0: ...}) the"),
        (
            hands_it_on,
            {"accumulate_grad_batches": 2, "guards": Guards(step={0: every_n_batches(2)})},
            "with Guards(step={0: ...}) the",
        ),
        (hands_it_on, {"accumulate_grad_batches": {0: 1, 2: 2}}, "with accumulate_grad_batches={0: 1, 2: 2} the"),
        (hands_it_on, {}, None),
        (hands_it_on, {"accumulate_grad_batches": 2, "max_nb_epochs": 0}, None),
        (never, {"accumulate_grad_batches": 2}, None),
        (None, {"accumulate_grad_batches": 2}, None),
    ],
)
def test_a_hook_that_cannot_be_read_is_warned_of_where_it_may_miss_a_window(
    hook: Hook | None, given: dict[str, Any], because: str | None
) -> None:
    loop = a_loop(hook, **given)
    assert isinstance(loop.spec.hook, Opaque) == (hook is hands_it_on)
    texts = [finding.text for finding in opaque_hook_findings(loop.spec)]
    assert [text.startswith(because or "") for text in texts] == ([] if because is None else [True])
