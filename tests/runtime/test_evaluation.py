"""Checks, the sanity pass and the test: what they return, and that they leave everything else as it was."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Callback, EarlyStopping, ModelCheckpoint, State, Trainer
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import MetricError, ModelError, ResumeError
from fsmtrain.runtime.metrics.step_outputs import scalar_of
from tests.models import (
    Linear,
    Perceptron,
    TransitionRecorder,
    Validated,
    batches,
    machine_of,
    same_bits,
    stream,
    trained,
    weights,
)


class Returning(Linear):
    """Returns given things from its evaluation steps, one after the other, and writes down how it is called."""

    def __init__(self, *outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs
        self.calls: list[tuple[Any, int, int]] = []

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        self.calls.append((batch, batch_nb, dataloader_i))
        return self.outputs[(len(self.calls) - 1) % len(self.outputs)]

    test_step = validation_step


class Gathering(Returning):
    """Keeps what its end hook is given."""

    def __init__(self, *outputs: Any) -> None:
        super().__init__(*outputs)
        self.gathered: list[Any] = []

    def validation_end(self, outputs: Any) -> Any:
        self.gathered.append(outputs)
        return {"val_loss": 1.5, "log": {"a": 2}, "progress_bar": {"b": torch.tensor(3)}}

    test_end = validation_end


def checked(model: nn.Module, val: Any, **options: Any) -> dict[str, Any]:
    """The metrics of a run of one batch and one check."""
    return dict(trained(model, batches(2), val, max_nb_epochs=1, nb_sanity_val_steps=0, **options).metrics)


# ---- metrics


def test_without_an_end_hook_every_scalar_is_averaged_over_the_batches() -> None:
    model = Returning(
        {"val_loss": torch.tensor(1.0), "accuracy": 0.5, "n": torch.tensor(3)},
        {"val_loss": torch.tensor([3.0]), "accuracy": 1, "n": torch.tensor(4)},
    )
    metrics = checked(model, range(2))
    assert {name: float(value) for name, value in metrics.items()} == {"val_loss": 2.0, "accuracy": 0.75, "n": 3.5}


def test_the_average_is_over_the_batches_of_all_loaders_together() -> None:
    model = Returning({"val_loss": 1.0}, {"val_loss": 2.0}, {"val_loss": 6.0})
    assert checked(model, [[0, 1], [2]])["val_loss"] == 3.0


def test_a_metric_is_averaged_over_the_batches_that_returned_it() -> None:
    model = Returning({"val_loss": 1.0}, {"val_loss": 3.0, "rare": 5.0}, None)
    assert checked(model, range(3)) == {"val_loss": 2.0, "rare": 5.0}


def test_what_is_no_scalar_is_not_averaged() -> None:
    model = Returning({"val_loss": 1.0, "predictions": torch.ones(3), "name": "a", "nothing": None})
    assert checked(model, range(2)) == {"val_loss": 1.0}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_tensor_with_one_element_is_a_scalar_in_any_shape(shape: tuple[int, ...]) -> None:
    value = torch.ones(shape, requires_grad=True)
    kept = scalar_of(value)
    assert isinstance(kept, Tensor)
    assert kept.shape == ()
    assert not kept.requires_grad
    assert kept.data_ptr() == value.data_ptr()  # where it was


def test_metrics_may_be_nested_under_log_and_progress_bar() -> None:
    model = Returning({"log": {"val_loss": 1.0}, "progress_bar": {"accuracy": 2.0}})
    assert checked(model, range(2)) == {"val_loss": 1.0, "accuracy": 2.0}


def test_a_bare_tensor_from_a_step_is_the_loss() -> None:
    assert checked(Returning(torch.tensor(1.0), torch.tensor(2.0)), range(2))["val_loss"] == 1.5
    machine = trained(Returning(torch.tensor(1.0), torch.tensor(2.0)), batches(2), [], range(2), max_nb_epochs=1)
    assert machine.metrics["test_loss"] == 1.5


def test_metrics_keep_no_graph_and_no_precision_is_lost() -> None:
    class Deep(Linear):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            return {"val_loss": torch.tensor(1 / 3, dtype=torch.float64)}

    value = checked(Deep(), range(3))["val_loss"]
    assert isinstance(value, Tensor)
    assert value.dtype == torch.float64
    assert not value.requires_grad


def test_the_metrics_of_validation_end_are_those_of_the_validation() -> None:
    metrics = checked(Gathering({"val_loss": 9.0, "lost": 1.0}), range(2))
    assert {name: float(value) for name, value in metrics.items()} == {"val_loss": 1.5, "a": 2.0, "b": 3.0}


@pytest.mark.parametrize("returned", [None, {}])
def test_an_end_hook_may_return_nothing(returned: Any) -> None:
    class Silent(Returning):
        def validation_end(self, outputs: Any) -> Any:
            return returned

    assert checked(Silent({"val_loss": 1.0}), range(1)) == {}


def test_the_end_hook_runs_in_eval_mode_and_without_gradients() -> None:
    class Ending(Perceptron):
        def validation_end(self, outputs: Any) -> Any:
            assert not torch.is_grad_enabled()
            assert not any(module.training for module in self.modules())
            seen.append(self.trainer.state)
            return {}

    seen: list[State] = []
    trained(Ending(), batches(8), batches(4), max_nb_epochs=1)
    assert seen == [State.SANITY_VAL, State.VAL_CHECK]


# ---- over the samples


class PerSample(Linear):
    """Returns and logs means over the samples of a batch, as people do; with weights, a mask of some samples too."""

    def __init__(self, dtype: torch.dtype = torch.float32, weighted: bool = False) -> None:
        super().__init__()
        self.dtype, self.weighted = dtype, weighted

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        value, kept = batch
        mean = value[kept].mean().to(self.dtype) if self.weighted else value.mean().to(self.dtype)
        self.log("logged", mean)
        return {"returned": mean, **({"weight": kept.sum()} if self.weighted else {})}

    test_step = validation_step


DATA = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=1, max_size=12)


@given(st.lists(st.tuples(DATA, st.integers(1, 5)), min_size=1, max_size=3), st.booleans(), st.sampled_from(["val", "test"]))
def test_metrics_are_means_over_the_samples_however_they_are_batched(loaders: Any, weighted: bool, kind: str) -> None:
    """With ragged last batches; a weight is the number of samples that the mask keeps, and may be 0, where the mean is NaN."""
    passed, kept = [], []
    for data, size in loaders:
        values, mask = torch.tensor([float(v) for v, _ in data], dtype=torch.float64), torch.tensor([keep for _, keep in data])
        passed.append(DataLoader(TensorDataset(values, mask), batch_size=size))
        kept.append([float(v) for v, keep in data if keep or not weighted])
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu", nb_sanity_val_steps=0)
    model = PerSample(torch.float64, weighted)
    metrics = trainer.test(model, passed) if kind == "test" else trainer.fit(model, batches(2), passed).metrics
    expected = {"": [value for values in kept for value in values]}
    expected |= {f"/{i}": values for i, values in enumerate(kept)} if len(kept) > 1 else {}
    assert set(metrics) == {f"{name}{suffix}" for name in ("returned", "logged") for suffix in expected}
    for suffix, numbers in expected.items():
        mean = math.fsum(numbers) / len(numbers) if numbers else math.nan
        for name in ("returned", "logged"):
            assert metrics[f"{name}{suffix}"] == pytest.approx(mean, abs=1e-13, nan_ok=True)


@pytest.mark.parametrize("kind", ["val", "test"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_metric_in_low_precision_is_summed_in_float64(dtype: torch.dtype, kind: str) -> None:
    loader = DataLoader(TensorDataset(torch.ones(1000), torch.ones(1000, dtype=torch.bool)), batch_size=1)
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu", nb_sanity_val_steps=0)
    model = PerSample(dtype)
    metrics = trainer.test(model, loader) if kind == "test" else trainer.fit(model, batches(2), loader).metrics
    assert metrics == {"returned": 1.0, "logged": 1.0}


def test_a_weight_is_no_metric_wherever_it_is_returned() -> None:
    class Weighted(Returning):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": self.loss(batch), "weight": 3, "seen": 1.0}

        def validation_end(self, outputs: Any) -> Any:
            return {"weight": 5, "val_loss": 1.0}

        test_end = validation_end

    machine = trained(Weighted({"a": 1.0, "weight": 2}), batches(2), range(2), range(2), max_nb_epochs=1)
    assert machine.result.metrics == {"seen": 1.0, "val_loss": 1.0}


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, True, "2", torch.ones(2), torch.tensor(-1.0)])
def test_a_weight_out_of_its_range_is_an_error_that_names_the_step(weight: Any) -> None:
    with pytest.raises(ModelError, match="validation_step returned the weight "):
        checked(Returning({"val_loss": 1.0, "weight": weight}), range(2))


def test_a_batch_without_a_number_of_samples_counts_as_one_and_that_is_said_once(recwarn: pytest.WarningsRecorder) -> None:
    metrics = checked(Returning({"val_loss": 1.0}, {"val_loss": 2.0}), [[(torch.ones(2), torch.ones(3))] * 2])
    assert metrics == {"val_loss": 1.5}
    said = [str(warning.message) for warning in recwarn if "number of samples" in str(warning.message)]
    assert len(said) == 1
    assert said[0].startswith("validation_step: a batch counts in the metrics as one, whatever its size")


def test_metrics_whose_weights_are_all_0_are_nan_and_that_is_said_once(recwarn: pytest.WarningsRecorder) -> None:
    model = Returning({"val_loss": 1.0, "weight": 0})
    metrics = trained(model, batches(4), range(2), max_nb_epochs=3, val_check_interval=1).result.metrics
    assert math.isnan(metrics["val_loss"])
    said = [str(warning.message) for warning in recwarn if "weight 0" in str(warning.message)]
    assert said == ["validation_step: val_loss is NaN, because every batch that gave it has the weight 0."]


def test_no_word_is_said_of_batches_whose_samples_are_known(recwarn: pytest.WarningsRecorder) -> None:
    checked(Validated(), batches(5))
    assert not recwarn.list


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor([0.5])])
def test_a_bare_number_from_a_step_is_the_loss(value: Any) -> None:
    assert checked(Returning(value), range(2)) == {"val_loss": 0.5}


@pytest.mark.parametrize(
    ("value", "what"), [(torch.ones(3), r"a Tensor of shape \(3,\)"), ((1.0, 2.0), "a tuple"), ("a", "a str")]
)
def test_a_step_that_returns_what_nobody_uses_is_warned_of_once(value: Any, what: str) -> None:
    with pytest.warns(UserWarning, match=rf"validation_step returned {what}, from which no metric is made") as caught:
        assert checked(Returning(value), range(2)) == {}
    assert len([warning for warning in caught if "no metric is made" in str(warning.message)]) == 1


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([0.5])])
def test_a_number_of_numpy_is_a_metric(value: Any) -> None:
    assert checked(Returning({"val_loss": value, "weight": np.int64(2)}), range(2)) == {"val_loss": 0.5}


# ---- what an end hook does not return


class EndsWithAccuracy(Returning):
    def validation_end(self, outputs: Any) -> Any:
        return {"accuracy": 0.5}


def stopped_by(monitor: str, val: Any) -> Any:
    model = EndsWithAccuracy({"val_loss": 1.0, "other": 2.0, "weight": 1})
    return trained(model, batches(2), val, max_nb_epochs=9, early_stop_callback=EarlyStopping(monitor, patience=2))


def test_early_stopping_finds_the_average_of_a_metric_that_validation_end_does_not_return() -> None:
    machine = stopped_by("val_loss", range(2))
    assert machine.stop_reason is StopReason.EARLY_STOPPING
    assert machine.result.metrics == {"val_loss": 1.0, "accuracy": 0.5}


def test_and_that_of_one_of_several_loaders() -> None:
    assert stopped_by("val_loss/1", [range(2), range(1)]).stop_reason is StopReason.EARLY_STOPPING


def test_so_do_a_plateau_scheduler_and_a_checkpoint(tmp_path: Any) -> None:
    def with_plateau(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)]

    model = EndsWithAccuracy({"val_loss": 1.0, "other": 2.0, "weight": 1})
    model.configure = with_plateau
    saves = ModelCheckpoint(monitor="other", dirpath=tmp_path)
    machine = trained(model, batches(2), range(2), max_nb_epochs=3, callbacks=[saves])
    assert machine.optimizers[0].param_groups[0]["lr"] < 0.1
    assert machine.best_checkpoint is not None


def test_it_is_looked_up_also_if_validation_end_returns_none_but_an_empty_dict_says_that_there_is_no_metric() -> None:
    class Silent(Returning):
        returned: Any = None

        def validation_end(self, outputs: Any) -> Any:
            return self.returned

    model = Silent({"val_loss": 1.0, "weight": 1})
    assert trained(model, batches(2), range(2), max_nb_epochs=1, early_stop_callback=True).metrics == {"val_loss": 1.0}
    model.returned = {}
    with pytest.raises(MetricError, match="It returned no metric"):
        trained(model, batches(2), range(2), max_nb_epochs=1, early_stop_callback=True)


def test_what_validation_end_returns_wins() -> None:
    class Both(Returning):
        def validation_end(self, outputs: Any) -> Any:
            return {"val_loss": 7.0}

    machine = trained(Both({"val_loss": 1.0}), batches(2), range(2), max_nb_epochs=1, early_stop_callback=True)
    assert machine.result.metrics == {"val_loss": 7.0}


# ---- what the hooks are given


def test_an_end_hook_gets_one_list_for_one_loader() -> None:
    model = Gathering("a", "b", "c")
    checked(model, range(3))
    assert model.gathered == [["a", "b", "c"]]
    model = Gathering("a", "b", "c")
    checked(model, [range(3)])
    assert model.gathered == [["a", "b", "c"]]


def test_an_end_hook_gets_a_list_for_each_of_several_loaders() -> None:
    model = Gathering("a", "b", "c", "d", "e")
    checked(model, [[0, 1, 2], [], [3, 4]])
    assert model.gathered == [[["a", "b", "c"], [], ["d", "e"]]]


def test_the_same_holds_for_the_test() -> None:
    model = Gathering("a", "b", "c")
    machine = trained(model, batches(2), [], [[0], [1, 2]], max_nb_epochs=1)
    assert model.gathered == [[["a"], ["b", "c"]]]
    assert model.calls == [(0, 0, 0), (1, 0, 1), (2, 1, 1)]
    assert machine.result.metrics == {"val_loss": 1.5, "a": 2.0, "b": 3.0}


def test_steps_get_the_indices_of_their_loader_and_batch() -> None:
    model = Returning(None)
    checked(model, [["x", "y"], ["z"]])
    assert model.calls == [("x", 0, 0), ("y", 1, 0), ("z", 0, 1)]


def test_outputs_of_one_validation_are_not_passed_to_the_next() -> None:
    model = Gathering("a")
    trained(model, batches(4), range(2), max_nb_epochs=2, val_check_interval=1, nb_sanity_val_steps=1)
    assert model.gathered == [["a"]] + [["a", "a"]] * 4


@pytest.mark.parametrize("share", [0.5, 0.34])
def test_a_percentage_is_taken_of_each_loader_by_itself(share: float) -> None:
    model = Returning(None)
    checked(model, [list(range(3)), list(range(6))], val_percent_check=share)
    assert [i for _, _, i in model.calls] == [0] + [1] * int(6 * share)


# ---- streams


def test_streams_are_validated_to_their_end() -> None:
    class Unsized:
        def __init__(self, n: int) -> None:
            self.n = n

        def __iter__(self) -> Iterator[int]:
            return iter(range(self.n))

    model, visits = Gathering("a"), TransitionRecorder()
    val = [Unsized(3), [7, 8], Unsized(1)]
    options = {"max_nb_epochs": 2, "nb_sanity_val_steps": 2, "val_check_interval": 1.0, "callbacks": [visits]}
    trained(model, batches(4), val, **options)
    assert model.gathered == [[["a"] * 2, ["a"] * 2, ["a"]]] + [[["a"] * 3, ["a"] * 2, ["a"]]] * 2
    assert visits.states.count(State.SANITY_VAL) == 5
    assert visits.states.count(State.VAL_CHECK) == 12


def test_a_stream_and_a_sized_loader_with_the_same_batches_have_the_same_metrics() -> None:
    torch.manual_seed(0)
    model = Validated()
    sized = machine_of(model, batches(2), [], batches(7), max_nb_epochs=0).run()
    unsized = machine_of(model, batches(2), [], stream(7), max_nb_epochs=0).run()
    assert sized.metrics == unsized.metrics
    assert sized.metrics["test_loss"] > 0


def test_every_batch_of_a_stream_is_fetched_without_gradients() -> None:
    class Watching:
        def __iter__(self) -> Iterator[int]:
            for i in range(3):
                grad.append(torch.is_grad_enabled())
                yield i

    grad: list[bool] = []
    checked(Returning(None), Watching())
    assert grad == [False] * 3


# ---- modes and gradients


class FrozenNorm(Callback):
    """Keeps the batch normalisation of a model in eval mode, from a given hook on."""

    def freeze(self, machine: Any) -> None:
        for module in machine.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()


class FrozenAtStart(FrozenNorm):
    on_run_start = FrozenNorm.freeze


class FrozenInEachEpoch(FrozenNorm):
    on_epoch_start = FrozenNorm.freeze


class FrozenAtEachBatch(FrozenNorm):
    def on_batch_start(self, machine: Any, batch: Any) -> None:
        self.freeze(machine)


@pytest.mark.parametrize("callback", [FrozenAtStart, FrozenInEachEpoch, FrozenAtEachBatch])
def test_a_submodule_set_to_eval_in_a_hook_stays_so_after_validations(callback: type[FrozenNorm]) -> None:
    class Watched(Perceptron):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            modes.append([module.training for module in self.layer.children()])
            assert torch.is_grad_enabled()
            return super().training_step(batch, batch_nb)

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            assert not any(module.training for module in self.modules())
            return super().validation_step(batch, batch_nb)

    modes: list[list[bool]] = []
    model = Watched()
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm1d))
    trained(model, batches(8), batches(4), batches(4), max_nb_epochs=2, val_check_interval=2, callbacks=[callback()])
    assert modes == [[True, False, True, True, True]] * 8
    assert norm.num_batches_tracked == 0
    assert [module.training for module in model.layer.children()] == [True, False, True, True, True]


def test_a_fit_begins_in_train_mode_and_a_test_leaves_the_mode_alone() -> None:
    model = Perceptron()
    model.eval()
    machine_of(model, batches(4), [], batches(4), max_nb_epochs=0).run()
    assert not any(module.training for module in model.modules())
    trained(model, batches(4), batches(4), batches(4), max_nb_epochs=1)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_grad_mode_is_the_caller_s_after_every_transition(enabled: bool) -> None:
    model = Perceptron()
    test = batches(4)
    with torch.set_grad_enabled(enabled):
        for _ in machine_of(model, batches(4), batches(4), test, max_nb_epochs=1 if enabled else 0):
            assert torch.is_grad_enabled() is enabled
        assert torch.is_grad_enabled() is enabled


def test_a_validation_in_mid_window_leaves_the_gathered_gradients_alone() -> None:
    model = Perceptron()
    machine = machine_of(model, batches(8), batches(4), max_nb_epochs=1, accumulate_grad_batches=4, val_check_interval=2)
    before: list[Any] = []
    for transition in machine:
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        if transition.source is State.VAL_CHECK:
            assert same_bits(gradients, before)
            assert all(gradient is not None for gradient in gradients)
            return
        before = gradients
    raise AssertionError("there was no check")


# ---- the sanity pass


class Random(Perceptron):
    """Draws from every generator there is wherever it can."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        random.random()
        np.random.rand()
        torch.rand(2)
        return super().validation_step(batch, batch_nb)

    def validation_end(self, outputs: Any) -> Any:
        random.random()
        np.random.rand()
        torch.rand(2)
        return {}


