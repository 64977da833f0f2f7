"""Settings of every test here."""

import itertools
import os

from hypothesis import HealthCheck, settings

from parity_tests.environment import QUICK_FLAGS, drop_compiled_programs


# Compiling takes nearly all of the time here: a third of it, to slower programs. The
# parity suite compiles as users do. XLA reads this when JAX starts, in children too.
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
# A busy machine is no failure, and the same examples are drawn on each run.
settings.register_profile(
    "trpo",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("trpo")

_tests = itertools.count()


def pytest_runtest_teardown():
    # To look takes milliseconds.
    if next(_tests) % 16 == 0:
        drop_compiled_programs()
