"""Lightning programs as people write them, small: modules, data modules and callbacks."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
import torchmetrics
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def data(samples: int = 22, batch_size: int = 4, *, shuffle: bool = False, seed: int = 3) -> DataLoader[Any]:
    """Return a loader of a small regression; by default its last batch is smaller."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch_size, shuffle=shuffle)


class Plain(L.LightningModule):
    """A regression with dropout, that logs what most programs log."""

    def __init__(self, lr: float = 0.05, momentum: float = 0.9) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", mse_loss(self(x), y), prog_bar=True)

    test_step: Any

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=self.hparams["momentum"])


def plain(**loaders: Any) -> Any:
    """Return a program of `Plain` with a train and a val loader."""
    return Plain(), {"train_dataloaders": data(shuffle=True), "val_dataloaders": data(9, 4, seed=5)} | loaders


class Without(Plain):
    """`training_step` without ``batch_idx``, a dict as its output, and AdamW."""

    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        x, y = batch
        loss = mse_loss(self(x), y)
        self.log_dict({"a": loss, "b": loss.detach() * 2}, logger=True, prog_bar=True)
        return {"loss": loss, "extra": loss.detach()}

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Classifier(L.LightningModule):
    """Metric objects in training, validation and test, and a scheduler in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.train_accuracy = torchmetrics.Accuracy("binary")
        self.val_accuracy = torchmetrics.Accuracy("binary")
        self.best = torchmetrics.MaxMetric()
        self.scores = torchmetrics.MetricCollection(
            [torchmetrics.Precision("binary"), torchmetrics.Recall("binary")], prefix="t_"
        )

    def _step(self, batch: Any) -> Any:
        x, y = batch
        target = (y[:, 0] > 0).long()
        logits = self.layer(x)
        return cross_entropy(logits, target), logits.argmax(1), target

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss, predicted, target = self._step(batch)
        self.train_accuracy(predicted, target)
        self.log("train/acc", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, predicted, target = self._step(batch)
        self.val_accuracy(predicted, target)
        self.log("val/acc", self.val_accuracy, on_step=True, on_epoch=True)
        self.log("val/loss", loss, on_step=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.best(self.val_accuracy.compute())
        self.log("val/best", self.best.compute(), sync_dist=True)

    def on_train_start(self) -> None:
        self.best.reset()
        self.val_accuracy.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        loss, predicted, target = self._step(batch)
        self.scores.update(predicted, target)
        self.log_dict(self.scores, on_epoch=True)
        self.log("test/loss", loss)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).argmax(1)

    def configure_optimizers(self) -> Any:
        adam = torch.optim.Adam(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, patience=0, factor=0.5)
        return {
            "optimizer": adam,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss", "interval": "epoch", "frequency": 1},
        }


class Data(L.LightningDataModule):
    """A data module with all its hooks."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.seen: list[str] = []

    def prepare_data(self) -> None:
        self.seen.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.seen.append(f"setup {stage}")
        self.noise = torch.randn(1)

    def teardown(self, stage: str) -> None:
        self.seen.append(f"teardown {stage}")

    def train_dataloader(self) -> Any:
        return data(20, self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> Any:
        return [data(8, 4, seed=4), data(6, 4, seed=6)]

    def test_dataloader(self) -> Any:
        return data(7, 3, seed=8)

    def predict_dataloader(self) -> Any:
        return data(5, 2, seed=9)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + self.noise, batch[1]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * (1 + dataloader_idx), batch[1]]


class OfTwoLoaders(Plain):
    """Validations over several loaders."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        loss = mse_loss(self(x), y)
        self.log("val_loss", loss)
        self.log("val_sum", loss, add_dataloader_idx=True, reduce_fx="sum")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_loss", mse_loss(self(x), y))


class Hooks(Plain):
    """Overrides of all hooks around a batch, each of which notes what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _note(self, name: str, *values: Any) -> None:
        grads = [None if p.grad is None else float(p.grad.sum()) for p in self.parameters()]
        rate = self.optimizers().param_groups[0]["lr"] if self.trainer.optimizers else None
        self.seen.append((name, self.global_step, self.current_epoch, self.training, grads, rate, *values))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._note("batch_start", batch_idx)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self._note("before_zero_grad")

    def on_before_backward(self, loss: Any) -> None:
        self._note("before_backward", float(loss))

    def on_after_backward(self) -> None:
        self._note("after_backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._note("before_step")
        norms = L.utilities.grad_norm(self, norm_type=2)
        self.log_dict(norms)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        self._note("clip", gradient_clip_val)
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="value")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        self._note("optimizer_step", epoch, batch_idx)
        if self.trainer.global_step < 4:
            for group in optimizer.param_groups:
                group["lr"] = (self.trainer.global_step + 1) / 4 * self.hparams["lr"]
        optimizer.step(closure=optimizer_closure)
        self._note("stepped")

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad(set_to_none=False)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self._note("scheduler", metric)
        scheduler.step()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._note("batch_end", float(outputs["loss"]), batch_idx)
        self.log("hook", batch_idx * 1.0, on_step=True, on_epoch=True)

    def on_train_epoch_start(self) -> None:
        self._note("epoch_start")
        self.log("epoch_started", 1.0)

    def on_train_epoch_end(self) -> None:
        self._note("epoch_end", sorted(self.trainer.callback_metrics))
        self.log("epoch_ended", float(self.current_epoch))

    def on_validation_start(self) -> None:
        self._note("val_start")

    def on_validation_epoch_end(self) -> None:
        self._note("val_epoch_end")
        self.log("val_end", 3.0)

    def on_validation_end(self) -> None:
        self._note("val_end", self.trainer.sanity_checking, sorted(self.trainer.callback_metrics))

    def on_fit_start(self) -> None:
        self._note("fit_start")

    def on_fit_end(self) -> None:
        self._note("fit_end")

    def setup(self, stage: str) -> None:
        self._note("setup", str(stage))

    def teardown(self, stage: str) -> None:
        self._note("teardown", str(stage))

    def configure_optimizers(self) -> Any:
        sgd = torch.optim.SGD(self.parameters(), lr=0.05)
        return [sgd], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(sgd, 0.9), "interval": "step", "frequency": 2}]


