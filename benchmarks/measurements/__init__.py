"""Costs that are not measured in turns: the dispatcher, startup, growth, checkpoints, build, plan and check."""