def random_states(*generators: torch.Generator) -> list[Any]:
    """The states of all generators."""
    numpy_state: Any = np.random.get_state()
    return [
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state],
        torch.get_rng_state(),
        [generator.get_state() for generator in generators],
    ]


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_the_sanity_pass_changes_no_random_state(steps: int) -> None:
    own = torch.Generator().manual_seed(5)
    val = batches(8, shuffle=True, generator=own)
    machine = machine_of(Random(), batches(4), val, max_nb_epochs=1, nb_sanity_val_steps=steps)
    machine.advance()
    assert machine.state is State.SANITY_VAL
    before = random_states(own)
    machine.advance()
    assert same_bits(random_states(own), before) is (steps == 1)
    while machine.state is State.SANITY_VAL:
        machine.advance()
    assert machine.state is State.FETCH
    assert same_bits(random_states(own), before)


def test_a_sampler_s_own_generator_is_restored_after_the_sanity_pass() -> None:
    own = torch.Generator().manual_seed(5)
    samples = batches(8).dataset
    sampler: torch.utils.data.RandomSampler = torch.utils.data.RandomSampler(range(8), generator=own)
    by_batch = torch.utils.data.BatchSampler(sampler, 2, drop_last=False)
    loaders: list[Any] = [
        torch.utils.data.DataLoader(samples, batch_size=2, sampler=sampler),
        torch.utils.data.DataLoader(samples, batch_sampler=by_batch),
    ]
    before = own.get_state()
    for loader in loaders:
        machine = machine_of(Returning(None), batches(4), loader, max_nb_epochs=0, nb_sanity_val_steps=1)
        machine.run()
        assert torch.equal(own.get_state(), before)
        next(iter(loader))
        assert not torch.equal(own.get_state(), before)
        own.set_state(before)


