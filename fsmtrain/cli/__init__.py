"""The command line, ``fsmtrain`` or ``python -m fsmtrain``. No other part of the package imports it."""
