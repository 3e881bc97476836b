"""Sections of the report, one module each. They read a `RunRecord` and return `Markup`, or None if there is nothing to show."""
