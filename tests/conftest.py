"""Settings of every test here."""

import pytest
from hypothesis import HealthCheck, settings


# A busy machine is no failure, and the same examples are drawn on each run.
settings.register_profile(
    "trpo",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("trpo")


@pytest.fixture(scope="module")
def quick_chunks():
    """Compiled training that takes half the time to compile, and runs slower."""
    # Not at the top: most tests need neither JAX nor this.
    import jax

    from trpo_jax import compiled_run
    from trpo_jax.compiled_training import run_chunk

    quick = jax.jit(
        run_chunk.__wrapped__,
        static_argnums=0,
        compiler_options={"xla_backend_optimization_level": 0},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_run, "run_chunk", quick)
        yield quick
