import pytest

from parity_kit.pytest_plugin import parity, parity_processes


# Also where the installed plugin is of another checkout.
__all__ = ["parity", "parity_processes"]


@pytest.fixture(scope="session")
def processes(parity_processes):
    """Framework processes for all tests, since they take seconds to start."""
    return parity_processes
