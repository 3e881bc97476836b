"""Metadata, validators and values of the flags of `Options`, and their names in other trainers. For `options` and above."""
