"""What a check tells: findings, each in plain words with the way out, and the report that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

from attrs import asdict, field, frozen


class Severity(Enum):
    """How bad a finding is: an error stops the run before it begins, a warning is shown."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@frozen(kw_only=True)
class Finding:
    """One thing that is wrong, or probably not meant.

    Attributes:
        severity: How bad it is.
        about: The flag or the guard.
        text: What happens, and the way out.
        example: The shortest way there, from the beginning of an epoch, a line a moment; empty where there is none to tell.
    """

    severity: Severity
    about: str
    text: str
    example: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.severity}: {self.about}: {self.text}", *(f"    {line}" for line in self.example)])


def warning(about: str, text: str, example: tuple[str, ...] = ()) -> Finding:
    """Something that is probably not meant."""
    return Finding(severity=Severity.WARNING, about=about, text=text, example=example)


def error(about: str, text: str, example: tuple[str, ...] = ()) -> Finding:
    """Something with which no run should begin."""
    return Finding(severity=Severity.ERROR, about=about, text=text, example=example)


def _errors_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


@frozen(kw_only=True)
class Report:
    """What a check found. Printed it is a text.

    Attributes:
        findings: Errors first.
        explored: The moments of a run that were looked at.
        bounded: What was not gone through to its end, and why.
        untaken: The rows of the table, by their index, that no run of this configuration takes.
    """

    findings: tuple[Finding, ...] = field(converter=_errors_first)
    nb_moments: int
    not_checked: tuple[str, ...]
    unused_rows: tuple[int, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a run."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def as_dict(self) -> dict[str, Any]:
        """The report as numbers, strings, lists and dicts."""
        plain: dict[str, Any] = asdict(self, value_serializer=lambda _, __, v: v.value if isinstance(v, Enum) else v)
        return plain

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        looked = f"({self.nb_moments:,} moments of the run were looked at)"
        return "\n".join([*(map(str, self.findings) if self.findings else ["nothing found"]), *self.not_checked, looked])
