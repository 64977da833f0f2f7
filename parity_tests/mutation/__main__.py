"""`python -m parity_tests.mutation`."""

import sys

from parity_tests.mutation.run import main


if __name__ == "__main__":
    sys.exit(main())
