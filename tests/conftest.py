"""Settings of every test here."""

import os

from hypothesis import HealthCheck, settings


# Compiling takes nearly all of the time here: a third of it, to slower programs. The
# parity suite compiles as users do. XLA reads this when JAX starts, in children too.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)
# A busy machine is no failure, and the same examples are drawn on each run.
settings.register_profile(
    "trpo",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("trpo")
