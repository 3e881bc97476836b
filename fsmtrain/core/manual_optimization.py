"""What cannot be combined with manual optimization, in which ``training_step`` runs backwards and steps by itself."""

from __future__ import annotations

from collections.abc import Iterator

from fsmtrain.core.custom_guards import Guards
from fsmtrain.errors import OptionsError
from fsmtrain.options import Options

_BECAUSE = "with automatic_optimization=False training_step makes backwards and steps by itself"


def refuse_flags(options: Options, guards: Guards) -> None:
    """Refuse flags and guards about the loop's own backwards and steps.

    Raises:
        OptionsError: There is one.
    """
    for flag, way_out in _refused(options, guards):
        raise OptionsError(f"{flag}: {_BECAUSE}, so this would do nothing. {way_out}")


def _refused(options: Options, guards: Guards) -> Iterator[tuple[str, str]]:
    if options.accumulate_grad_batches != 1:
        yield (
            f"accumulate_grad_batches={options.accumulate_grad_batches!r}",
            "Leave it out, and call optimizer.step() in every n-th batch only.",
        )
    if options.gradient_clip_val:
        yield (
            f"gradient_clip_val={options.gradient_clip_val!r}",
            f"Leave it out, and call self.clip_gradients(optimizer, {options.gradient_clip_val!r}) before optimizer.step().",
        )
    if options.truncated_bptt_steps is not None:
        yield f"truncated_bptt_steps={options.truncated_bptt_steps!r}", "Leave it out, and split the batch in training_step."
    if options.on_nonfinite is not None:
        yield f"on_nonfinite={options.on_nonfinite!r}", "Leave it out, and look at the loss before loss.backward()."
    if options.mixed_precision.uses_scaler:
        yield (
            f"precision={options.precision!r}",
            "Its gradients need a scaler, which only the loop's own steps have. Use precision='bf16'.",
        )
    for optimizer_i in guards.step:
        yield f"Guards(step={{{optimizer_i}: ...}})", "Leave it out, and call optimizer.step() in the batches of your choice."
