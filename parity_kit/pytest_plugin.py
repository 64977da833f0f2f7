"""The pytest plugin: `def test_port(parity): parity(pair)`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def parity_processes() -> Iterator[Any]:
    """The framework processes, shared by all tests of a session."""
    from parity_kit.processes import Processes

    with Processes() as processes:
        yield processes


@pytest.fixture
def parity(
    parity_processes: Any, record_property: Callable[[str, object], None]
) -> Callable[..., Any]:
    """Prove a pair; fails unless it passes. Options are those of `parity_kit.prove`.

    The verdict, the first divergence and the share of faults that was seen are
    properties of the test in JUnit's XML.
    """

    def check(
        pair: Any, seeds: Any = 5, devices: Any = ("cpu",), **options: Any
    ) -> Any:
        from parity_kit import prove

        given = {"processes": parity_processes, **options}
        certificate = prove(pair, seeds, devices, **given)
        record_property("parity_verdict", certificate.verdict)
        record_property("parity_first_divergence", certificate.first_divergence or "")
        if certificate.faults:
            share = f"{certificate.faults['seen']} of {certificate.faults['planted']}"
            record_property("parity_faults_seen", share)
        if certificate.verdict != "passed":
            pytest.fail(certificate.summary(), pytrace=False)
        return certificate

    return check