def test_the_sanity_pass_changes_neither_weights_nor_buffers_nor_gradients_nor_metrics() -> None:
    model = Perceptron()
    before = weights(model)
    machine = machine_of(model, batches(4), batches(8), max_nb_epochs=0, nb_sanity_val_steps=3)
    machine.run()
    assert machine.times[State.SANITY_VAL].count == 3
    assert same_bits(weights(model), before)
    assert all(p.grad is None for p in model.parameters())
    assert machine.metrics == {}


def test_the_sanity_pass_is_no_validation() -> None:
    class Counting(Callback):
        def on_validation_start(self, machine: Any) -> None:
            calls.append("start")

        def on_validation_end(self, machine: Any, metrics: Any) -> None:
            calls.append(dict(metrics))

    calls: list[Any] = []
    model = Returning({"val_loss": 1.0})
    options = {"max_nb_epochs": 1, "nb_sanity_val_steps": 3, "callbacks": [Counting()]}
    machine = trained(model, batches(2), range(2), **options)
    assert len(model.calls) == 4
    assert calls == ["start", {"val_loss": 1.0}]
    assert machine.counters.validations_done == 1


@pytest.mark.parametrize("monitors", ["early stopping", "a plateau scheduler", "a checkpoint"])
def test_the_sanity_pass_warns_of_a_monitored_metric_that_it_did_not_return(monitors: str, tmp_path: Any) -> None:
    def with_plateau(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)]

    model, owner = Returning({"accuracy": 1.0, "weight": 1}), "early_stop_callback"
    options: dict[str, Any] = {}
    if monitors == "early stopping":
        options = {"early_stop_callback": EarlyStopping("val_loss")}
    elif monitors == "a checkpoint":
        options, owner = {"callbacks": [ModelCheckpoint(monitor="val_loss", dirpath=tmp_path)]}, "ModelCheckpoint"
    else:
        model.configure, owner = with_plateau, "ReduceLROnPlateau"
    machine = machine_of(model, batches(4), range(3), max_nb_epochs=5, nb_sanity_val_steps=2, **options)
    text = rf"{owner} monitors 'val_loss', which the sanity pass did not return\. It returned 'accuracy'\."
    with pytest.warns(UserWarning, match=text):
        _advance_to(machine, State.FETCH)
    with pytest.raises(MetricError, match=rf"{owner} monitors 'val_loss', which the validation did not return"):
        machine.run()


