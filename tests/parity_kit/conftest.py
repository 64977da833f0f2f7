import pytest

from parity_kit.processes import Processes


@pytest.fixture(scope="session")
def processes():
    """Framework processes for all tests, since they take seconds to start."""
    with Processes() as shared:
        yield shared
