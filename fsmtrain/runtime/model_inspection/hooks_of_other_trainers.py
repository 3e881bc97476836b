"""The names of hooks in other trainers, each with what to do here instead."""

from __future__ import annotations

# A hook that only has another name here -> that name.
RENAMED = {
    "on_pre_performance_check": "on_validation_start",
    "on_post_performance_check": "on_validation_end",
    "on_tng_start": "on_run_start",
    "on_tng_end": "on_run_end",
    "tng_dataloader": "train_dataloader",
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "validation_end",
    "test_epoch_end": "test_end",
}

_IN_STEP = "do it in {} itself"
_BATCH_TRANSFER = "convert the batch in training_step, or in the dataset"

# A hook that does not exist here -> the way out.
ABSENT = {
    "prepare_data": "do it before the run, or in a data module: fit(model, datamodule=...)",
    "configure_model": "do it in __init__",
    "configure_sharded_model": "do it in __init__",
    "configure_callbacks": "pass them: Trainer(callbacks=[...])",
    "backward": "training_step returns the loss, and the run calls its backward",
    "optimizer_zero_grad": "zero them in an override of optimizer_step, or act in on_before_zero_grad",
    "lr_scheduler_step": "return a scheduler whose step() does this",
    "training_end": _IN_STEP.format("training_step"),
    "training_step_end": _IN_STEP.format("training_step"),
    "validation_step_end": _IN_STEP.format("validation_step"),
    "test_step_end": _IN_STEP.format("test_step"),
    "on_sanity_check_start": "in the sanity pass self.trainer.machine.state is State.SANITY_VAL",
    "on_sanity_check_end": "on_train_start comes right after the sanity pass",
    "on_validation_model_eval": "the run calls eval() for a validation",
    "on_validation_model_train": "the run restores each module's mode after a validation",
    "on_test_model_eval": "the run calls eval() for a test",
    "on_test_model_train": "the run restores each module's mode after a test",
    "on_keyboard_interrupt": "on_run_end is called after an interrupt, too",
    "on_before_batch_transfer": _BATCH_TRANSFER,
    "on_after_batch_transfer": _BATCH_TRANSFER,
    "on_predict_model_eval": "the run calls eval() to predict",
    "on_predict_model_train": "the run restores each module's mode after it has predicted",
}

# Hooks of a callback of fastai, Composer or transformers. A model's methods may have such names for other reasons.
OF_CALLBACKS = {
    "before_fit": "on_run_start",
    "after_fit": "on_run_end",
    "before_epoch": "on_epoch_start",
    "after_epoch": "on_epoch_end",
    "before_batch": "on_batch_start",
    "after_batch": "on_batch_end",
    "before_validate": "on_validation_start",
    "after_validate": "on_validation_end",
    "fit_start": "on_run_start",
    "fit_end": "on_run_end",
    "epoch_start": "on_epoch_start",
    "epoch_end": "on_epoch_end",
    "batch_start": "on_batch_start",
    "batch_end": "on_batch_end",
    "eval_start": "on_validation_start",
    "eval_end": "on_validation_end",
    "on_step_begin": "on_batch_start",
    "on_step_end": "on_batch_end",
    "on_evaluate": "on_validation_end",
}
