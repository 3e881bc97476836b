"""`Callback`: the hooks there are, each with its moment and its arguments."""

from __future__ import annotations

from typing import Any

from fsmtrain.runtime.model_inspection.uncalled_hooks import STAGE_HOOKS


class Callback:
    """The hooks of a callback. Every method is optional, and any object with some of them is a callback.

    Each gets the machine, from which everything else can be read: ``machine.state``, ``machine.counters``,
    ``machine.model``, ``machine.metrics``; ``machine.stop()`` asks it to stop. A model may have the same hooks, without the
    argument ``machine``. The model's hooks are called first, then those of the callbacks in their order. Arguments are passed
    by position, and what a hook returns is not looked at.

    Hooks of a run, of fit, of training, of an epoch, of a validation, test or prediction come in pairs: after
    ``..._start`` there is one ``..._end``, also if the run is stopped or fails in between, and also if the ``..._end`` of
    another callback fails.
    Those of batches, backwards and steps are moments: after an error the later ones are not called.

    ``self.log`` and ``machine.log`` may be called in every hook. In those of a batch or epoch of a validation or test, what is
    logged is a metric of that pass.

    The hooks are listed in the order in which a run meets them. A callback with ``state_dict`` and ``load_state_dict`` is
    part of checkpoints.
    """

    # ---- the run

    def setup(self, machine: Any, stage: str) -> None:
        """Before the run asks for loaders and optimizers: `stage` is ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

        A run that fits and then tests has both stages. It is this hook only if its parameter is called ``stage``.
        """

    def on_run_start(self, machine: Any) -> None:
        """Before the first state."""

    def on_fit_start(self, machine: Any) -> None:
        """Before the first state of a run that fits: before the sanity pass. Called again where a run is resumed."""

    def on_train_start(self, machine: Any) -> None:
        """After the sanity pass, before the first epoch. Called again where a run is resumed."""

    # ---- a train batch

    def on_epoch_start(self, machine: Any) -> None:
        """Before the epoch's first batch is fetched."""

    def on_train_epoch_start(self, machine: Any) -> None:
        """Right after ``on_epoch_start``: the name in Lightning."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        """After a train batch has been fetched and moved to the device."""

    def on_train_batch_start(self, machine: Any, batch: Any, batch_nb: int) -> None:
        """Right after ``on_batch_start``: the name in Lightning, with the batch's index in its epoch."""

    def on_before_backward(self, machine: Any, loss: Any) -> None:
        """Before each backward, with the loss that ``training_step`` returned."""

    def on_after_backward(self, machine: Any) -> None:
        """After each backward: ``.grad`` has the sum of the open window so far."""

    def on_before_optimizer_step(self, machine: Any, optimizer: Any) -> None:
        """Before each optimizer step: ``.grad`` has the window's mean, unscaled with fp16, and is not clipped yet."""

    def on_before_zero_grad(self, machine: Any, optimizer: Any) -> None:
        """Before the gradients are zeroed, also by an override of ``optimizer_step``. The step has been made."""

    def on_after_optimizer_step(self, machine: Any, optimizer: Any) -> None:
        """After an optimizer has stepped, before the schedulers that follow its steps; not if the step was skipped."""

    def on_batch_end(self, machine: Any) -> None:
        """After the train batch's last step or accumulation, before a validation."""

    def on_train_batch_end(self, machine: Any, outputs: Any, batch: Any, batch_nb: int) -> None:
        """Right after ``on_batch_end``: the name in Lightning.

        `outputs` is what ``training_step`` returned, detached; with several optimizers a list with one for each, and with
        truncated BPTT of the batch's last split.
        """

    # ---- a validation

    def on_validation_start(self, machine: Any) -> None:
        """Before a validation's first batch, before eval mode. The sanity pass is not a validation."""

    def on_validation_epoch_start(self, machine: Any) -> None:
        """Before the pass's first batch, in eval mode and under ``no_grad``; in the sanity pass, too."""

    def on_validation_batch_start(self, machine: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """Before ``validation_step``; in the sanity pass, too. `dataloader_i` may be left out."""

    def on_validation_batch_end(self, machine: Any, outputs: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """After ``validation_step``, with what it returned; in the sanity pass, too. `dataloader_i` may be left out."""

    def on_validation_epoch_end(self, machine: Any) -> None:
        """After the pass's last batch; in the sanity pass, too. What is logged here is a metric of the validation."""

    def on_validation_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        """After a validation, with its metrics; tensors may still be on their device. `metrics` may be left out.

        If a stop request or an error ends the run within the validation, there are no metrics: each that is looked up is NaN.
        The resumed run then begins this validation again, with another ``on_validation_start``.
        """

    def on_train_epoch_end(self, machine: Any) -> None:
        """Right before ``on_epoch_end``: the name in Lightning."""

    def on_epoch_end(self, machine: Any) -> None:
        """After the epoch's last batch and validation, before the schedulers; also if a stop ends the epoch early.

        If a stop request or an error ends the run within the epoch, ``machine.state`` is not `epoch_end`. A run that is resumed
        within an epoch continues it, without another ``on_epoch_start``.
        """

    # ---- checkpoints

    def on_save_checkpoint(self, machine: Any, checkpoint: dict[str, Any]) -> None:
        """When a checkpoint is made: what this hook writes into `checkpoint`, plain data and tensors, is saved.

        The dict is empty, and each callback and the model has its own. The hook is called before a validation or test, too, if
        a run that is stopped within it would begin it again.
        """

    def on_load_checkpoint(self, machine: Any, checkpoint: dict[str, Any]) -> None:
        """When a run is resumed, before weights and counters are loaded, with what ``on_save_checkpoint`` has written."""

    def evaluated_weights(self) -> dict[str, Any] | None:
        """Return the ``state_dict`` with which the model is validated, if it is not its own: an average, say.

        A checkpoint has it beside the model's. ``ckpt_path``, ``load_from_checkpoint`` and ``--weights`` take it from there; a
        run that is resumed does not.
        """
        return None

    # ---- the end

    def on_train_end(self, machine: Any) -> None:
        """After the last epoch, before a test."""

    def on_fit_end(self, machine: Any) -> None:
        """Right after ``on_train_end``; also if nothing was trained."""

    def on_test_start(self, machine: Any) -> None:
        """Before a test's first batch, before eval mode."""

    def on_test_epoch_start(self, machine: Any) -> None:
        """Before the test's first batch, in eval mode and under ``no_grad``."""

    def on_test_batch_start(self, machine: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """Before ``test_step``. `dataloader_i` may be left out."""

    def on_test_batch_end(self, machine: Any, outputs: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """After ``test_step``, with what it returned. `dataloader_i` may be left out."""

    def on_test_epoch_end(self, machine: Any) -> None:
        """After the test's last batch. What is logged here is a metric of the test."""

    def on_test_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        """After a test, with its metrics. `metrics` may be left out."""

    def on_predict_start(self, machine: Any) -> None:
        """Before the first batch of a run that predicts, before eval mode."""

    def on_predict_epoch_start(self, machine: Any) -> None:
        """Before the first batch to predict on, in eval mode and under ``no_grad``."""

    def on_predict_batch_start(self, machine: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """Before ``predict_step``. `dataloader_i` may be left out."""

    def on_predict_batch_end(self, machine: Any, outputs: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """After ``predict_step``, with what it returned, still on its device. `dataloader_i` may be left out."""

    def on_predict_epoch_end(self, machine: Any) -> None:
        """After the last batch to predict on."""

    def on_predict_end(self, machine: Any) -> None:
        """After the last batch, when all outputs have arrived in ``machine.predictions``.

        If a stop request or an error ends the run, there are those of the batches before it.
        """

    def on_exception(self, machine: Any, exception: BaseException) -> None:
        """After an error, before hooks that are open are ended. A stop request is no error, whether by a signal or not."""

    def on_run_end(self, machine: Any) -> None:
        """After the final state, also after a stop request and after an error."""

    def teardown(self, machine: Any, stage: str) -> None:
        """Last of all, for each stage that was set up; also if the run could not be built."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        """After every transition. It slows each of them down."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_") or name in STAGE_HOOKS)
