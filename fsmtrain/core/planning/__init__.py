"""The schedule of a run before it begins: the same table run with no actions."""