class Sometimes(Plain):
    """`training_step` returns None in some batches."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx in (1, 4) else loss


class SecondOrder(Plain):
    """LBFGS, which evaluates the loss several times a step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Warmup(Plain):
    """A scheduler over all steps, of whose number it asks the trainer."""

    def configure_optimizers(self) -> Any:
        adam = torch.optim.Adam(self.parameters(), lr=0.01)
        total = int(self.trainer.estimated_stepping_batches)
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=0.1, total_steps=total)
        return [adam], [{"scheduler": one_cycle, "interval": "step", "name": "lr"}]


class Epochs(Plain):
    """Schedulers of epochs, of which one acts in every second."""

    def configure_optimizers(self) -> Any:
        sgd = torch.optim.SGD(self.parameters(), lr=0.1)
        every_second = torch.optim.lr_scheduler.StepLR(sgd, step_size=1, gamma=0.5)
        return [sgd], [torch.optim.lr_scheduler.ExponentialLR(sgd, 0.9), {"scheduler": every_second, "frequency": 2}]


class GAN(L.LightningModule):
    """Manual optimization with two optimizers, toggled, and schedulers stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

    def training_step(self, batch: Any) -> None:
        x, _ = batch
        g, d = self.optimizers()
        z = torch.randn(len(x), 2).type_as(x)
        self.toggle_optimizer(g)
        g_loss = -self.discriminator(self.generator(z)).mean()
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        g.step()
        g.zero_grad()
        self.untoggle_optimizer(g)
        self.toggle_optimizer(d)
        d_loss = (self.discriminator(self.generator(z).detach()) - self.discriminator(x)).mean().abs()
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        self.clip_gradients(d, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        d.step()
        d.zero_grad()
        self.untoggle_optimizer(d)

    def on_train_epoch_end(self) -> None:
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", self.discriminator(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        g = torch.optim.Adam(self.generator.parameters(), lr=0.01, betas=(0.5, 0.999))
        d = torch.optim.Adam(self.discriminator.parameters(), lr=0.01)
        return [g, d], [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (g, d)]


class EverySecond(Plain):
    """Manual optimization that accumulates over two batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        loss = mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        optimizer = self.optimizers()
        self.manual_backward(loss / 2)
        if (batch_idx + 1) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()


class Frozen(Plain):
    """A part that is in eval mode, and parameters that are not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)
        self.net[2].eval()


class Stops(Plain):
    """`should_stop`, set in a batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 2:
            self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)


class Stream(IterableDataset[Any]):
    """A data set without a length."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(2)
        for _ in range(self.samples):
            x = torch.randn(3, generator=generator)
            yield x, x.sum(0, keepdim=True)


class Several(Plain):
    """A dict of train loaders, of which each batch has one."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["a"], batch_idx) + super().training_step(batch["b"], batch_idx)


class Backward(Plain):
    """An override of ``backward``."""

    def backward(self, loss: Any, *args: Any, **options: Any) -> None:
        (2 * loss).backward(*args, **options)


class Hidden(Plain):
    """`self.log` in all forms."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = mse_loss(self(x), y)
        self.log("max", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("min", loss, on_step=True, on_epoch=True, reduce_fx=torch.min)
        self.log("sum", len(x) * 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("weighted", loss, on_epoch=True, on_step=False, batch_size=batch_idx + 1)
        self.log("unlogged", loss, logger=False, on_step=True)
        self.log("bar", loss, prog_bar=True, logger=False, on_epoch=True)
        if batch_idx == 3:
            self.log("once", loss)
        self.logger.log_metrics({"direct": float(loss)}, step=self.global_step)
        return loss
