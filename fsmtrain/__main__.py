"""Entry point of ``python -m fsmtrain``: the command line."""

import sys

from fsmtrain.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
