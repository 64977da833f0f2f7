"""Settings of every test here."""

import itertools
import os
import signal

from hypothesis import HealthCheck, settings

from parity_tests.common.process_setup import QUICK_FLAGS, drop_compiled_programs
from trpo.common.signals import ASKING


# Compiling takes nearly all of the time here: a third of it, to slower programs. The
# parity suite compiles as users do. XLA reads this when JAX starts, in children too.
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
# Ray ends its processes where others take the machine's memory, or its time.
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "600")
# Under nohup, or in a shell's background, some are ignored, and a run leaves them so.
for _number in ASKING:
    if signal.getsignal(_number) is signal.SIG_IGN:
        _usual = (
            signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )
        signal.signal(_number, _usual)
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
