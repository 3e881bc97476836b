"""What is claimed of every run: plain predicates, sorted by what they speak of.

They stand in an order: in the proof of one, those above it may be used. All are proved.
"""

from __future__ import annotations

from fsmtrain.prove.claims.accumulation import ACCUMULATION
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.claims.epochs import EPOCHS
from fsmtrain.prove.claims.folding_facts import FACTS
from fsmtrain.prove.claims.run_end import RUN_END
from fsmtrain.prove.claims.validation import VALIDATION

CLAIMS: tuple[Claim, ...] = (*EPOCHS, *ACCUMULATION, *VALIDATION, *RUN_END)

__all__ = ["CLAIMS", "FACTS"]
