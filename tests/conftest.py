"""Settings of every test here."""

import itertools
import os

from hypothesis import HealthCheck, settings

from parity_tests.environment import QUICK_FLAGS, drop_compiled_programs


# Compiling takes nearly all of the time here: a third of it, to slower programs. The
# parity suite compiles as users do. XLA reads this when JAX starts, in children too.
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
# Ray ends its processes where others take the machine's memory, or its time.
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "600")
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
