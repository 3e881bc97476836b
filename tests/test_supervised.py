"""`Supervised`: plain modules trained with a loss function, an optimizer, schedulers and metrics."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_sequence
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from fsmtrain import Callback, ModelCheckpoint, Supervised, Trainer
from fsmtrain.errors import FsmtrainError, ModelError, SizesError
from tests.models import GatheredMean, Linear, batches, machine_of, same_bits, stream, trained, twins

ROOT = Path(__file__).parents[1]
sgd = functools.partial(SGD, lr=0.1, momentum=0.9)


def net() -> nn.Sequential:
    """A plain module."""
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.2), nn.Tanh(), nn.Linear(5, 1))


def supervised(model: nn.Module | None = None, **arguments: Any) -> Supervised:
    """A plain module with a squared error and SGD."""
    return Supervised(net() if model is None else model, **{"loss": nn.MSELoss(), "optimizer": sgd, **arguments})


def mean_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """The mean absolute error."""
    return (predictions - targets).abs().mean()


def dicts(n: int) -> list[dict[str, Tensor]]:
    """Batches of `batches` as dicts of a plain list."""
    return [{"x": x, "labels": y} for x, y in batches(n)]


# ---- laws: the same bits as by hand


@given(n=st.integers(1, 7), window=st.integers(1, 3), clip=st.sampled_from([0, 0.1]), epochs=st.integers(1, 2))
def test_a_supervised_model_trains_the_same_bits_as_a_loop_by_hand(n: int, window: int, clip: float, epochs: int) -> None:
    by_hand, model = twins(net)
    loader = batches(2 * n)
    optimizer = sgd(by_hand.parameters())
    for _ in range(epochs):
        data = list(loader)
        for first in range(0, n, window):
            group = data[first : first + window]
            for x, y in group:
                (F.mse_loss(by_hand(x), y) / len(group)).backward()  # type: ignore[no-untyped-call]
            if clip:
                clip_grad_norm_(by_hand.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    torch.manual_seed(0)
    trained(supervised(model), loader, max_nb_epochs=epochs, accumulate_grad_batches=window, gradient_clip_val=clip)
    assert same_bits(model.state_dict(), by_hand.state_dict())


class Named(nn.Module):
    """A regression whose arguments have names; without targets it returns its predictions, as the models of transformers do."""

    def __init__(self, returns: Callable[[Tensor | None, Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.returns = returns

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.layer(x)
        return self.returns(None if labels is None else F.mse_loss(logits, labels), logits)


def as_object(loss: Tensor | None, logits: Tensor) -> Any:
    """An output with attributes."""
    return SimpleNamespace(loss=loss, logits=logits)


def as_dict(loss: Tensor | None, logits: Tensor) -> Any:
    """An output that is a dict."""
    return {"loss": loss, "logits": logits}


def as_loss(loss: Tensor | None, logits: Tensor) -> Any:
    """The loss alone."""
    return logits if loss is None else loss


@pytest.mark.parametrize("returns", [as_object, as_dict, as_loss])
@pytest.mark.parametrize("data", [batches, dicts])
def test_a_model_may_return_its_own_loss(returns: Any, data: Any) -> None:
    plain, named = Linear(sgd), Named(returns)
    named.layer.load_state_dict(plain.layer.state_dict())
    trained(plain, batches(6), max_nb_epochs=2)
    machine = trained(Supervised(named, optimizer=sgd), data(6), data(4), max_nb_epochs=2)
    assert same_bits(named.layer.state_dict(), plain.layer.state_dict())
    assert machine.metrics["val_loss"] > 0


@pytest.mark.parametrize("returns", [as_object, as_dict])
def test_a_loss_function_and_metrics_get_the_logits_and_the_targets_of_a_dict(returns: Any) -> None:
    torch.manual_seed(0)
    named = Named(returns)
    one, other = Linear(sgd), supervised(named, metrics={"error": mean_error})
    one.layer.load_state_dict(named.layer.state_dict())
    trained(one, batches(6), max_nb_epochs=1)
    machine = trained(other, dicts(6), dicts(4), max_nb_epochs=1, val_check_interval=1.0)
    assert same_bits(named.layer.state_dict(), one.layer.state_dict())
    assert machine.metrics["val_error"] > 0
    own = Supervised(named, metrics={"error": mean_error})
    validated = Trainer(runs_dir=None, quiet=True, device="cpu").validate(own, dicts(4))
    assert validated == machine.result.metrics


def test_a_dict_s_targets_may_have_another_key_and_a_tuple_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x: Tensor, scale: Tensor) -> Any:
            return self.layer(x) * scale

    data = [{"x": x, "scale": torch.full((2, 1), 2.0), "y": y} for x, y in batches(6)]
    one, other = twins(Two)
    trained(supervised(one, targets="y"), data, max_nb_epochs=1)
    trained(supervised(other), [(d["x"], d["scale"], d["y"]) for d in data], max_nb_epochs=1)
    assert same_bits(one.state_dict(), other.state_dict())


def test_a_packed_sequence_is_one_input() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 1)

        def forward(self, x: Any) -> Any:
            return self.rnn(x)[1][-1]

    x = pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    model = Reader()
    trained(supervised(model), [(x, torch.zeros(2, 1))], max_nb_epochs=1)
    assert supervised(model).predict_step((x, None), 0).shape == (2, 1)


# ---- what the loss function returns


def test_a_loss_function_may_return_a_weight_and_further_metrics() -> None:
    def loss(predictions: Tensor, targets: Tensor) -> dict[str, Any]:
        mask = targets > 0
        squares = (predictions - targets).square() * mask
        n = mask.sum()
        return {"loss": squares.sum() / n.clamp(min=1), "weight": n, "spread": predictions.abs().max()}

    class ByHand(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return loss(self.layer(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            found = self.training_step(batch, batch_nb)
            return {"val_loss": found["loss"], "val_spread": found["spread"], "weight": found["weight"]}

    one, other = twins(lambda: ByHand(sgd))
    expected = trained(one, batches(9), batches(5), max_nb_epochs=2, accumulate_grad_batches=2)
    machine = trained(supervised(other.layer, loss=loss), batches(9), batches(5), max_nb_epochs=2, accumulate_grad_batches=2)
    assert same_bits(one.state_dict(), other.state_dict())
    assert machine.result.metrics == expected.result.metrics


def test_a_loss_module_is_moved_and_trained_with_the_model() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
            return F.mse_loss(predictions * self.scale, targets)

    loss = Scaled()
    trained(supervised(loss=loss), batches(4), max_nb_epochs=1)
    assert loss.scale != 1


# ---- metrics


def test_metrics_of_validation_and_test_are_means_over_samples_and_train_metrics_over_the_epoch(tmp_path: Path) -> None:
    model = supervised(nn.Linear(3, 1), metrics={"error": mean_error}, train_metrics={"error": mean_error})
    trainer = Trainer(max_nb_epochs=1, runs_dir=tmp_path, quiet=True, device="cpu")
    trainer.fit(model, batches(5), batches(7))
    x, y = (torch.cat(parts) for parts in zip(*batches(7), strict=True))
    with torch.no_grad():
        error, squares = mean_error(model.model(x), y).item(), F.mse_loss(model.model(x), y).item()
    assert trainer.validate(model, batches(7)) == pytest.approx({"val_loss": squares, "val_error": error})
    assert trainer.test(model, batches(7)) == pytest.approx({"test_loss": squares, "test_error": error})
    [epoch] = trainer.history.of("epoch")
    assert epoch["train_error"] > 0
    assert all("loss" in row for row in trainer.history.of("train"))


class MeanError(GatheredMean):
    """The mean absolute error as a metric object."""

    def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        super().update((predictions - targets).abs())


def test_metric_objects_have_the_values_of_functions_and_are_no_part_of_the_weights() -> None:
    found, model = [], net().eval()
    for metric in (MeanError(), mean_error):
        own = copy.deepcopy(model)
        arguments: dict[str, Any] = {"metrics": {"error": metric}, "train_metrics": {"error": copy.deepcopy(metric)}}
        torch.manual_seed(0)
        found.append(trained(supervised(own, **arguments), batches(5), batches(5), max_nb_epochs=2).result.metrics)
        assert {name.partition(".")[0] for name in supervised(own, **arguments).state_dict()} == {"model"}
    assert found[0] == pytest.approx(found[1])
    assert {"train_error", "val_error", "val_loss"} <= found[0].keys()


def test_metrics_of_torchmetrics_and_their_collections() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection(
        {"mae": torchmetrics.MeanAbsoluteError(), "mse": torchmetrics.MeanSquaredError()}
    )
    model = supervised(metrics=collection, train_metrics={"mae": torchmetrics.MeanAbsoluteError()})
    machine = trained(model, batches(5), batches(5), max_nb_epochs=1)
    assert machine.metrics["val_mse"] == pytest.approx(machine.metrics["val_loss"])
    assert {"val_mae", "train_mae"} <= machine.metrics.keys()


def test_models_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()  # as from_pretrained returns it
    ids = torch.randint(0, 20, (4, 6))
    batch = transformers.BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2})
    accuracy = lambda logits, labels: (logits.argmax(1) == labels).float().mean()  # noqa: E731
    machine = trained(
        Supervised(model, optimizer=functools.partial(Adam, lr=0.01), metrics={"accuracy": accuracy}),
        *([batch] * 20, [batch]),
        max_nb_epochs=2,
    )
    assert machine.metrics["val_accuracy"] == 1
    assert model.training


# ---- optimizers and schedulers


@pytest.mark.parametrize("form", ["an optimizer", "a function", "a partial"])
def test_the_forms_of_optimizer(form: str) -> None:
    one, other = twins(net)
    forms: dict[str, Any] = {
        "an optimizer": sgd(other.parameters()),
        "a function": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
        "a partial": sgd,
    }
    trained(supervised(one), batches(6), max_nb_epochs=2)
    torch.manual_seed(0)
    trained(supervised(other, optimizer=forms[form]), batches(6), max_nb_epochs=2)
    torch.testing.assert_close(one.state_dict(), other.state_dict())


def step_lr(optimizer: Optimizer) -> StepLR:
    """Halve the rate in each epoch."""
    return StepLR(optimizer, 1, 0.5)


def rates(model: Supervised, n: int = 6, **more: Any) -> list[float]:
    """The learning rates with which each batch of two epochs is trained."""

    class Rates(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_optimizer_step(self, machine: Any, optimizer: Any) -> None:
            self.seen.append(round(optimizer.param_groups[0]["lr"], 6))

    watch = Rates()
    trained(model, batches(n), max_nb_epochs=2, callbacks=[watch], **more)
    return watch.seen


def test_the_forms_of_schedulers() -> None:
    by_epoch, by_step = [0.1] * 3 + [0.05] * 3, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    optimizer = sgd((model := net()).parameters())
    assert rates(supervised(model, optimizer=optimizer, schedulers=step_lr(optimizer))) == by_epoch
    assert rates(supervised(schedulers=step_lr)) == by_epoch
    assert rates(supervised(schedulers=[functools.partial(StepLR, step_size=1, gamma=0.5)])) == by_epoch
    assert rates(supervised(schedulers={"scheduler": step_lr, "interval": "step", "frequency": 2})) == by_step
    with_dict = lambda optimizer: {"scheduler": step_lr(optimizer), "interval": "step", "frequency": 2}  # noqa: E731
    assert rates(supervised(schedulers=with_dict)) == by_step


def test_a_function_of_a_scheduler_gets_total_steps_and_steps_with_the_optimizer() -> None:
    def linear(optimizer: Optimizer, total_steps: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: 1 - step / total_steps)

    assert rates(supervised(schedulers=linear)) == pytest.approx([0.1 * (1 - i / 6) for i in range(6)], abs=1e-6)
    assert rates(supervised(schedulers=linear), accumulate_grad_batches=2) == [0.1, 0.075, 0.05, 0.025]
    cycle = rates(supervised(schedulers=functools.partial(OneCycleLR, max_lr=0.1)))
    assert len(cycle) == 6
    assert cycle[-1] < 1e-3
    fixed = functools.partial(OneCycleLR, max_lr=0.1, total_steps=2)
    assert len(rates(supervised(schedulers=fixed))) == 6  # one step in each epoch
    with pytest.raises(SizesError, match="total_steps"):
        trained(supervised(schedulers=linear), stream(6), max_nb_epochs=2)


# ---- with the rest of the package


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_other_precisions(precision: Any) -> None:
    model = supervised(metrics={"error": mean_error})
    assert trained(model, batches(4), batches(2), max_nb_epochs=1, precision=precision).metrics["val_error"] > 0


def test_a_compiled_supervised_model_and_a_compiled_module_train_as_plain_ones() -> None:
    plain, whole, inner = net(), net(), net()
    for other in (whole, inner):
        other.load_state_dict(plain.state_dict())
    compiled = [torch.compile(supervised(whole), backend="eager"), supervised(cast(Any, torch.compile(inner, backend="eager")))]
    for model in (supervised(plain), *compiled):
        torch.manual_seed(0)
        trained(model, batches(4), max_nb_epochs=1)  # type: ignore[arg-type]
    torch.testing.assert_close(whole.state_dict(), plain.state_dict())
    torch.testing.assert_close(inner.state_dict(), plain.state_dict())


def test_a_run_that_is_resumed_ends_in_the_same_bits(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_batch_end(self, machine: Any) -> None:
            if (machine.current_epoch, machine.counters.batch_nb) == (1, 1):
                machine.stop()

    def run(model: nn.Module, **more: Any) -> Supervised:
        torch.manual_seed(0)
        own = supervised(
            model,
            metrics={"error": mean_error},
            train_metrics={"error": MeanError(), "function": mean_error},
            schedulers=functools.partial(OneCycleLR, max_lr=0.1),
        )
        machine = machine_of(own, batches(8), batches(4), max_nb_epochs=3, runs_dir=tmp_path, **more)
        if "run_name" in more:
            machine.run()
        else:
            machine.resume(tmp_path / "stopped")
            machine.run()
        results.append(machine.result.metrics)
        return own

    results: list[Any] = []
    torch.manual_seed(1)
    whole, first = net(), net()
    first.load_state_dict(whole.state_dict())
    run(whole, run_name="whole", callbacks=[ModelCheckpoint()])
    run(first, run_name="stopped", callbacks=[ModelCheckpoint(), Stop()])
    resumed = net()
    run(resumed, callbacks=[ModelCheckpoint()])
    assert same_bits(resumed.state_dict(), whole.state_dict())
    assert results[2] == results[0] != results[1]


def test_saved_weights_are_those_of_the_plain_model(tmp_path: Path) -> None:
    trainer = Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, device="cpu")
    model = supervised()
    trainer.fit(model, batches(4))
    trainer.save_checkpoint(tmp_path / "weights.pt")
    fresh = net()
    loaded = Supervised.load_from_checkpoint(tmp_path / "weights.pt", model=fresh)
    assert loaded.model is fresh
    assert same_bits(fresh.state_dict(), model.model.state_dict())
    torch.save(model.model.state_dict(), tmp_path / "plain.pt")
    other = net()
    other.load_state_dict(torch.load(tmp_path / "plain.pt"))
    assert same_bits(other.state_dict(), model.model.state_dict())


def test_a_copy_shares_nothing_with_the_model() -> None:
    plain = net()
    model = supervised(plain, optimizer=sgd(plain.parameters()), metrics={"error": MeanError()})
    other = copy.deepcopy(model)
    trained(other, batches(4), batches(2), max_nb_epochs=1)
    assert not same_bits(other.state_dict(), model.state_dict())
    assert other.optimizer.param_groups[0]["params"][0] is next(other.parameters())


def test_a_plain_model_in_eval_mode_is_trained_in_train_mode() -> None:
    model = net().eval()
    trained(supervised(model), batches(4), max_nb_epochs=1)
    assert all(module.training for module in model.modules())


def test_predict_step_leaves_the_targets_out() -> None:
    model = supervised(Named(as_object)).eval()
    x, y = next(iter(batches(2)))
    expected = model.model(x).logits
    for batch in ((x, y), [x], x, {"x": x, "labels": y}, {"x": x}):
        assert same_bits(model.predict_step(batch, 0).detach(), expected.detach())


def test_predict_returns_the_predictions_of_inputs_with_and_without_targets() -> None:
    model = supervised().eval()
    trainer = Trainer(device="cpu", quiet=True)
    x = [x for x, _ in batches(4)]
    expected = [model.model(part).detach() for part in x]
    assert same_bits(trainer.predict(model, batches(4)), expected)
    assert same_bits(trainer.predict(model, x), expected)


def test_a_distribution_and_a_dict_of_several_heads_are_predictions_as_they_are() -> None:
    class Several(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.layer, self.kind = nn.Linear(3, 1), kind

        def forward(self, x: Tensor) -> Any:
            logits = self.layer(x)
            return {"logits": logits, "scale": logits.exp()} if self.kind == "dict" else Bernoulli(logits=logits)

    losses: dict[str, Any] = {
        "dict": lambda found, targets: F.mse_loss(found["logits"] * found["scale"], targets),
        "distribution": lambda found, targets: -found.log_prob((targets > 0).float()).mean(),
    }
    for kind, loss in losses.items():
        trained(supervised(Several(kind), loss=loss), batches(4), max_nb_epochs=1)


def test_the_record_names_the_plain_model(tmp_path: Path) -> None:
    machine = trained(supervised(nn.Linear(3, 1)), batches(4), max_nb_epochs=1, runs_dir=tmp_path)
    assert machine.run_dir is not None
    assert "Supervised(Linear)" in (machine.run_dir / "run.json").read_text()


SCRIPT = """
import functools, torch
from fsmtrain import Supervised

