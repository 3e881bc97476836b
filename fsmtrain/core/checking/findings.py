"""`Finding` and `Report`: what the static check reports, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from attrs import asdict, field, frozen

from fsmtrain.html_table import html_table


class Severity(StrEnum):
    """How bad a finding is: an error stops the run before it begins, a warning is printed."""

    ERROR = "error"
    WARNING = "warning"


@frozen(kw_only=True)
class Finding:
    """One thing that is wrong, or probably not intended.

    Attributes:
        severity: How bad it is.
        about: The flag, guard, state or row that it is about.
        text: What happens, and what to do about it.
        example: The shortest path to it from the beginning of an epoch, one line for each moment; empty if there is none.
    """

    severity: Severity
    about: str
    text: str
    example: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.severity}: {self.about}: {self.text}", *(f"    {line}" for line in self.example)])


def warning(about: str, text: str, example: tuple[str, ...] = ()) -> Finding:
    """Return a finding about something that is probably not intended."""
    return Finding(severity=Severity.WARNING, about=about, text=text, example=example)


def error(about: str, text: str, example: tuple[str, ...] = ()) -> Finding:
    """Return a finding with which no run should begin."""
    return Finding(severity=Severity.ERROR, about=about, text=text, example=example)


def _errors_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


@frozen(kw_only=True)
class Report:
    """The result of a check. `str` gives its text.

    Attributes:
        findings: Errors first.
        nb_moments: The number of moments of a run that were explored.
        not_checked: What was not explored completely, and why.
        unused_rows: The indices of the table rows that no run of this configuration takes.
        notes: What a training loop written by hand has to do in this configuration.
    """

    findings: tuple[Finding, ...] = field(converter=_errors_first)
    nb_moments: int
    not_checked: tuple[str, ...]
    unused_rows: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a run before it begins."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def as_dict(self) -> dict[str, Any]:
        """The report as numbers, strings, lists and dicts; without notes, if there are none."""
        values = asdict(self, value_serializer=lambda _, __, value: str(value) if isinstance(value, Severity) else value)
        return values if self.notes else {name: value for name, value in values.items() if name != "notes"}

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        lines = [*map(str, self.findings)] or ["nothing found"]
        return "\n".join([*lines, *self.notes, *self.not_checked, f"({self.nb_moments:,} moments of the run were explored)"])

    def _repr_html_(self) -> str:
        rows = [
            (str(finding.severity), finding.about, "\n".join([finding.text, *finding.example])) for finding in self.findings
        ]
        others = [("", "", text) for text in (*self.notes, *self.not_checked)]
        explored = ("", "", f"{self.nb_moments:,} moments of the run were explored")
        return html_table([*(rows or [("nothing found", "", "")]), *others, explored], ["", "about", ""])