class Buffers(Linear):
    """Keeps its metrics in a buffer, and overwrites it after it was returned or logged."""

    def __init__(self, logs: bool) -> None:
        super().__init__()
        self.logs, self.value = logs, torch.zeros((), dtype=torch.float64)

    def given(self, name: str, value: float) -> dict[str, Any]:
        """Return the metric, or log it."""
        self.value.fill_(value)
        if not self.logs:
            return {name: self.value}
        self.log(name, self.value)
        self.value.zero_()
        return {}

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), **self.given("train", 3.0)}

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return self.given("step", 5.0 + batch_nb)

    def validation_end(self, outputs: Any) -> Any:
        return self.given("val_loss", 7.0)

    def on_epoch_end(self) -> None:
        self.value.zero_()


@pytest.mark.parametrize("logs", [False, True])
def test_metrics_have_their_values_of_when_they_were_given_whatever_is_written_into_their_tensors_later(logs: bool) -> None:
    machine = trained(Buffers(logs), batches(2), batches(4), max_nb_epochs=1, val_check_interval=1.0)
    expected = {"train": 3.0, "val_loss": 7.0, **({"step": 5.5} if logs else {})}
    assert machine.result.metrics == expected


def _advance_to(machine: Any, state: State) -> None:
    while machine.state is not state:
        machine.advance()


def test_a_pass_that_an_older_version_saved_in_its_middle_is_refused() -> None:
    """It averaged over batches, so no run could continue to the same bits."""
    machine = machine_of(Validated(), batches(4), batches(4))
    _advance_to(machine, State.SANITY_VAL)
    machine.advance()
    eval_pass = machine._actions.eval_passes[State.SANITY_VAL]
    state = eval_pass.state_dict()
    assert state is not None
    del state["averages"]
    with pytest.raises(ResumeError, match="saved within a pass of validation_step by an older fsmtrain"):
        eval_pass.load_state_dict(state)