def make(lr=0.1):
    torch.manual_seed(0)
    data = [(torch.ones(2, 3), torch.ones(2, 1))] * 4
    return Supervised(torch.nn.Linear(3, 1), loss=torch.nn.MSELoss(), optimizer=functools.partial(torch.optim.SGD, lr=lr),
                      train_dataloader=data, val_dataloaders=data, test_dataloaders=data)
"""


def test_the_command_line_trains_what_a_function_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from fsmtrain.cli.app import main

    (tmp_path / "train_plain.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    command = "fit train_plain.py:make --max_nb_epochs 2 --hparams lr=0.01 --test --save weights.pt --json"
    assert main(command.split()) == 0
    assert '"test_loss"' in capsys.readouterr().out
    assert main(["test", "train_plain.py:make", "--weights", "weights.pt", "--json"]) == 0


# ---- mistakes


WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"model": nn.Linear}, r"model: Linear is a class.*as in Model\(\)"),
    ({"model": Linear()}, r"Supervised\(Linear\): it has a training_step of its own"),
    ({"loss": "mse"}, r"Supervised\(loss='mse'\): must be a function"),
    ({"loss": nn.MSELoss}, r"Supervised\(loss=MSELoss\): is a class.*loss=MSELoss\(\)"),
    ({"optimizer": "adam"}, r"Supervised\(optimizer='adam'\): must be one torch optimizer.*functools.partial"),
    ({"optimizer": [SGD(net().parameters(), lr=1)]}, r"must be one torch optimizer.*take turns"),
    ({"optimizer": SGD(net().parameters(), lr=1)}, r"optimizer=SGD\(...\)\): it has none of the model's parameters"),
    ({"schedulers": StepLR(SGD(net().parameters(), lr=1), 1)}, r"schedulers=StepLR\(...\)\): it follows another optimizer"),
    ({"metrics": {"": mean_error}}, r"Supervised\(metrics=\{'': ...\}\): a metric needs a name"),
    ({"metrics": {"loss": mean_error}}, r"metrics=\{'loss': ...\}\): the name 'loss' is that of the loss itself"),
    ({"train_metrics": {"weight": mean_error}}, r"train_metrics=\{'weight': ...\}\): the name 'weight'"),
    ({"metrics": {"a": 3}}, r"metrics=\{'a': ...\}\): is 3. A metric is a function"),
    ({"metrics": {"a": MeanError}}, r"A metric is a function"),
    (
        {"metrics": {"a": lambda p: 1.0}},
        r"metrics=\{'a': ...\}\): it is called with predictions and targets.*too many positional",
    ),
    (
        {"loss": lambda p, t, w: p},
        r"Supervised\(loss=<lambda>\): it is called with predictions and targets.*missing a required",
    ),
    ({"metrics": [mean_error]}, r"must be a dict of metrics by name"),
    ({"targets": 1}, r"Supervised\(targets=1\): must be the key"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_an_error_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        supervised(**arguments)


@pytest.mark.parametrize("loss", [nn.MSELoss(reduction="none"), lambda p, t: {"loss": (p - t) ** 2}])
def test_a_loss_that_is_not_one_number_is_an_error_in_a_validation_too(loss: Any) -> None:
    with pytest.raises(ModelError, match=r"a loss of shape \(2, 1\)\. A loss is one number: reduce it"):
        Trainer(runs_dir=None, quiet=True, device="cpu").validate(
            supervised(nn.Linear(3, 1), loss=loss), [[torch.ones(2, 3), torch.ones(2, 1)]]
        )


def test_the_same_metric_object_cannot_have_two_names() -> None:
    metric = MeanError()
    with pytest.raises(ModelError, match=r"metrics=\{'b': ...\}\): the same object is there under another name"):
        supervised(metrics={"a": metric, "b": metric})


def test_the_same_metric_object_cannot_gather_over_an_epoch_and_over_the_validations_within_it() -> None:
    metric = MeanError()
    with pytest.raises(ModelError, match=r"train_metrics=...\): the same MeanError object is in both"):
        supervised(metrics={"a": metric}, train_metrics={"b": metric})


def test_metrics_of_training_get_predictions_without_their_graph() -> None:
    """A metric that keeps what it gets would keep the graph of each batch of an epoch."""
    kept: list[Any] = []

    class Keeps(MeanError):
        def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
            kept.append(predictions)
            super().update(predictions, targets)

    def keeps(predictions: Tensor, targets: Tensor) -> Tensor:
        kept.append(predictions)
        return mean_error(predictions, targets)

    trained(supervised(nn.Linear(3, 1), train_metrics={"a": Keeps(), "b": keeps}), batches(3))
    assert len(kept) >= 2
    assert not any(predictions.requires_grad for predictions in kept)


WRONG_RUNS: list[tuple[dict[str, Any], Any, str]] = [
    ({}, [torch.ones(2, 3)], r"the batch is a Tensor. It must be a tuple \(inputs, targets\), or a dict"),
    ({}, [[torch.ones(2, 3)]], r"the batch is a list with 1 of the two items.*\(inputs, inputs\)"),
    ({}, [{"x": torch.ones(2, 3)}], r"Supervised\(targets='labels'\): the batch has no such key; it has 'x'.*targets='y'"),
    ({"loss": None}, [[torch.ones(2, 3)]], r"Supervised\(loss=None\): Sequential, returned.* shape \(2, 1\).*Pass loss="),
    ({"model": Named(as_object), "loss": None}, [{"x": torch.ones(2, 3)}], r"called with x, returned.*without a loss"),
    ({"loss": lambda p, t: 3.0}, None, r"Supervised\(loss=<lambda>\): it returned a float"),
    ({"loss": F.l1_loss, "optimizer": lambda p: [SGD(p)]}, None, r"it returned a list. It must return one torch optimizer"),
    ({"optimizer": None}, None, r"Supervised\(optimizer=None\): fit needs one"),
    (
        {"schedulers": lambda optimizer: 3},
        None,
        r"Supervised\(schedulers=...\): configure_optimizers returned 3 as a scheduler",
    ),
    ({"metrics": {"a": lambda p, t: p}}, None, r"metrics=\{'a': ...\}\): it returned a Tensor of shape \(2, 1\)"),
    (
        {"metrics": {"a": mean_error}, "loss": lambda p, t: {"loss": p.mean(), "a": 1.0}},
        None,
        r"metrics=\{'a': ...\}\): what the loss function returned has 'a', too. Rename",
    ),
]


@pytest.mark.parametrize(("arguments", "data", "message"), WRONG_RUNS)
def test_a_mistake_that_a_run_finds_names_the_argument_and_the_way_out(
    arguments: dict[str, Any], data: Any, message: str
) -> None:
    with pytest.raises(FsmtrainError, match=message):
        trained(supervised(**arguments), data or batches(4), data or batches(2), max_nb_epochs=1)


def test_truncated_bptt_needs_a_class() -> None:
    with pytest.raises(
        ModelError, match=r"Give Supervised, or a subclass of it, training_step\(self, batch, batch_nb, hiddens\)"
    ):
        machine_of(supervised(), batches(4), max_nb_epochs=1, truncated_bptt_steps=2)


def test_the_plan_of_a_supervised_run_is_exact() -> None:
    assert "may be fewer" not in str(machine_of(supervised(), batches(8), max_nb_epochs=2).plan())


def test_the_first_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    page = (ROOT / "docs" / "supervised.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    assert "'test_accuracy': " in capsys.readouterr().out
    assert (tmp_path / "net.pt").exists()


def test_the_schedule_of_the_page_warms_up_and_ends_at_zero() -> None:
    page = (ROOT / "docs" / "supervised.md").read_text(encoding="utf-8")
    [code] = [block for block in page.split("```python\n") if block.startswith("def warm_up_and_cosine")]
    names: dict[str, Any] = {"math": math, "torch": torch}
    exec(code.partition("\n\n")[0], names)
    trained_with = rates(supervised(schedulers=names["warm_up_and_cosine"]), n=300)
    assert len(trained_with) == 300
    assert trained_with[0] == pytest.approx(0.001)
    assert 90 < trained_with.index(max(trained_with)) < 100
    assert trained_with[-1] < 1e-5
