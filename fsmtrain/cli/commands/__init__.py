"""The commands of the command line: functions that return an exit code. Only `cli.app` imports them."""
