"""The command line, ``fsmtrain`` or ``python -m fsmtrain``: flags, commands, and what they print. Nothing imports it."""
