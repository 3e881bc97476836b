"""``python -m fsmtrain``."""

import sys

from fsmtrain.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
