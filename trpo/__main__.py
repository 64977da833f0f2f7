"""`python -m trpo`."""

import importlib.util
import os
import sys


def _leave_current_directory() -> None:
    """Take the current directory from `sys.path`, where `python -m` puts it first.

    A `gymnasium.py` that lies there would be run in place of the package. Python itself
    has imported what this file imports. A source tree that is not installed stays, for
    the rest of the project to come from the same place, but behind all packages.
    """
    if sys.flags.safe_path:
        return
    del sys.path[0]
    package_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.find_spec("trpo_torch")
    origin = spec.origin if spec is not None else None
    other = origin and os.path.dirname(os.path.dirname(origin))
    if other != package_root:
        behind = sys.path.index(other) if other in sys.path else len(sys.path)
        sys.path.insert(behind, package_root)


def main() -> int:
    """The command `trpo`; returns the exit status."""
    from trpo.common.signals import watched_signals

    # Before all else is imported, which takes a second.
    with watched_signals():
        from trpo.cli.main import main

        return main()


if __name__ == "__main__":
    _leave_current_directory()
    sys.exit(main())
