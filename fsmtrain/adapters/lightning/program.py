"""`LightningProgram`: a Lightning module as a model of the machine, which calls all its hooks in Lightning's order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from attrs import define
from torch import Tensor, nn

from fsmtrain.adapters.lightning.packages import part_of
from fsmtrain.adapters.lightning.program_state import load_program_state, program_state
from fsmtrain.adapters.lightning.train_work import LightningWork, PlainWork, is_plain
from fsmtrain.core.states import State
from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.metric_objects import MetricObjects
from fsmtrain.runtime.run_state import RunComponents


@define
class BatchState:
    """The current train batch. It is no attribute of the module, in which each assignment takes microseconds.

    Attributes:
        batch: The batch, on its device; None between two batches.
        output: What ``on_train_batch_end`` gets as ``outputs``.
        is_unfinished: Whether what follows a validation after the batch is still to be done.
    """

    batch: Any = None
    output: Any = None
    is_unfinished: bool = False


class LightningProgram(nn.Module):
    """A plain ``nn.Module`` around a Lightning module, which stays as it is.

    Its parameters and its ``state_dict`` have the names that they have in the module.

    Args:
        module: The Lightning module.
        lightning_trainer: What it and the callbacks see as their trainer.

    Attributes:
        trainer: The machine, while it is built and run.
        now: The current train batch.
    """

    trainer: Any = None

    def __init__(self, module: Any, lightning_trainer: Any) -> None:
        super().__init__()
        self.module = module
        self.lightning_trainer = lightning_trainer
        self.call = part_of(lightning_trainer.package, "trainer.call")
        self.automatic_optimization = bool(module.automatic_optimization)
        self.keeps_lightning_remainder = lightning_trainer.remainder == "lightning"
        self.now = BatchState()
        self._owners: dict[str, tuple[bool, bool]] = {}  # of each hook: whether a callback and the module have it
        self._has_failed = False
        self._loaded: dict[str, Any] | None = None  # of the checkpoint from which the run is resumed
        self._fit_loop = lightning_trainer.fit_loop
        self._connector = lightning_trainer._logger_connector

    # ---- the module's names and weights

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return the module's own."""
        return self.module.state_dict(*args, **options)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """Load it into the module."""
        return self.module.load_state_dict(*args, **options)

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Yield the module's own."""
        yield from self.module.named_parameters(*args, **options)

    def named_buffers(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Yield the module's own."""
        yield from self.module.named_buffers(*args, **options)

    @property
    def device(self) -> torch.device:
        """The device of the run."""
        device: torch.device = self.lightning_trainer.strategy.root_device
        return device

    # ---- calls

    def _callbacks(self, hook: str, *args: Any, **options: Any) -> None:
        if self.has_hook(hook)[0]:
            self.call._call_callback_hooks(self.lightning_trainer, hook, *args, **options)

    def _module(self, hook: str, *args: Any) -> Any:
        if self.has_hook(hook)[1]:
            return self.call._call_lightning_module_hook(self.lightning_trainer, hook, *args)
        return None

    def _both(self, hook: str, *args: Any) -> None:
        """Call a hook of the callbacks, then that of the module."""
        self._callbacks(hook, *args)
        self._module(hook, *args)

    def has_hook(self, hook: str) -> tuple[bool, bool]:
        """Return whether a callback has a hook, and whether the module has it. One that nobody has costs nothing."""
        found = self._owners.get(hook)
        if found is None:
            package = self.lightning_part("")
            found = self._owners[hook] = (
                any(_has_own(callback, hook, package.Callback) for callback in self.lightning_trainer.callbacks),
                _has_own(self.module, hook, package.LightningModule) or hook in _ACTIVE_DEFAULTS,
            )
        return found

    def lightning_part(self, module: str) -> Any:
        """Return a module of the Lightning package whose class the module is of."""
        return part_of(self.lightning_trainer.package, module)

    # ---- the machine's hooks

    def make_train_work(self, components: RunComponents) -> LightningWork | PlainWork:
        """Return what does the work of a train batch on tensors: without hooks, if there are none."""
        return PlainWork(self) if is_plain(self, components) else LightningWork(self, components)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Stand for the module's, which `LightningWork` calls."""
        raise NotImplementedError

    def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
        """Return the batch as it is: it is moved where the index of its loader is known."""
        return batch

    def configure_optimizers(self) -> Any:
        """Set up the strategy, which calls the module's, and return its optimizers."""
        trainer = self.lightning_trainer
        trainer.strategy.setup(trainer)
        return list(trainer.strategy.optimizers)

    def on_fit_start(self) -> None:
        """Begin a fit."""
        self._both("on_fit_start")
        self.lightning_trainer.log_hyperparameters()
        if self._loaded is None:
            self.module.zero_grad()

    def on_train_start(self) -> None:
        """Begin training. In a run that is resumed, what the hooks of a beginning change is set back to what was saved."""
        gathered = MetricObjects(self)
        saved = None if self._loaded is None else gathered.state_dict()
        self._both("on_train_start")
        if self._loaded is not None:
            assert saved is not None
            gathered.load_state_dict(saved)
            self._load_state(self._loaded, calls_hooks=False)
            self._loaded = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what the program remembers into a checkpoint of the machine."""
        checkpoint |= program_state(self.lightning_trainer, self.module)
        checkpoint["batch_is_unfinished"] = self.now.is_unfinished

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        self._loaded = checkpoint
        self._load_state(checkpoint, calls_hooks=True)

    def _load_state(self, state: dict[str, Any], *, calls_hooks: bool) -> None:
        load_program_state(self.lightning_trainer, self.module, state, calls_hooks=calls_hooks)
        self.now.is_unfinished = state["batch_is_unfinished"]

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        loop = self._fit_loop
        loop.epoch_progress.increment_ready()
        self._both("on_train_epoch_start")
        loop.epoch_progress.increment_started()
        loop.epoch_loop.reset()

    def _moved(self, batch: Any, dataloader_i: int) -> Any:
        if self._needs_no_transfer and _is_of_tensors(batch):
            return batch
        trainer = self.lightning_trainer
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self.module._on_before_batch_transfer(batch, dataloader_idx=dataloader_i)
        return self.call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=dataloader_i)

    @cached_property
    def _needs_no_transfer(self) -> bool:
        """Whether the batch is on the device as it is fetched, and no hook changes it."""
        package, trainer = self.lightning_part(""), self.lightning_trainer
        owners = [(self.module, package.LightningModule)]
        if trainer.datamodule is not None:
            owners.append((trainer.datamodule, package.LightningDataModule))
        hooks = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
        is_plain = self.has_plain_precision and self.device.type == "cpu"
        return is_plain and not any(_has_own(owner, hook, base) for owner, base in owners for hook in hooks)

    @cached_property
    def has_plain_precision(self) -> bool:
        """Whether the precision changes neither batches nor steps."""
        precision = self.lightning_part("plugins.precision").Precision
        return type(self.lightning_trainer.precision_plugin) is precision

    def begin_batch(self, batch: Any, batch_nb: int) -> Any:
        """Move a train batch to its device, and call the hooks before ``training_step``; return it."""
        self.finish_batch()
        progress = self._fit_loop.epoch_loop.batch_progress
        limit = self.lightning_trainer.num_training_batches
        progress.is_last_batch = batch_nb + 1 == limit or self.trainer.signals.stream_ended
        batch = self._moved(batch, 0)
        progress.increment_ready()
        self._connector._first_loop_iter = self._connector._first_loop_iter is None
        results = self._fit_loop._results
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        self._callbacks("on_train_batch_start", batch, batch_nb)
        if self._module("on_train_batch_start", batch, batch_nb) == -1:
            raise ModelError(
                f"{type(self.module).__name__}.on_train_batch_start returned -1, which skips the rest of the epoch in "
                f"Lightning. It cannot be had here: set self.trainer.should_stop = True, or use limit_train_batches."
            )
        progress.increment_started()
        self.now.batch = batch
        return batch

    def on_batch_end(self) -> None:
        """End a batch, before a validation."""
        trainer, loop, now = self.lightning_trainer, self._fit_loop.epoch_loop, self.now
        progress = loop.batch_progress
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if loop._num_ready_batches_reached():
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        batch, output = now.batch, now.output
        now.batch = now.output = None
        self._both("on_train_batch_end", output, batch, progress.current.ready - 1)
        results = self._fit_loop._results
        if results:
            self._connector.on_batch_end()
        else:
            results.batch = results.batch_size = None
        progress.increment_completed()
        if results:
            self._record()
            self._connector.update_train_step_metrics()
        now.is_unfinished = True
        if trainer.should_stop:
            trainer.note_stop()

    def _record(self) -> None:
        """Log in the machine what loggers get of now, if it is recorded."""
        if self.trainer.metric_queue is not None:
            self.trainer.log_dict({name: value.detach() for name, value in self._connector.metrics["log"].items()})

    def finish_batch(self) -> None:
        """Do what follows the validation after a batch, or the batch if there was none."""
        if not self.now.is_unfinished:
            return
        self.now.is_unfinished = False
        loop, trainer = self._fit_loop.epoch_loop, self.lightning_trainer
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=True)
        if trainer.accumulate_grad_batches == 1 or not loop._should_accumulate():
            loop._batches_that_stepped += 1
        if trainer.should_stop:
            loop._save_loggers_on_train_batch_end()

    def on_train_epoch_end(self) -> None:
        """End an epoch; not one in which a stop or an error ends the run."""
        if self.trainer.state is not State.EPOCH_END or self._has_failed:
            return
        self.finish_batch()
        loop, connector = self._fit_loop, self._connector
        connector.epoch_end_reached()
        loop.epoch_progress.increment_processed()
        self._callbacks("on_train_epoch_end", monitoring_callbacks=False)
        self._module("on_train_epoch_end")
        self._callbacks("on_train_epoch_end", monitoring_callbacks=True)
        connector.on_epoch_end()
        if loop.epoch_loop._num_ready_batches_reached():
            loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
        self._record()
        loop.epoch_loop._batches_that_stepped -= 1
        connector.update_train_epoch_metrics()
        loop.epoch_loop._batches_that_stepped += 1
        loop.epoch_progress.increment_completed()
        self.lightning_trainer.note_stop()

    @property
    def _is_interrupted(self) -> bool:
        return self._has_failed or self.trainer.state is State.STOPPED

    def on_train_end(self) -> None:
        """End training, unless a stop or an error has ended it."""
        if not self._is_interrupted:
            self._both("on_train_end")

    def on_fit_end(self) -> None:
        """End a fit, unless a stop or an error has ended it."""
        if not self._is_interrupted:
            self.lightning_trainer._teardown()
            self._both("on_fit_end")

    def on_exception(self, error: BaseException) -> None:
        """Report an error to the callbacks."""
        self._has_failed = True
        self.call._interrupt(self.lightning_trainer, error)
        self.lightning_trainer._teardown()

    def on_run_end(self) -> None:
        """Tear down, also after a stop or an error."""
        trainer = self.lightning_trainer
        if self._has_failed:
            trainer.state.stage = None
            return
        if self.trainer.state is State.STOPPED:
            self.call._interrupt(trainer, KeyboardInterrupt())
            trainer._teardown()
            trainer.state.stage = None
            return
        if trainer.state.fn != "fit":
            trainer._teardown()
        self.call._call_teardown_hook(trainer)
        trainer.end_run()

    # ---- validations and tests

    def _begin_pass(self, loop: Any) -> None:
        trainer = self.lightning_trainer
        self._outputs: list[Any] = []
        self._loader_i = 0
        if self.trainer.state is State.SANITY_VAL:
            trainer.sanity_checking = True
            self._connector.reset_results()
            self._connector.reset_metrics()
            self._callbacks("on_sanity_check_start")
        elif self.trainer.state is State.VAL_CHECK:
            trainer.validating = True
            self._first_loop_iter = self._connector._first_loop_iter
            if not self._fit_loop.epoch_loop._should_accumulate():
                self._module("on_validation_model_zero_grad")
        loop._has_run = False
        loop.batch_progress.reset_on_run()
        loop._verify_dataloader_idx_requirement()
        loop._on_evaluation_model_eval()
        loop._on_evaluation_start()
        loop._on_evaluation_epoch_start()

    def _evaluate(self, loop: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        trainer = self.lightning_trainer
        if dataloader_i != self._loader_i:
            self._store_outputs(loop)
            self._loader_i = dataloader_i
        batch = self._moved(batch, dataloader_i)
        index = dataloader_i if loop.num_dataloaders > 1 else None
        arguments = loop._build_kwargs(batch, batch_nb, index)
        stem = "test" if trainer.testing else "validation"
        progress, connector = loop.batch_progress, self._connector
        progress.is_last_batch = self.trainer.counters.eval_nb + 1 == sum(loop.max_batches)
        progress.increment_ready()
        connector.on_batch_start(batch, index)
        self._both(f"on_{stem}_batch_start", *arguments.values())
        progress.increment_started()
        given = loop._build_step_args_from_hook_kwargs(arguments, f"{stem}_step")
        output = self.call._call_strategy_hook(trainer, f"{stem}_step", *given)
        progress.increment_processed()
        self._both(f"on_{stem}_batch_end", output, *arguments.values())
        connector.on_batch_end()
        progress.increment_completed()
        if not trainer.sanity_checking:
            loop._has_run = True
            connector.update_eval_step_metrics(loop._seen_batches_per_dataloader[dataloader_i])
            loop._seen_batches_per_dataloader[dataloader_i] += 1

    def _store_outputs(self, loop: Any) -> None:
        self._connector.epoch_end_reached()
        self._outputs.append(self._connector.update_eval_epoch_metrics())

    def _end_pass(self, loop: Any) -> dict[str, Any]:
        trainer = self.lightning_trainer
        self._store_outputs(loop)
        loop._logged_outputs, self._outputs = self._outputs, []
        logged = loop.on_run_end()
        trainer.evaluation_results = logged
        metrics = {} if trainer.sanity_checking else dict(trainer.callback_metrics)
        if self.trainer.state is State.SANITY_VAL:
            self._callbacks("on_sanity_check_end")
            self._connector.reset_results()
            self._connector.reset_metrics()
            self.lightning_part("loops.utilities")._reset_progress(loop)
            trainer.training = True
        elif self.trainer.state is State.VAL_CHECK:
            trainer.training = True
            self._connector._first_loop_iter = self._first_loop_iter
            trainer.note_stop()
        return metrics

    def on_validation_epoch_start(self) -> None:
        """Begin a validation."""
        self._begin_pass(self.lightning_trainer._evaluation_loop if self._evaluates else self._fit_loop.epoch_loop.val_loop)

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> None:
        """Evaluate a val batch."""
        self._evaluate(self.lightning_trainer._evaluation_loop, batch, batch_nb, dataloader_i)

    def validation_end(self, outputs: Any) -> dict[str, Any]:
        """End a validation; return its metrics."""
        return self._end_pass(self.lightning_trainer._evaluation_loop)

    @property
    def _evaluates(self) -> bool:
        return bool(self.lightning_trainer.state.fn != "fit")

    def on_test_epoch_start(self) -> None:
        """Begin a test."""
        self._begin_pass(self.lightning_trainer._evaluation_loop)

    def test_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> None:
        """Evaluate a test batch."""
        self._evaluate(self.lightning_trainer._evaluation_loop, batch, batch_nb, dataloader_i)

    def test_end(self, outputs: Any) -> dict[str, Any]:
        """End a test; return its metrics."""
        return self._end_pass(self.lightning_trainer._evaluation_loop)

    # ---- predictions

    def on_predict_epoch_start(self) -> None:
        """Begin predictions."""
        loop = self.lightning_trainer.predict_loop
        loop.batch_progress.reset_on_run()
        loop.epoch_batch_indices = [[] for _ in range(loop.num_dataloaders)]
        loop._predictions = [[] for _ in range(loop.num_dataloaders)]
        loop.on_run_start()

    def predict_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> None:
        """Predict on a batch; the loop keeps what the module's returns."""
        self.lightning_trainer.predict_loop._predict_step(batch, batch_nb, dataloader_i, None)

    def on_predict_epoch_end(self) -> None:
        """End predictions."""
        if not self._has_failed and self.trainer.state is State.TEST:
            trainer = self.lightning_trainer
            trainer.evaluation_results = trainer.predict_loop.on_run_end()


# Hooks of a module that do something by default.
_ACTIVE_DEFAULTS = ("on_validation_model_zero_grad",)


def _has_own(owner: Any, hook: str, base: Any) -> bool:
    """Return whether a class or an object has a hook of its own, and not only that of the base class."""
    return hook in vars(owner) or getattr(type(owner), hook, None) is not getattr(base, hook, None)


def _is_of_tensors(batch: Any) -> bool:
    """Return whether a batch is a tensor, or a list or tuple of tensors."""
    return isinstance(batch, Tensor) or (type(batch) in (list, tuple) and all(isinstance(item, Tensor) for item in batch))
