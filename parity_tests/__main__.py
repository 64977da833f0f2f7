"""`python -m parity_tests [--quick | --full] [--devices cpu cuda] [--out DIR]`.

`--publish` writes the certificate of this repository, of a commit without changes.
"""

import argparse
import sys

from parity_tests.certificate import run as certificate


def main(arguments: list[str] | None = None) -> int:
    """Run the suite, write the certificate; exit status 1 when a ring fails."""
    parser = argparse.ArgumentParser(
        prog="python -m parity_tests", description=certificate.__doc__
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--quick", dest="mode", action="store_const", const="quick", default="quick",
        help="few cases, the default",
    )  # fmt: skip
    group.add_argument(
        "--full", dest="mode", action="store_const", const="full", help="every case"
    )
    parser.add_argument(
        "--devices", nargs="+", default=["cpu"], choices=certificate.DEVICES
    )
    parser.add_argument(
        "--out", default="runs/parity", help="folder of the certificate"
    )
    parser.add_argument(
        "--publish", action="store_true", help="write this repository's own certificate"
    )
    options = parser.parse_args(arguments)
    try:
        out = certificate.folder_to_publish() if options.publish else options.out
    except ValueError as error:
        parser.error(str(error))
    return certificate.run(options.devices, options.mode, out)


if __name__ == "__main__":
    sys.exit(main())
