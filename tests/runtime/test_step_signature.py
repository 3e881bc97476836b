"""Which arguments a step method gets: by name, then by position in the documented order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fsmtrain.errors import FsmtrainError, ModelError
from fsmtrain.runtime.step_signature import StepSignature
from tests.models import Linear, Validated, batches, machine_of

ORDER = ("batch", "batch_nb", "optimizer_i", "hiddens")
VALUES = ("B", 7, 1, "H")


def given_to(method: Callable[..., Any], given: Sequence[str] = ORDER) -> Any:
    """What a method that returns its arguments is given by a call with all four values."""
    binding = StepSignature(method, "training_step", available=given, order=ORDER)
    return binding.method(*VALUES[: binding.count])


# ---- by name


def test_arguments_are_matched_by_name_in_any_order() -> None:
    assert given_to(lambda hiddens, batch_nb, batch, optimizer_i: (hiddens, batch_nb, batch, optimizer_i)) == ("H", 7, "B", 1)


def test_the_later_names_are_understood() -> None:
    assert given_to(lambda batch, batch_idx, optimizer_idx: (batch, batch_idx, optimizer_idx)) == ("B", 7, 1)
    order = ("batch", "batch_nb", "dataloader_i")
    binding = StepSignature(lambda batch, dataloader_idx: (batch, dataloader_idx), "test_step", available=order, order=order)
    assert binding.method(*("B", 7, 2)[: binding.count]) == ("B", 2)


def test_an_argument_may_be_left_out() -> None:
    assert given_to(lambda batch: batch) == "B"
    assert given_to(lambda batch, hiddens: (batch, hiddens)) == ("B", "H")
    assert given_to(lambda: "nothing") == "nothing"


def test_a_documented_parameter_name_is_accepted_though_it_is_none_here() -> None:
    """So the same ``training_step`` does with one optimizer as with two."""
    assert given_to(lambda batch, batch_nb, optimizer_i: (batch, batch_nb, optimizer_i), ORDER[:2]) == ("B", 7, 1)


def test_a_default_is_kept_if_no_argument_matches() -> None:
    def step(batch: Any, batch_nb: int, optimizer_i: int = 5, hiddens: Any = None) -> Any:
        return batch, batch_nb, optimizer_i, hiddens

    assert given_to(step, ORDER[:2]) == ("B", 7, 5, None)
    assert given_to(step, ORDER) == VALUES


def test_after_a_default_that_is_kept_the_later_arguments_still_arrive() -> None:
    def step(batch: Any, optimizer_i: int = 5, batch_nb: int = 6, scale: float = 2.0) -> Any:
        return batch, optimizer_i, batch_nb, scale

    assert given_to(step, ORDER[:2]) == ("B", 5, 7, 2.0)


# ---- by position


def test_other_names_are_served_by_position_in_the_documented_order() -> None:
    assert given_to(lambda x, i, k, h: (x, i, k, h)) == ("B", 7, 1, "H")
    assert given_to(lambda x, i: (x, i), ORDER[:2]) == ("B", 7)


def test_names_and_positions_may_be_mixed() -> None:
    assert given_to(lambda x, hiddens, i: (x, hiddens, i)) == ("B", "H", 7)


def test_a_star_takes_what_is_left() -> None:
    assert given_to(lambda *args: args) == VALUES
    assert given_to(lambda batch, *rest: (batch, rest)) == ("B", (7, 1, "H"))
    assert given_to(lambda *args, hiddens: (args, hiddens)) == (("B", 7, 1), "H")
    assert given_to(lambda *args, **more: (args, more), ORDER[:2]) == (("B", 7), {})


def test_keyword_only_parameters_are_passed_by_name() -> None:
    assert given_to(lambda batch, *, batch_nb, hiddens=None: (batch, batch_nb, hiddens)) == ("B", 7, "H")
    assert given_to(lambda batch, *, scale=3: (batch, scale), ORDER[:1]) == ("B", 3)


def test_positional_only_parameters_are_passed_by_position() -> None:
    def step(x: Any, i: int, /, optimizer_i: int) -> Any:
        return x, i, optimizer_i

    assert given_to(step) == ("B", 7, 1)


def test_a_star_after_a_default_that_is_kept_gets_nothing_that_belongs_elsewhere() -> None:
    def step(batch: Any, optimizer_i: int = 5, *rest: Any) -> Any:
        return batch, optimizer_i, rest

    batch, optimizer_i, _ = given_to(step, ORDER[:2])
    assert (batch, optimizer_i) == ("B", 5)


def test_a_positional_only_parameter_after_a_default_that_is_kept_is_not_moved_up() -> None:
    def step(batch: Any, optimizer_i: int = 5, batch_nb: int = 6, /) -> Any:
        return batch, optimizer_i, batch_nb

    batch, optimizer_i, batch_nb = given_to(step, ORDER[:2])
    assert (batch, optimizer_i) == ("B", 5)
    assert batch_nb in (6, 7)


# ---- what it knows, and refuses


def test_it_knows_which_arguments_the_method_takes() -> None:
    binding = StepSignature(lambda x, *, hiddens: None, "training_step", available=ORDER, order=ORDER)
    assert sorted(binding.arguments) == ["batch", "hiddens"]


@pytest.mark.parametrize(
    "step", [lambda batch, batch_nb, other: None, lambda x, i, other: None, lambda batch, batch_nb, *, other: None]
)
def test_a_required_parameter_without_an_argument_is_an_error(step: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"training_step: there is no argument for its parameter 'other'.*batch, batch_nb"):
        given_to(step, ORDER[:2])


def test_a_method_of_a_model_is_matched_without_its_self() -> None:
    class Renamed(Linear):
        def training_step(self, i: int, batch: Any) -> Any:  # type: ignore[override]
            assert isinstance(i, int)
            return self.loss(batch)

    assert machine_of(Renamed(), batches(4), max_nb_epochs=1).run().counters.global_step == 2


def test_a_static_step_works_too() -> None:
    class Static(Linear):
        @staticmethod
        def training_step(batch: Any, batch_nb: int) -> Any:
            return model.loss(batch)

    model = Static()
    assert machine_of(model, batches(4), max_nb_epochs=1).run().counters.global_step == 2


def test_an_evaluation_step_with_an_argument_of_training_is_refused() -> None:
    class Wrong(Validated):
        def validation_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:  # type: ignore[override]
            return {}

    with pytest.raises(FsmtrainError, match=r"validation_step: .*'optimizer_i'"):
        machine_of(Wrong(), batches(4), batches(4))


def test_a_training_step_with_an_argument_of_evaluation_is_refused() -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int, dataloader_i: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

    with pytest.raises(FsmtrainError, match=r"training_step: .*'dataloader_i'"):
        machine_of(Wrong(), batches(4))
