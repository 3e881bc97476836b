"""The commands, as functions that return an exit code. `fsmtrain.cli.app` registers them; nothing else imports them."""
