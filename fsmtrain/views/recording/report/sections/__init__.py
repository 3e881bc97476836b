"""Sections of the report: functions from a `RunRecord` to `Markup`, None if there is nothing to show."""
