"""Decides: states, guards, the table and the run through it. No torch here, and no state-machine library."""
