"""The command line, ``fsmtrain`` or ``python -m fsmtrain``: flags, commands, exit codes. Nothing imports it."""
