"""The exact schedule of a run before it begins: its table run without actions. docs/planning.md explains how."""
