"""What a Lightning program remembers beside weights, optimizers and counters, as plain data for a checkpoint of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fsmtrain.adapters.lightning.packages import part_of
from fsmtrain.runtime.nested_tensors import map_nested

State = dict[str, Any]

_METADATA = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx", "dataloader_idx")


def _progresses(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the counts of Lightning's loops, which are kept as its own loops would."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    yield "epochs", fit.epoch_progress
    yield "batches", epoch.batch_progress
    yield "schedulers", epoch.scheduler_progress
    yield "steps", epoch.automatic_optimization.optim_progress
    yield "manual_steps", epoch.manual_optimization.optim_step_progress
    yield "val_batches", epoch.val_loop.batch_progress


def _results(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield what ``self.log`` has logged so far, by loop."""
    yield "train", trainer.fit_loop._results
    yield "val", trainer.fit_loop.epoch_loop.val_loop._results


def program_state(trainer: Any, module: Any) -> State:
    """Return all that callbacks, loops and the trainer remember, and what the hooks of module and callbacks write.

    Args:
        trainer: Lightning's trainer.
        module: The module.
    """
    call = part_of(trainer.package, "trainer.call")
    connector, epoch_loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    written: State = {}
    call._call_callbacks_on_save_checkpoint(trainer, written)
    call._call_lightning_module_hook(trainer, "on_save_checkpoint", written)
    data = trainer.datamodule
    return {
        "progress": {name: progress.state_dict() for name, progress in _progresses(trainer)},
        "batches_that_stepped": epoch_loop._batches_that_stepped,
        "seen_val_batches": [list(pair) for pair in epoch_loop.val_loop._seen_batches_per_dataloader.items()],
        "callbacks": call._call_callbacks_state_dict(trainer),
        "last_saved": {c.state_key: c._last_global_step_saved for c in trainer.checkpoint_callbacks if _saves(c)},
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "should_stop": trainer.should_stop,
        "results": {name: _dump(results) for name, results in _results(trainer)},
        "first_loop_iter": connector._first_loop_iter,
        "current_fx": connector._current_fx,
        "metrics": _copied([connector._progress_bar_metrics, connector._logged_metrics, connector._callback_metrics]),
        "written": written,
        "data_module": None if data is None else call._call_lightning_datamodule_hook(trainer, "state_dict"),
    }


def _saves(callback: Any) -> bool:
    return hasattr(callback, "_last_global_step_saved")


def load_program_state(trainer: Any, module: Any, state: State, *, calls_hooks: bool) -> None:
    """Restore what `program_state` returned.

    Args:
        trainer: Lightning's trainer.
        module: The module.
        state: The state.
        calls_hooks: Whether to call ``on_load_checkpoint``.
    """
    call = part_of(trainer.package, "trainer.call")
    connector, epoch_loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    for name, progress in _progresses(trainer):
        progress.load_state_dict(state["progress"][name])
    epoch_loop._batches_that_stepped = state["batches_that_stepped"]
    epoch_loop.val_loop._seen_batches_per_dataloader.clear()
    epoch_loop.val_loop._seen_batches_per_dataloader.update((i, n) for i, n in state["seen_val_batches"])
    loaded = {"callbacks": state["callbacks"], "pytorch-lightning_version": part_of(trainer.package).__version__}
    call._call_callbacks_load_state_dict(trainer, loaded)
    for callback in trainer.checkpoint_callbacks:
        if callback.state_key in state["last_saved"]:
            callback._last_global_step_saved = state["last_saved"][callback.state_key]
    for config, saved in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
        config.scheduler.load_state_dict(saved)
    trainer.should_stop = state["should_stop"]
    for name, results in _results(trainer):
        _load(results, state["results"][name], trainer, module)
    connector._first_loop_iter, connector._current_fx = state["first_loop_iter"], state["current_fx"]
    metrics = _copied(state["metrics"])
    connector._progress_bar_metrics, connector._logged_metrics, connector._callback_metrics = metrics
    if calls_hooks:
        call._call_callbacks_on_load_checkpoint(trainer, {**loaded, **state["written"]})
        call._call_lightning_module_hook(trainer, "on_load_checkpoint", state["written"])
        if trainer.datamodule is not None and state["data_module"]:
            call._call_lightning_datamodule_hook(trainer, "load_state_dict", state["data_module"])


def _copied(values: Any) -> Any:
    return map_nested(lambda tensor: tensor.detach().clone(), values, lambda value: hasattr(value, "detach"))


def _dump(results: Any) -> list[State]:
    """Return what each logged name has gathered."""
    return [
        {
            "key": key,
            **{name: getattr(metric.meta, name) for name in _METADATA},
            "reduce_fx": metric.meta.reduce_fx.__name__,
            "metric_attribute": metric.meta.metric_attribute,
            "rank_zero_only": metric.meta.sync.rank_zero_only,
            "is_tensor": metric.is_tensor,
            "has_reset": metric.has_reset,
            "value": metric.value.detach().clone() if metric.is_tensor else None,
            "batch_sizes": _copied(getattr(metric, "cumulated_batch_size", None)),
            "of_batch": _copied(metric._forward_cache),
            "update_count": metric._update_count,
        }
        for key, metric in results.items()
    ]


def _load(results: Any, dumped: list[State], trainer: Any, module: Any) -> None:
    part = part_of(trainer.package, "trainer.connectors.logger_connector.result")
    results.clear()
    for saved in dumped:
        meta = part._Metadata(
            **{name: saved[name] for name in _METADATA},
            reduce_fx=saved["reduce_fx"],
            metric_attribute=saved["metric_attribute"],
        )
        meta.sync = part._Sync(fn=trainer.strategy.reduce, _should=False, _group=None, rank_zero_only=saved["rank_zero_only"])
        metric = part._ResultMetric(meta, saved["is_tensor"])
        device = trainer.strategy.root_device
        if saved["is_tensor"]:
            metric.value = _copied(saved["value"]).to(device)
        else:
            metric.value = module.get_submodule(saved["metric_attribute"])
        if saved["batch_sizes"] is not None:
            metric.cumulated_batch_size = _copied(saved["batch_sizes"]).to(device)
        metric._forward_cache, metric._update_count = _copied(saved["of_batch"]), saved["update_count"]
        metric.has_reset = saved["has_reset"]
        results[saved["key"]] = metric.to(device)
