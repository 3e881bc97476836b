"""The page about the proofs lists each claim, and no other."""

from __future__ import annotations

from pathlib import Path

from fsmtrain.prove.prove_all import ALL_CLAIMS, TABLE_CLAIMS
from fsmtrain.prove.smt.lemmas import LEMMAS

PAGE = Path(__file__).parent.parent.parent / "docs" / "proofs.md"


def rows_of_the_page() -> list[tuple[str, str]]:
    """The rows of the table of claims: what is claimed, and with which decision built in."""
    section = PAGE.read_text(encoding="utf-8").split("\n## What is proved\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")]
    texts = [(says.strip(), built_in[0].strip() if built_in else "") for says, *built_in in rows]
    return [(says, built_in) for says, built_in in texts if not says.startswith("**")]


def test_the_page_lists_every_claim_with_its_condition() -> None:
    claimed = [(claim.statement, claim.built_in or "") for claim in ALL_CLAIMS]
    expected = [*((says, "") for says in TABLE_CLAIMS), *claimed, *((lemma.statement, "") for lemma in LEMMAS)]
    assert sorted(rows_of_the_page()) == sorted([("claim", "with"), *expected])
