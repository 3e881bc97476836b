"""Give early stopping a value of its metric: of a validation when it ends, or of training at the end of an epoch."""

from __future__ import annotations

import logging

from fsmtrain.runtime.run_state import RunState

log = logging.getLogger("fsmtrain")


def feed_early_stopping(run: RunState, value: float | None) -> None:
    """Add a value, and write the signal that guards read. None, if there is no value or early stopping is off: do nothing."""
    patience = run.early_stopping
    if patience is None or value is None:
        return
    run.signals.patience_exhausted = patience.feed(value)
    if patience.rule.verbose and patience.exhausted:
        log.warning("early stopping: %s was best at %g, %d values ago.", patience.rule.monitor, patience.best, patience.wait)
