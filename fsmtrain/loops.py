"""`Loop` as users meet it: the torch-free value of `core`, which can also draw itself."""

from __future__ import annotations

from fsmtrain.core.loop import Loop

__all__ = ["Loop"]
