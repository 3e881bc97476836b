"""Predict: take a model through loaders, and keep what ``predict_step`` returns, on the host."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fsmtrain.core.states import State
from fsmtrain.errors import ModelError
from fsmtrain.runtime.evaluation.eval_pass import EvalPass
from fsmtrain.runtime.evaluation.host_copies import HostCopies
from fsmtrain.runtime.run_state import RunComponents, RunState


class PredictPass:
    """The pass of a run that predicts, in the state `test`: there are no metrics.

    Attributes:
        predictions: For each loader the outputs of its batches so far, as far as they have arrived; all of them at the end.
    """

    def __init__(self, components: RunComponents, run: RunState) -> None:
        limits = components.spec.limits.test_loaders
        self.eval_pass = EvalPass(
            State.TEST, "predict", components, run, run.loaders.test, limits, take_output=self._take_output
        )
        self.predictions: list[list[Any]] = [[] for _ in limits]
        self._run, self._keeps = run, components.keeps_predictions
        self._copies: HostCopies[int] = HostCopies()

    def visit(self) -> None:
        """Predict on one batch."""
        if self.eval_pass.visit() is not None:
            self._keep_arrived(wait=True)
            self.eval_pass.end_hooks()

    def release(self) -> None:
        """Keep the outputs of a run that ends early, too; after an error of the device, those that arrive. Idempotent."""
        with suppress(RuntimeError):
            self._keep_arrived(wait=True)

    def _take_output(self, loader_i: int, batch: Any, output: Any) -> None:
        if self._run.pop_logged():
            self._run.warn_once("predict_step: what it logs is not kept, because a prediction has no metrics.")
        if not self._keeps:
            return
        try:
            self._copies.add(loader_i, output)
        except ModelError as error:
            raise ModelError(f"predict_step: {error} Or keep none: predict(..., return_predictions=False).") from error
        self._keep_arrived()

    def _keep_arrived(self, *, wait: bool = False) -> None:
        for loader_i, output in self._copies.pop_arrived(wait=wait):
            self.predictions[loader_i].append(output)
