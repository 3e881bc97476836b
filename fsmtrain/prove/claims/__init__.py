"""All claims about a run, as plain predicates, in the order in which they are proved: a proof may use each claim before it."""

from __future__ import annotations

from fsmtrain.prove.claims.accumulation import ACCUMULATION
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.claims.epochs import EPOCHS
from fsmtrain.prove.claims.folding_facts import FIRST_FACTS, LAST_FACTS
from fsmtrain.prove.claims.run_end import RUN_END, WAITING_BEGINS, WAITING_ENDS
from fsmtrain.prove.claims.validation import VALIDATION

ALL_CLAIMS: tuple[Claim, ...] = (
    *FIRST_FACTS, *WAITING_BEGINS, *EPOCHS, *WAITING_ENDS, *ACCUMULATION, *VALIDATION, *RUN_END, *LAST_FACTS,
)  # fmt: skip
