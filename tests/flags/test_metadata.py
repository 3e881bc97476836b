"""The metadata of each flag's field."""

from __future__ import annotations

import attrs
import pytest

from fsmtrain.flags.metadata import FlagInfo, HelpGroup, OnResume, flag_info
from fsmtrain.options import Options

FIELDS = attrs.fields(Options)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_flag_has_a_help_group_and_a_resume_rule(field: attrs.Attribute[object]) -> None:
    assert isinstance(info := flag_info(field), FlagInfo)
    assert isinstance(info.group, HelpGroup)
    assert isinstance(info.on_resume, OnResume)


def test_every_help_group_and_every_resume_rule_has_a_flag() -> None:
    assert {flag_info(field).group for field in FIELDS} == set(HelpGroup)
    assert {flag_info(field).on_resume for field in FIELDS} == set(OnResume)
