"""Sets both frameworks up before a test module imports either."""

import itertools
import os

from parity_tests.common import process_setup


# No agent relies on shapes that JAX completes; a user may have that forbidden.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# At import, not in a fixture: test modules import JAX while they are collected.
process_setup.prepare()


_tests = itertools.count()


def pytest_runtest_teardown():
    # To look takes milliseconds.
    if next(_tests) % 8 == 0:
        process_setup.drop_compiled_programs()


def pytest_report_header(config):
    facts = process_setup.describe()
    missing = {"cpu", "cuda"} - set(process_setup.devices_present())
    lines = [
        f"parity: torch {facts['packages']['torch']}, jax {facts['packages']['jax']}, "
        f"{facts['torch_threads']} torch threads, matmul precision "
        f"{facts['torch_matmul_precision']}/{facts['jax_matmul_precision']}"
    ]
    lines += [f"parity: device {device}: not run" for device in sorted(missing)]
    return lines


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", process_setup.devices_present())


def pytest_terminal_summary(terminalreporter):
    from parity_kit.rings import ties
    from parity_tests.rings import evidence, rings

    rows = [row for item in evidence.GATHERED.values() for row in rings.decisions(item)]
    if rows:
        count, total, _ = ties(rows)
        terminalreporter.line(f"parity: {count} ties in {total} decisions")
