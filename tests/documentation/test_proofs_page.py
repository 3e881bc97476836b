"""docs/proofs.md lists each claim, and no other."""

from __future__ import annotations

from pathlib import Path

from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.prove_all import TABLE_CLAIMS
from fsmtrain.prove.smt.lemmas import LEMMAS

PAGE = Path(__file__).parent.parent.parent / "docs" / "proofs.md"


def rows_of_the_page() -> list[tuple[str, str]]:
    """Return the rows of the table of claims: statement, and the decision that must be the built-in one."""
    section = PAGE.read_text(encoding="utf-8").split("\n## What is proved\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")]
    texts = [(statement.strip(), built_in[0].strip() if built_in else "") for statement, *built_in in rows]
    return [(statement, built_in) for statement, built_in in texts if not statement.startswith("**")]


def test_the_page_lists_every_claim_with_its_condition() -> None:
    claims = [(claim.statement, claim.built_in or "") for claim in ALL_CLAIMS]
    expected = [*((statement, "") for statement in TABLE_CLAIMS), *claims, *((lemma.statement, "") for lemma in LEMMAS)]
    assert sorted(rows_of_the_page()) == sorted([("claim", "built-in"), *expected])
