"""What is claimed of every run: plain predicates, sorted by what they speak of.

They stand in an order: in the proof of one, those above it may be used. All are proved.
"""

from __future__ import annotations

from fsmtrain.prove.claim import Claim
from fsmtrain.prove.claims.endings import ENDING
from fsmtrain.prove.claims.epochs import EPOCHS
from fsmtrain.prove.claims.folding_facts import FACTS
from fsmtrain.prove.claims.validation import CHECKS
from fsmtrain.prove.claims.windows import WINDOWS

CLAIMS: tuple[Claim, ...] = (*EPOCHS, *WINDOWS, *CHECKS, *ENDING)

__all__ = ["CLAIMS", "FACTS"]
