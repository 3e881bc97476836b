"""Real runs against the cases of ``data/conformance.jsonl``: every call in order, and the final weights.

Each line is a case: options, sizes, a tiny float64 model, what is called in which order (`mode`), and what is expected: a run
that is refused, or tokens, weights, learning rates and the global step. The tokens are

- ``T<epoch>.<batch>.o<optimizer>.s<split>@<global_step>``: ``training_step``, and ``B<optimizer>`` its backward;
- ``H<epoch>.<batch>.o<optimizer>``: ``optimizer_step``; ``S<optimizer>`` and ``Z<optimizer>``: an optimizer's ``step`` and
  ``zero_grad``; ``L:<class>:<optimizer>``: a scheduler's ``step``;
- ``v<loader>.<batch>`` and ``t<loader>.<batch>``: ``validation_step`` and ``test_step``; ``ve:<n>`` and ``te:<n>``: their end
  hooks, with `n` outputs.

The cases were made from the documented rules without this package; those that agree with the trainer which the flags are
documented for were recorded from it as well.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from fsmtrain import EarlyStopping, FsmtrainError, LightningModule, Trainer

Case = dict[str, Any]

CASES: dict[str, Case] = {
    case["id"]: case for case in map(json.loads, (Path(__file__).parents[1] / "data" / "conformance.jsonl").open())
}
RATES = (0.05, 0.03)
CALLS = {
    "fit": ["fit"],
    "fit_fit": ["fit", "fit"],
    "fit_test": ["fit", "test"],
    "fit_testmodel": ["fit", "test model"],
    "test_only": ["test model"],
    "test_no_fit": ["test"],
    "test_then_fit": ["test model", "fit"],
}


# ---- what writes tokens


class LoggedSGD(SGD):
    """SGD that records its calls."""

    def __init__(self, parameters: Iterable[Any], rate: float, index: int, tokens: list[str]) -> None:
        self.index, self.tokens = index, tokens
        super().__init__(parameters, lr=rate)

    def step(self, closure: Any = None) -> Any:
        self.tokens.append(f"S{self.index}")
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.tokens.append(f"Z{self.index}")
        super().zero_grad(set_to_none)


def scheduler_of(settings: Case, optimizer: LoggedSGD) -> Any:
    """A scheduler that records its steps, except the one of its constructor."""
    made: Any = None
    if settings["type"] == "steplr":
        made = StepLR(optimizer, settings.get("step_size", 1), gamma=settings.get("gamma", 0.5))
    elif settings["type"] == "exp":
        made = ExponentialLR(optimizer, gamma=settings.get("gamma", 0.5))
    else:
        patience, factor = settings.get("patience", 0), settings.get("factor", 0.5)
        made = ReduceLROnPlateau(optimizer, patience=patience, factor=factor, threshold=0.0)
    inner = made.step

    def step(*args: Any) -> None:
        optimizer.tokens.append(f"L:{type(made).__name__}:{optimizer.index}")
        inner(*args)

    made.step = step
    return made


class Data:
    """A loader of batches of one sequence each, which follow from their index. `sized` tells whether it knows its length."""

    def __init__(self, kind: str, n: int, steps: int, index: int = 0) -> None:
        self.kind, self.n, self.steps, self.index = kind, n, steps, index

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        time = torch.arange(self.steps, dtype=torch.float64)[None]  # (1, steps)
        for i in range(self.n):
            if self.kind == "train":
                yield 1 + 0.1 * i + 0.01 * time, 2 - 0.2 * i + 0.03 * time
            else:
                yield 0.5 + 0.1 * i + 0.05 * self.index + 0 * time, 1 + 0.02 * time


class SizedData(Data):
    """The same with a length."""

    def __len__(self) -> int:
        return self.n


class Tiny(LightningModule):
    """Two numbers, `w` and `v`. One optimizer has both; of two, each has one."""

    def __init__(self, case: Case, tokens: list[str]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.v = nn.Parameter(torch.tensor(-0.25, dtype=torch.float64))
        self.settings, self.sizes, self.tokens = case["model"], case["sizes"], tokens
        self.splits = case["options"].get("truncated_bptt_steps") is not None
        self.sgds: list[LoggedSGD] = []
        self.validations = 0
        self.call: tuple[int, int, int] | None = None
        self.calls: dict[tuple[int, int, int], int] = {}
        for name in ("validation_end", "test_step", "test_end"):
            if not self.settings.get(f"has_{name.replace('validation', 'val')}", True):
                setattr(self, name, None)

    def predict(self, x: Any, hiddens: Any, index: int) -> Any:
        """The prediction of the part that optimizer `index` trains."""
        own, other = (self.w, self.v) if index == 0 else (self.v, self.w)
        return own * x + 0.1 * other + 0.2 * hiddens

    # ---- training

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int = 0, hiddens: Any = None) -> Any:
        assert self.training
        assert torch.is_grad_enabled()
        x, y = batch
        call = self.current_epoch, batch_nb, optimizer_i
        split = self.calls[call] = self.calls.get(call, -1) + 1
        self.tokens.append(f"T{self.current_epoch}.{batch_nb}.o{optimizer_i}.s{split}@{self.global_step}")
        predicted = self.predict(x, 0.0 if hiddens is None else hiddens, optimizer_i)
        loss = 0.5 * ((predicted - y * (1.0 if optimizer_i == 0 else 0.5)) ** 2).mean()
        loss.register_hook(lambda gradient: self.tokens.append(f"B{optimizer_i}"))
        return {"loss": loss, "hiddens": predicted.mean()} if self.splits else loss

    def configure_optimizers(self) -> Any:
        groups = [[self.w, self.v]] if self.settings.get("n_opt", 1) == 1 else [[self.w], [self.v]]
        self.sgds = [LoggedSGD(group, RATES[i], i, self.tokens) for i, group in enumerate(groups)]
        schedules = self.settings.get("sched") or []
        schedules = schedules if isinstance(schedules, list) else [schedules]
        last = len(groups) - 1
        schedulers = [scheduler_of(s, self.sgds[s.get("opt", min(i, last))]) for i, s in enumerate(schedules)]
        if schedulers:
            return self.sgds, schedulers
        if self.settings.get("opt_return") == "tuple":
            return tuple(self.sgds)
        return self.sgds if last else self.sgds[0]

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        self.tokens.append(f"H{current_epoch}.{batch_nb}.o{optimizer_i}")
        kind = self.settings.get("optimizer_step", "default")
        if kind == "default":
            super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure)
            return
        if kind == "alt" and batch_nb % (2, 4)[optimizer_i] != 0:
            return
        warm = self.settings.get("warmup_n", 500)
        if kind == "warmup" and self.trainer.global_step < warm:
            for group in optimizer.param_groups:
                group["lr"] = min(1.0, float(self.trainer.global_step + 1) / warm) * RATES[optimizer_i]
        optimizer.step()
        if kind != "nozero":
            optimizer.zero_grad()

    # ---- evaluation

    def evaluate(self, kind: str, batch: Any, batch_nb: int, dataloader_i: int) -> Any:
        """One step of validation or of the test."""
        assert not self.training
        assert not torch.is_grad_enabled()
        self.tokens.append(f"{kind[0]}{dataloader_i}.{batch_nb}")
        x, y = batch
        return {f"{kind}_loss": 0.5 * ((self.predict(x, 0.0, 0) - y) ** 2).mean()}

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        return self.evaluate("val", batch, batch_nb, dataloader_i)

    def test_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        return self.evaluate("test", batch, batch_nb, dataloader_i)

    def end(self, kind: str, outputs: Any) -> Any:
        """The mean over all batches of all loaders."""
        flat = [each for part in outputs for each in (part if isinstance(part, list) else [part])]
        self.tokens.append(f"{kind[0]}e:{len(flat)}")
        return {f"{kind}_loss": sum(each[f"{kind}_loss"] for each in flat) / len(flat)} if flat else {}

    def validation_end(self, outputs: Any) -> Any:
        metrics = self.end("val", outputs)
        if self.settings.get("val_loss_missing"):
            return {}
        script = self.settings.get("val_loss")
        if script is None:
            return metrics
        if not self.calls:  # the sanity pass
            return {"val_loss": 1000.0}
        self.validations += 1
        return {"val_loss": script[min(self.validations, len(script)) - 1]}

    def test_end(self, outputs: Any) -> Any:
        return self.end("test", outputs)

    # ---- data

    def train_dataloader(self) -> Any:
        make = Data if self.sizes.get("train_iterable") else SizedData
        return make("train", self.sizes["train"], self.sizes["seq_len"])

    def val_dataloader(self) -> Any:
        return self.loaders("val")

    def test_dataloader(self) -> Any:
        return self.loaders("test")

    def loaders(self, kind: str) -> Any:
        """One loader, a list of several, or None."""
        sizes, steps = self.sizes[kind], self.sizes["seq_len"]
        if isinstance(sizes, list):
            return [SizedData(kind, n, steps, index) for index, n in enumerate(sizes)]
        return None if sizes is None else SizedData(kind, sizes, steps)


# ---- the comparison


def trainer_of(options: Case) -> Trainer:
    """Return the trainer of a case."""
    flags = {**options, "progress_bar": False, "device": "cpu"}
    if isinstance(flags.get("early_stop_callback"), dict):
        flags["early_stop_callback"] = EarlyStopping(**flags["early_stop_callback"])
    if isinstance(flags.get("accumulate_grad_batches"), dict):
        flags["accumulate_grad_batches"] = {int(epoch): k for epoch, k in flags["accumulate_grad_batches"].items()}
    return Trainer(**flags)


@pytest.mark.parametrize("name", CASES)
def test_a_run_makes_the_calls_that_are_written_down_of_it(name: str) -> None:
    case, tokens = CASES[name], list[str]()
    expected, model, trainer = case["expected"], None, None
    status = "ok"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schedulers before their optimizers, a second fit, metrics that never come
        try:
            trainer = trainer_of(case["options"])
            model = Tiny(case, tokens)
            for call in CALLS[case["mode"]]:
                if call == "fit":
                    trainer.fit(model)
                elif call == "test":
                    trainer.test()
                else:
                    trainer.test(model)
        except FsmtrainError:
            status = "refused"
    assert (status, tokens) == (expected["status"], expected["tokens"].split())
    if status == "ok":
        assert model is not None
        assert trainer is not None
        assert (model.w.item(), model.v.item()) == pytest.approx((expected["w"], expected["v"]), abs=1e-9, rel=0)
        if model.calls:
            assert trainer.global_step == expected["global_step"]
            rates = [optimizer.param_groups[0]["lr"] for optimizer in model.sgds]
            assert rates == pytest.approx(expected["lrs"], abs=1e-12, rel=0)


def test_the_cases_are_of_many_kinds() -> None:
    assert len(CASES) >= 100
    assert {case["mode"] for case in CASES.values()} == set(CALLS)
    assert {case["expected"]["status"] for case in CASES.values()} == {"ok", "refused"}
    assert len({case["group"] for case in CASES.values()}) > 70
