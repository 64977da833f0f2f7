"""`python -m parity_kit my_module:pair`: prove a pair, or several."""

import sys

from parity_kit.command import main


if __name__ == "__main__":
    sys.exit(main())
