"""The values of the flag `precision`: autocast dtype and gradient scaler. dtypes are names here."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Precision:
    """A numerical precision of the model's step methods.

    Args:
        name: The value of the flag.
        autocast_dtype: The dtype under which autocast runs the step methods; None: without autocast.
        uses_scaler: Whether a gradient scaler multiplies the loss. It may skip a step.
    """

    name: str
    autocast_dtype: str | None = None
    uses_scaler: bool = False


PRECISIONS: dict[str, Precision] = {
    "32": Precision(name="32"),
    "bf16": Precision(name="bf16", autocast_dtype="bfloat16"),
    "16": Precision(name="16", autocast_dtype="float16", uses_scaler=True),
}
